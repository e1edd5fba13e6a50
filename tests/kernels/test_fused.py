"""The fused kernel is the network in another order: compared with float64 eager on every shape it is made for."""

import copy
import itertools
import logging
import math
import pickle
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from eqpot.errors import NeighborError
from eqpot.graph import collate, edge_vectors
from eqpot.kernels import call, compiler, fibre_bundle, verify
from eqpot.kernels.fibre_bundle import FusedFibreBundle, orbits_of_half_turns
from eqpot.kernels.verify import fused_network, largest_deviation
from eqpot.model_file import load_potential, save_potential
from eqpot.neighbors import build_graph
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre import OrientationGrid
from eqpot.network.orientations import DESIGN_DEGREES, spherical_design
from eqpot.potential import Potential
from helpers import NETWORKS, crystal, ethanol, random_potential

SHAPES = {
    "default": {},
    "one block": {"n_blocks": 1},
    "three blocks": {"n_blocks": 3},
    "four blocks": {"n_blocks": 4},
    "12 points": {"n_orientations": 12, "feature_degree": 1, "kernel_degree": 2},
    "48 points": {"n_orientations": 48, "feature_degree": 3, "kernel_degree": 3},
    "36 points": {"n_orientations": 36, "feature_degree": 2, "kernel_degree": 4},
    "60 points": {"n_orientations": 60, "feature_degree": 3, "kernel_degree": 4},
    "84 points": {"n_orientations": 84, "feature_degree": 4, "kernel_degree": 4},
    "48 channels": {"n_channels": 48},
    "no angles": {"feature_degree": 0, "kernel_degree": 0},
}


def fused_potential(dtype=torch.float64, **changes):
    config = NetworkConfig(**{"n_channels": 32, "radial_width": 16, "cutoff": 4.0} | changes)
    potential = random_potential(config=config).to(dtype)
    potential.fuse()
    assert potential.fused_kernel() is not None
    return potential


def many_atoms():
    """More atoms than a group holds, of three elements, periodic, with neighbours across the boundary and some beyond the cutoff."""
    atoms = bulk("C", cubic=True, a=5.2) * (2, 2, 1)
    atoms.numbers = np.random.default_rng(0).choice([1, 6, 8], len(atoms))
    atoms.rattle(0.2, seed=1)
    return atoms


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("structure", [ethanol(), crystal(), many_atoms(), Atoms("O")], ids=["molecule", "crystal", "many", "atom"])
def test_equals_eager(changes, structure):
    potential = fused_potential(**changes)
    graph = build_graph(structure, potential.cutoff)
    fused, eager = potential.evaluate(graph), potential(*graph.tensors())
    for name, expected in eager.items():
        torch.testing.assert_close(fused[name], expected, rtol=1e-8, atol=1e-8 * float(eager["forces"].abs().max() + 1e-3))


def test_float32_stays_within_its_rounding():
    potential, exact = fused_potential(torch.float32), fused_potential()
    graph = build_graph(many_atoms(), potential.cutoff)
    fused, eager = potential.evaluate(graph), exact(*graph.tensors())
    assert (fused["energies"] - eager["energies"]).abs().max() < 1e-5 * eager["energies"].abs().max()
    assert (fused["forces"] - eager["forces"]).abs().max() < 1e-5 * eager["forces"].abs().max()


@pytest.mark.parametrize("path", ["fused", "eager"])
def test_float32_is_smooth_at_the_cutoff(path):
    """What is small there is right in its leading digits: a window whose terms cancel leaves rounding errors, 11 % at 4 mÅ."""
    potential, exact = fused_potential(torch.float32), fused_potential()
    for distance in (0.1, 0.02, 0.004, 0.001):
        graph = build_graph(Atoms("CO", [[0, 0, 0], [exact.cutoff - distance, 0, 0]]), exact.cutoff)
        forces = potential.evaluate(graph)["forces"] if path == "fused" else potential(*graph.tensors())["forces"]
        expected = exact(*graph.tensors())["forces"]
        assert (forces - expected).abs().max() < 2e-3 * expected.abs().max()


def test_forces_are_the_gradient_of_the_fused_energy():
    """A11, on the tabulated energy itself and not on the network it came from."""
    potential = fused_potential(n_blocks=3)
    atoms = ethanol()
    forces = potential.evaluate(build_graph(atoms, potential.cutoff))["forces"]
    step = 1e-5
    for atom, axis in ((0, 0), (4, 1), (8, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(float(potential.evaluate(build_graph(moved, potential.cutoff))["energy"]))
        assert float(forces[atom, axis]) == pytest.approx(-(energies[0] - energies[1]) / (2 * step), rel=1e-6, abs=1e-7)


def test_a13_exact_under_rotation():
    potential = fused_potential()
    atoms = many_atoms()
    before = potential.evaluate(build_graph(atoms, potential.cutoff))
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    after = potential.evaluate(build_graph(atoms, potential.cutoff))
    torch.testing.assert_close(after["energies"], before["energies"], rtol=1e-10, atol=1e-10)


def test_a24_a_batch_equals_its_members():
    potential = fused_potential()
    graphs = [build_graph(atoms, potential.cutoff) for atoms in (many_atoms(), ethanol(), Atoms("H"), crystal())]
    batch = potential.evaluate(collate(graphs))
    members = [potential.evaluate(graph) for graph in graphs]
    torch.testing.assert_close(batch["energy"], torch.cat([member["energy"] for member in members]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(batch["forces"], torch.cat([member["forces"] for member in members]), rtol=1e-11, atol=1e-11)


def test_threads_change_nothing():
    potential = fused_potential(n_blocks=3)
    atoms = many_atoms() * (2, 2, 2)
    graph, before = build_graph(atoms, potential.cutoff), torch.get_num_threads()
    try:
        results = []
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            results.append(potential.evaluate(graph))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result["forces"], results[0]["forces"]) for result in results)


def test_a19b_energies_alone_cost_no_reverse_pass():
    potential, graph = fused_potential(), build_graph(ethanol(), 4.0)
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    assert not potential.fused_kernel()(vectors, potential.species_of_number[graph.numbers], graph.edge_index, gradient=False)[1].any()
    for potential in (fused_potential(), random_potential()):
        graph = build_graph(ethanol(), potential.cutoff)
        energies = potential.evaluate(graph, forces=False)
        assert set(energies) == {"energy", "energies"}
        torch.testing.assert_close(energies["energies"], potential(*graph.tensors())["energies"], rtol=1e-8, atol=1e-8)


def test_edges_in_any_order_of_their_sources():
    """A list sorted by target, with the sources of a target in any order, is all the kernel asks for."""
    potential = fused_potential()
    graph = build_graph(many_atoms(), potential.cutoff)
    order = torch.argsort(graph.edge_index[1] * 1000 + torch.randperm(len(graph.shifts)) % 1000)
    shuffled = type(graph)(graph.positions, graph.numbers, graph.cells, graph.edge_index[:, order], graph.shifts[order], graph.batch)
    torch.testing.assert_close(potential.evaluate(shuffled)["forces"], potential.evaluate(graph)["forces"], rtol=1e-9, atol=1e-9)


def test_a_kernel_that_deviates_is_not_used(monkeypatch, caplog):
    potential = random_potential(config=NetworkConfig(n_channels=16))
    monkeypatch.setattr(verify, "largest_deviation", lambda _: float("nan"))
    with caplog.at_level(logging.WARNING):
        assert fused_network(potential.network) is None
    assert "deviates from eager by nan" in caplog.text


@pytest.mark.parametrize("element", [0, 2])
def test_the_check_sees_a_wrong_kernel(element):
    potential = random_potential(config=NetworkConfig(n_channels=16))
    fused = FusedFibreBundle(potential.network, torch.float64)
    assert largest_deviation(fused) < 1e-8
    with torch.no_grad():
        fused.network.embedding.weight[element, 0] += 1e-3
    assert largest_deviation(fused) > 1e-6


@pytest.mark.parametrize("factor", [1.001, math.nan])
def test_the_check_sees_a_wrong_gradient(monkeypatch, factor):
    fused, honest = fused_potential().fused_kernel(), FusedFibreBundle.__call__

    def tampered(self, *arguments):
        energies, gradient = honest(self, *arguments)
        return energies, factor * gradient

    monkeypatch.setattr(FusedFibreBundle, "__call__", tampered)
    assert not largest_deviation(fused) < 1e-4


def test_without_a_compiler_potentials_work_and_say_so(monkeypatch, caplog, tmp_path):
    path = tmp_path / "potential.safetensors"
    save_potential(random_potential(config=NetworkConfig(n_channels=16)), path)
    monkeypatch.setattr(compiler, "cache_folder", lambda: tmp_path)
    compiler.compile_library.cache_clear()
    for wrong in ("no-such-compiler", "false"):
        monkeypatch.setenv("CC", wrong)
        with caplog.at_level(logging.WARNING):
            potential = load_potential(path)
        assert potential.fused_kernel() is None
        assert "The fused kernel is not used" in caplog.text
        assert wrong in caplog.text
        assert potential.evaluate(build_graph(Atoms("H"), 5.0))["energy"].shape == (1,)


def test_odd_numbers_of_channels_stay_eager():
    potential = random_potential(config=NetworkConfig(n_channels=10))
    potential.fuse()
    assert potential.fused_kernel() is None


@pytest.mark.parametrize("n_points", DESIGN_DEGREES)
def test_half_turns_map_every_design_onto_itself(n_points):
    design = spherical_design(n_points)
    order = orbits_of_half_turns(design)
    assert sorted(order.tolist()) == list(range(n_points))
    signs = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    orbits = design[order].view(-1, 4, 3)
    torch.testing.assert_close(orbits, orbits[:, :1] * signs, rtol=0, atol=1e-15)


def test_a_grid_that_half_turns_do_not_map_onto_itself_stays_eager(caplog):
    potential = random_potential()
    turn = torch.from_numpy(Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix())
    network = potential.network
    network.grid = OrientationGrid(network.grid.exact_orientations @ turn.T, network.feature_degree)
    assert fused_network(network) is None
    assert "grids of orientations that half-turns about x, y and z map onto themselves" in caplog.text


def test_other_dtype_means_other_kernel():
    """A25: the kernel follows the weights."""
    potential = fused_potential()
    assert potential.float().fused_kernel().dtype == torch.float32


def _optimizer_step(network):
    network.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


CHANGES = {
    "in place": lambda network: network.lift_product.gates.weight.mul_(1.5),
    "a fused optimizer": _optimizer_step,
    "one vector": lambda network: torch.nn.utils.vector_to_parameters(
        1.1 * torch.nn.utils.parameters_to_vector(network.parameters()), network.parameters()
    ),
    "load_state_dict": lambda network: network.load_state_dict({name: 1.1 * value for name, value in network.state_dict().items()}),
    "assigned": lambda network: network.load_state_dict({n: 1.1 * v for n, v in network.state_dict().items()}, assign=True),
    "another parameter": lambda network: setattr(network.embedding, "weight", torch.nn.Parameter(1.1 * network.embedding.weight)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_weights_are_noticed(change):
    potential, graph = fused_potential(), build_graph(ethanol(), 4.0)
    before = potential.evaluate(graph)["energy"]
    with torch.no_grad():
        change(potential.network)
    changed = potential.evaluate(graph)
    assert abs(float(changed["energy"] - before)) > 1e-3
    torch.testing.assert_close(changed["energy"], potential(*graph.tensors())["energy"], rtol=1e-8, atol=1e-8)


def test_copies_and_pickles_have_kernels_of_their_own():
    potential, graph = fused_potential(), build_graph(ethanol(), 4.0)
    for twin in (copy.deepcopy(potential), pickle.loads(pickle.dumps(potential))):
        assert twin.fused_kernel() is not None
        assert twin.fused_kernel() is not potential.fused_kernel()
        assert torch.equal(twin.evaluate(graph)["forces"], potential.evaluate(graph)["forces"])


@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "eager"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_gives_nan(value, is_fused):
    potential, graph = fused_potential(), build_graph(many_atoms(), 4.0)
    if not is_fused:
        potential.kernel_choice = None
    graph.positions[3, 1] = value
    assert potential.evaluate(graph)["energy"].isnan().all()
    assert potential.evaluate(graph)["forces"].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edges_beyond_the_cutoff_have_no_part_in_anything(dtype):
    """To the last bit, on the fused and the eager path; also where float32 would round a length back to within the cutoff."""
    potential = fused_potential(dtype)
    directions = np.random.default_rng(0).normal(size=(60, 3))
    ends = 4.0 * (1 + 1e-9) * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    structures = [many_atoms(), *(Atoms("OH", [[0, 0, 0], end]) for end in ends)]
    near, far = (collate([build_graph(atoms, reach) for atoms in structures]) for reach in (4.0, 5.0))
    assert len(far.shifts) > 1.5 * len(near.shifts)
    for stresses in (False, True):
        for name, value in potential.evaluate(near, stresses=stresses).items():
            assert torch.equal(potential.evaluate(far, stresses=stresses)[name], value)
    potential.requires_grad_(True)
    assert potential.fused_kernel() is None
    assert torch.equal(potential.evaluate(far)["forces"], potential.evaluate(near)["forces"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kernel_that_is_given_edges_beyond_the_cutoff_passes_them_over(dtype):
    """Where domains call it, nobody has picked the edges; one at the cutoff reads no table behind its end."""
    kernel, species = fused_potential(dtype).fused_kernel(), torch.tensor([2, 0, 1])
    vectors = torch.tensor([[1.1, 0, 0], [0, 4.0 * (1 + 1e-9), 0], [0, 0, 4.05], [-1.1, 0, 0]], dtype=torch.float64)
    edge_index = torch.tensor([[1, 2, 2, 0], [0, 0, 0, 1]])
    energies, gradient = kernel(vectors, species, edge_index)
    expected, own = kernel(vectors[[0, 3]], species, edge_index[:, [0, 3]])
    assert torch.equal(energies, expected)
    assert torch.equal(gradient[[0, 3]], own)
    assert not gradient[[1, 2]].any()


def test_atoms_on_top_of_each_other_are_refused():
    potential, graph = fused_potential(), build_graph(many_atoms(), 4.0)
    source, target = graph.edge_index[:, int(graph.shifts.abs().sum(1).argmin())].tolist()
    graph.positions[source] = graph.positions[target] + 0.01
    with pytest.raises(NeighborError, match=r"Atoms \d+ and \d+ lie on top of each other"):
        potential.evaluate(graph)


@pytest.mark.parametrize(("field", "place", "value"), [("edge_index", (0, 3), 10**6), ("edge_index", (1, -1), -1), ("batch", -1, 2)])
def test_graphs_of_atoms_that_are_not_there_are_refused(field, place, value):
    potential, graph = fused_potential(), build_graph(many_atoms(), 4.0)
    getattr(graph, field)[place] = value
    with pytest.raises(NeighborError, match="not there"):
        potential.evaluate(graph)
    if field == "edge_index":
        species = potential.species_of_number[graph.numbers]
        with pytest.raises(NeighborError, match="not there"):
            potential.fused_kernel()(torch.ones(len(graph.shifts), 3), species, graph.edge_index)


def test_unsorted_edges():
    potential, graph = fused_potential(), build_graph(many_atoms(), 4.0)
    order = torch.randperm(len(graph.shifts), generator=torch.Generator().manual_seed(0))
    shuffled = type(graph)(graph.positions, graph.numbers, graph.cells, graph.edge_index[:, order], graph.shifts[order], graph.batch)
    for name, value in potential.evaluate(graph).items():
        torch.testing.assert_close(potential.evaluate(shuffled)[name], value, rtol=1e-9, atol=1e-9)


def test_threads_of_python_share_a_kernel():
    potential = fused_potential()
    graphs = [build_graph(atoms, 4.0) for atoms in (ethanol(), many_atoms(), many_atoms() * (2, 1, 1))]
    expected = [potential.evaluate(graph)["forces"] for graph in graphs]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: potential.evaluate(graphs[index % 3])["forces"], range(60)))
    assert all(torch.equal(result, expected[index % 3]) for index, result in enumerate(results))


def test_a32_memory_is_flat():
    potential, graph = fused_potential(torch.float32), build_graph(ethanol(), 4.0)
    for _ in range(200):
        potential.evaluate(graph)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2000):
        potential.evaluate(graph)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2000  # kB


def test_more_threads_are_used_where_there_is_work(monkeypatch):
    potential, graph = fused_potential(), build_graph(many_atoms() * (2, 2, 2), 4.0)
    used, library = [], potential.fused_kernel()._library

    def spy(model, system, structures):
        used.append(system._obj.n_threads)
        return library.eqpot_evaluate_structures(model, system, structures)

    monkeypatch.setattr(potential.fused_kernel(), "_library", SimpleNamespace(eqpot_evaluate_structures=spy))
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 2, 100):
            torch.set_num_threads(n_threads)
            potential.evaluate(graph)
    finally:
        torch.set_num_threads(before)
    assert used == [1, 2, graph.n_atoms // 64]


def test_a12_edges_along_grid_directions_and_at_the_cutoff():
    potential = fused_potential()
    directions = potential.network.grid.orientations.numpy()
    lengths = [1.1, 4.0 * (1 - 1e-9), 4.0 * (1 + 1e-9), 3.999]
    for direction, length in itertools.product(directions[:6], lengths):
        atoms = Atoms("OCH", [[0, 0, 0], length * direction, -1.3 * direction])
        graph = build_graph(atoms, 5.0)
        torch.testing.assert_close(potential.evaluate(graph)["forces"], potential(*graph.tensors())["forces"], rtol=1e-8, atol=1e-8)


def test_radial_functions_that_bend_sharply_get_closer_knots(monkeypatch):
    """Knots three times too far apart for the tolerance are refined; the kernel is used nevertheless."""
    network = random_potential(config=NetworkConfig(cutoff=4.0), dtype=torch.float32).network
    monkeypatch.setitem(fibre_bundle._SPACING, torch.float32, 0.05)
    coarse, fine = (verify.largest_deviation(fibre_bundle.FusedFibreBundle(network, torch.float32, factor)) for factor in (1, 3))
    assert fine < coarse / 20
    monkeypatch.setitem(verify.TOLERANCES, torch.float32, (fine * coarse) ** 0.5)
    chosen = verify.fused_network(network)
    assert chosen is not None
    assert chosen._n_intervals == 3 * fibre_bundle.intervals_of(4.0, 0.05)


def agreement(potential, graph):
    """Largest deviation of `evaluate` from `forward`, which never uses the kernel, in the energy."""
    return float((potential.evaluate(graph)["energy"] - potential(*graph.tensors())["energy"]).abs().max())


def test_an_interrupted_rebuild_is_begun_anew(monkeypatch):
    potential, graph = fused_potential(), build_graph(ethanol(), 4.0)
    potential.network.embedding.weight.mul_(1.3)

    def interrupted(network):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verify, "fused_network", interrupted)
        with pytest.raises(KeyboardInterrupt):
            potential.evaluate(graph)
    assert agreement(potential, graph) < 1e-8
    assert potential.fused_kernel() is not None


def test_threads_wait_for_the_kernel_of_new_weights(monkeypatch):
    potential, graph = fused_potential(), build_graph(ethanol(), 4.0)
    potential.network.embedding.weight.mul_(1.3)
    expected, built, original = potential(*graph.tensors())["energy"], [], verify.fused_network

    def slow(network):
        built.append(network)
        time.sleep(0.2)
        return original(network)

    monkeypatch.setattr(verify, "fused_network", slow)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: potential.evaluate(graph)["energy"], range(3)))
    assert len(built) == 1
    for energy in found:
        torch.testing.assert_close(energy, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("what", ["network", "module", "block"])
def test_a_module_that_is_replaced_is_noticed(what):
    potential, graph, other = (
        fused_potential(),
        build_graph(ethanol(), 4.0),
        random_potential(config=fused_potential().network.config, seed=1),
    )
    before = float(potential.evaluate(graph)["energy"])
    if what == "network":
        potential.network = other.network
    elif what == "module":
        potential.network.embedding = other.network.embedding
    else:
        potential.network.blocks[0] = other.network.blocks[0]
    assert agreement(potential, graph) < 1e-8
    assert abs(float(potential.evaluate(graph)["energy"]) - before) > 1e-3
    assert potential.fused_kernel() is not None


def test_memory_that_ran_out_spoils_no_later_call(monkeypatch):
    potential, small = fused_potential(), build_graph(ethanol(), 4.0)
    large = build_graph(many_atoms(), 4.0)
    expected = {graph: potential(*graph.tensors())["energy"] for graph in (small, large)}
    original, kernel = call.aligned_empty, potential.fused_kernel()
    for limit in range(1, 40):
        kernel._workspace = kernel._new_workspace()
        potential.evaluate(small)
        with monkeypatch.context() as patch:
            calls = itertools.count(1)

            def scarce(size, dtype, calls=calls, limit=limit):
                if next(calls) == limit:
                    raise RuntimeError("can't allocate memory")
                return original(size, dtype)

            patch.setattr(call, "aligned_empty", scarce)
            try:
                potential.evaluate(large)
            except RuntimeError:
                pass
            else:
                break
        for graph in (small, large):
            torch.testing.assert_close(potential.evaluate(graph)["energy"], expected[graph], rtol=1e-9, atol=1e-9)
        # What the kernel was given is memory that is still there.
        assert set(kernel._workspace.of_edges) <= {array.data_ptr() for array in kernel._workspace._held.values()}
        assert len(kernel._workspace.of_edges) == 4
    assert limit > 15


def test_memory_of_a_large_structure_is_given_back():
    workspace = call.Workspace(NetworkConfig(n_channels=32), 24, torch.float64, 100)
    workspace.system(20_000, 10)
    workspace.system(9, 72)
    assert max(len(held) for held in workspace._held.values()) <= 1 << 20


def test_an_error_of_the_exchange_is_raised():
    class Broken:
        n_local = 2

        def forward(self, rows):
            raise NeighborError("the link is broken")

        def reverse(self, rows):
            pass

    vectors, edges = torch.tensor([[1.1, 0, 0], [-1.1, 0, 0]]), torch.tensor([[1, 0], [0, 1]])
    with pytest.raises(NeighborError, match="the link is broken"):
        fused_potential().fused_kernel()(vectors, torch.tensor([0, 1]), edges, ghosts=Broken())


def test_tables_are_published_when_all_of_them_are_there(monkeypatch):
    """A call in another thread looks at the first block's alone."""
    kernel = fused_potential().fused_kernel()
    kernel._pairs.clear()
    for place in range(len(kernel._tables)):
        kernel._tables[place] = None
    original, seen = kernel._hold, []

    def watched(tensor, keep=None):
        seen.append(any(kernel._tables))
        return original(tensor, keep)

    monkeypatch.setattr(kernel, "_hold", watched)
    kernel._tabulate_pairs({4})
    assert seen == [False] * kernel._model.n_blocks
    assert sum(bool(address) for address in kernel._tables) == kernel._model.n_blocks


def test_inference_mode_and_other_default_devices():
    graph = build_graph(ethanol(), 4.0)
    potential = random_potential(config=fused_potential().network.config)
    expected = potential(*graph.tensors())["energy"]
    potential.fuse()
    with torch.inference_mode():
        torch.testing.assert_close(potential.evaluate(graph)["energy"], expected, rtol=1e-9, atol=1e-9)
    assert potential.fused_kernel() is not None
    larger = build_graph(many_atoms(), 4.0)
    expected = potential(*larger.tensors())["energy"]
    # A kernel that is yet to be made, and tables of pairs that are.
    potential.fuse()
    with torch.device("meta"):
        torch.testing.assert_close(potential.evaluate(larger)["energy"], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_forces_without_a_kernel_in_inference_mode(name):
    potential = random_potential(config=NETWORKS[name])
    expected = potential.evaluate(build_graph(ethanol(), potential.cutoff))
    with torch.inference_mode():
        found = potential.evaluate(build_graph(ethanol(), potential.cutoff), stresses=True)
    for name, values in expected.items():
        torch.testing.assert_close(found[name].clone(), values, rtol=1e-12, atol=1e-12)


def test_reference_energies_may_be_a_column_of_a_table():
    graph, kind = build_graph(ethanol(), 4.0), fused_potential()
    table = torch.tensor([[-1.0, 100.0], [-2.0, 200.0], [-3.0, 300.0]], dtype=torch.float64)
    potential = Potential(kind.network, [1, 6, 8], table[:, 0], 1.2)
    potential.fuse()
    assert agreement(potential, graph) < 1e-8
    table.zero_()
    assert potential.reference_energies.tolist() == [-1, -2, -3]


def test_positions_that_are_no_numbers_reach_the_energy_without_the_kernel_too():
    graph = build_graph(ethanol(), 4.0)
    graph.positions[2, 0] = torch.nan
    result = random_potential().evaluate(graph)
    assert torch.isnan(result["energy"]).all()
    assert torch.isnan(result["forces"]).any()


def test_elements_that_are_not_there_are_refused_before_any_memory_is_read():
    potential, graph = fused_potential(), build_graph(ethanol(), 4.0)
    species = torch.full((9,), -1)
    with pytest.raises(NeighborError, match="not there"):
        potential.fused_kernel().structures(graph, species, 1.0, potential.reference_energies)


def test_half_precision_has_no_kernel():
    potential, graph = random_potential(config=fused_potential().network.config).to(torch.bfloat16), build_graph(ethanol(), 4.0)
    potential.fuse()
    assert potential.fused_kernel() is None
    assert torch.isfinite(potential.evaluate(graph)["energy"]).all()

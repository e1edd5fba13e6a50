"""Properties, structures and caching; A1, A2, A3, A5, A6, A14, A15, A19b, A24. The contract itself is in tests/ase."""

import json
import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS
from ase.outputs import all_outputs
from ase.stress import full_3x3_to_voigt_6_stress

from eqpot import EqpotCalculator
from eqpot.distances import distance_table, unknown_distance
from eqpot.errors import ConfigError, ModelFileError, NeighborError, UnknownElementError
from eqpot.graph import collate, edge_vectors
from eqpot.kernels.fibre_bundle import FusedFibreBundle
from eqpot.neighbors import build_graph
from eqpot.network.base import Network
from eqpot.potential import Potential
from helpers import SMALL, crystal, ethanol


@pytest.fixture
def calculator(model_path):
    return EqpotCalculator(model_path, dtype="float64")


def test_a1_results_have_the_types_and_shapes_of_ase(model_path):
    shapes = {"energy": (), "free_energy": (), "energies": (2,), "forces": (2, 3), "stress": (6,)}
    for dtype in ("float32", "float64"):
        atoms = crystal()
        atoms.calc = EqpotCalculator(str(model_path), dtype=dtype)
        atoms.get_stress()
        assert set(atoms.calc.results) == {"energy", "free_energy", "energies", "forces", "stress"}
        for name, value in atoms.calc.results.items():
            assert name in all_outputs
            assert np.shape(value) == shapes[name]
            assert np.asarray(value).dtype == np.float64
        assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_forces_and_stress_equal_ase_finite_differences(calculator):
    molecule, solid = ethanol(), crystal().repeat((2, 1, 1))
    solid.rattle(0.05, seed=0)
    molecule.calc = solid.calc = calculator
    for atoms in (molecule, solid):
        np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, 1e-4), atol=1e-6 * abs(atoms.get_forces()).max())
    stress = solid.get_stress()
    np.testing.assert_allclose(stress, calculate_numerical_stress(solid, 1e-5), atol=1e-6 * abs(stress).max())


def test_a3_stress_has_the_sign_of_ase_calculators(calculator):
    """Atoms pressed together push outwards; in ASE that is negative stress."""
    dense = Atoms("C", cell=[1.1, 1.1, 1.1], pbc=True)
    dense.calc = LennardJones(sigma=1.5, rc=4.0)
    assert dense.get_stress()[0] < 0
    for calc in (LennardJones(sigma=1.5, rc=4.0), calculator):
        dense.calc = calc
        numerical = calculate_numerical_stress(dense, 1e-5)
        assert np.sign(dense.get_stress()[0]) == np.sign(numerical[0])


def test_a6_stress_exists_where_the_cell_has_a_volume(calculator):
    molecule = ethanol()
    molecule.calc = calculator
    slab = crystal(pbc=[True, True, False])
    slab.calc = calculator
    for name, shape in (("stress", (6,)), ("stresses", (2, 6))):
        with pytest.raises(PropertyNotImplementedError, match="no stress"):
            calculator.get_property(name, molecule)
        assert calculator.get_property(name, slab).shape == shape
    flat = slab.copy()
    # The second is flat to rounding: its volume is some 1e-16 Å^3.
    for vector in (0, 0.7 * slab.cell[0] + 0.3 * slab.cell[1]):
        flat.cell[2] = vector
        assert flat.cell.volume < 1e-12
        with pytest.raises(PropertyNotImplementedError):
            calculator.get_stress(flat)
        calculator.get_forces(flat)
        assert "stress" not in calculator.results


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize("pbc", [[True, True, False], [False, False, True], False], ids=["slab", "wire", "molecule"])
def test_a6_open_directions_give_one_result_on_every_path(calculator, pbc):
    """Vacuum changes no energy and no force, and the stress as the inverse of the cell's volume."""
    potential = calculator.potentials[0]
    thin = crystal(pbc=pbc)
    thick = thin.copy()
    for axis in np.flatnonzero(~thin.pbc):
        thick.cell[axis] *= 3
    scripted = torch.jit.script(potential)
    graphs = [build_graph(atoms, potential.cutoff) for atoms in (thin, thick)]
    batch = {name: value.numpy() for name, value in potential.evaluate(collate(graphs)).items()}
    volumes = np.array([thin.get_volume(), thick.get_volume()])
    for index, atoms in enumerate((thin, thick)):
        atoms.calc = calculator
        forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
        paths = [function(*graphs[index].tensors()) for function in (potential, scripted)]
        others = [{name: value.numpy() for name, value in path.items()} for path in paths]
        others.append({"forces": batch["forces"][2 * index : 2 * index + 2], "stress": batch["stress"][[index]]})
        for other in others:
            np.testing.assert_allclose(other["forces"], forces, atol=1e-9)
            np.testing.assert_allclose(other["stress"][0], stress, atol=1e-10)
    np.testing.assert_allclose(batch["forces"][:2], batch["forces"][2:], atol=1e-10)
    np.testing.assert_allclose(batch["stress"][0] * volumes[0], batch["stress"][1] * volumes[1], atol=1e-9)


class LennardJonesNetwork(Network):
    """Half of a pair's energy at each of its atoms; forces jump at the cutoff, as ASE's do."""

    def forward(self, vectors, species, edge_index):
        sixth = (vectors * vectors).sum(dim=1) ** -3
        shift = self.config.cutoff**-12 - self.config.cutoff**-6
        return torch.zeros(len(species), dtype=self.dtype).index_add(0, edge_index[1], 2 * (sixth * sixth - sixth - shift))


@pytest.mark.parametrize("pbc", [True, [True, True, False]], ids=["crystal", "slab"])
def test_a2_all_results_are_those_of_ases_lennard_jones_for_the_same_potential(calculator, pbc):
    network = LennardJonesNetwork(SMALL, 1, 1.0, 1).double()
    calculator.potentials = [Potential(network, [18], torch.zeros(1), scale=1.0)]
    atoms = crystal("Ar2", pbc).repeat((2, 1, 1))
    atoms.set_cell(atoms.cell * 0.5, scale_atoms=True)
    atoms.rattle(0.02, seed=0)
    reference = LennardJones(rc=SMALL.cutoff)
    for name in EqpotCalculator.implemented_properties:
        expected = reference.get_property(name, atoms)
        np.testing.assert_allclose(calculator.get_property(name, atoms), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(calculator.get_stresses(atoms).sum(axis=0), calculator.get_stress(atoms), rtol=1e-12)


def test_a2_an_edge_belongs_half_to_each_of_its_atoms(calculator):
    atoms, potential = crystal(pbc=[True, True, False]) + Atoms("H", [[0.6, 0.5, 1.4]]), calculator.potentials[0]
    graph = build_graph(atoms, potential.cutoff)
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    gradient = potential.energies_and_gradient(vectors, graph.numbers, graph.edge_index)[1].numpy()
    expected = np.zeros((3, 3, 3))
    for source, target, vector, pull in zip(*graph.edge_index.tolist(), vectors.detach().numpy(), gradient, strict=True):
        for atom in (source, target):
            expected[atom] += (np.outer(vector, pull) + np.outer(pull, vector)) / 4 / atoms.get_volume()
    found = calculator.get_stresses(atoms)
    np.testing.assert_allclose(found, full_3x3_to_voigt_6_stress(expected), atol=1e-10 * abs(found).max())


def test_a2_parts_sum_to_the_whole(model_path):
    for dtype in ("float32", "float64"):
        calculator = EqpotCalculator(model_path, dtype=dtype)
        for atoms in (crystal(), crystal(pbc=[True, False, True]), crystal("CO").repeat((1, 2, 1))):
            stress, stresses = calculator.get_property("stress", atoms), calculator.get_property("stresses", atoms)
            np.testing.assert_allclose(stresses.sum(axis=0), stress, atol=1e-12)
            assert calculator.get_potential_energies(atoms).sum() == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-9)


def test_a2_what_cannot_be_given_is_refused_before_anything_is_computed(calculator, monkeypatch):
    monkeypatch.setattr(Potential, "evaluate", None)
    with pytest.raises(PropertyNotImplementedError, match="no volume"):
        calculator.get_stress(ethanol())
    for name in ("dipole", "magmoms", "energy_std"):
        with pytest.raises(PropertyNotImplementedError, match=name):
            calculator.get_property(name, ethanol())


def test_results_follow_the_structure(calculator):
    atoms = crystal()
    atoms.calc = calculator
    energies = [atoms.get_potential_energy()]
    atoms.positions[0, 0] += 0.1
    energies.append(atoms.get_potential_energy())
    atoms.set_cell(atoms.cell * 1.01)
    energies.append(atoms.get_potential_energy())
    atoms.pbc = [True, False, True]
    energies.append(atoms.get_potential_energy())
    atoms.numbers[0] = 1
    energies.append(atoms.get_potential_energy())
    assert len(set(energies)) == 5


def test_a5_the_structure_is_not_changed_and_needs_no_cell(calculator):
    atoms = ethanol()
    before = atoms.copy()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert atoms == before
    atoms.translate([100.0, -50.0, 3.0])
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)


def test_arguments_are_json_and_kept(model_path):
    calc = EqpotCalculator(str(model_path), device="cpu", dtype="float64")
    assert calc.todict() == {"model": str(model_path), "device": "cpu", "dtype": "float64", "skin": "auto"}


def test_parameters_are_json_whatever_types_came(model_path):
    calc = EqpotCalculator(model_path, device=torch.device("cpu"), skin=np.float32(0.5))
    assert json.loads(json.dumps(calc.todict())) == {"model": str(model_path), "device": "cpu", "dtype": "float32", "skin": 0.5}
    for name in ("device", "skin"):
        with pytest.raises(ConfigError, match=name):
            EqpotCalculator(model_path, **{name: None})


def test_the_skin_can_be_set_where_the_file_is_not(model_path, tmp_path):
    path = shutil.copy(model_path, tmp_path / "moved.safetensors")
    calc = EqpotCalculator(path, skin=0.5)
    path.unlink()
    forces = calc.get_forces(ethanol())
    assert calc.set(skin=0) == {"skin": 0.0}
    np.testing.assert_array_equal(calc.get_forces(ethanol()), forces)
    assert calc.todict()["skin"] == 0.0


def test_arrays_that_torch_does_not_read(calculator):
    atoms = crystal()
    expected = calculator.get_forces(atoms)
    for array in (atoms.positions.astype(">f8"), atoms.positions[::-1].copy()[::-1]):
        calculator.reset()
        atoms.arrays["positions"] = array
        np.testing.assert_array_equal(calculator.get_forces(atoms), expected)


def test_parameters_that_do_not_exist_are_refused_and_changed_ones_are_used(model_path):
    with pytest.raises(TypeError):
        EqpotCalculator(model_path, dtyp="float64")
    calc = EqpotCalculator(model_path)
    with pytest.raises(ConfigError, match="no parameter cutoff"):
        calc.set(cutoff=1.0)
    atoms = ethanol()
    atoms.calc = calc
    single = atoms.get_potential_energy()
    calc.set(dtype="float64")
    assert calc.potentials[0].dtype == torch.float64
    assert 0 < abs(atoms.get_potential_energy() - single) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forces_do_not_depend_on_the_callers_grad_mode(model_path, dtype):
    """float64 takes the fused kernel, for which the network is too narrow in float32."""
    calculator, atoms = EqpotCalculator(model_path, dtype=dtype), ethanol()
    expected = calculator.get_forces(atoms)
    for mode in (torch.no_grad(), torch.inference_mode()):
        calculator.reset()
        with mode:
            np.testing.assert_array_equal(calculator.get_forces(atoms), expected)


def test_a15_unknown_elements_are_named_for_every_property(calculator):
    with pytest.raises(UnknownElementError, match="holds Z = -1, Z = 200,"):
        calculator.get_potential_energy(Atoms(numbers=[200, -1], positions=[[0, 0, 0], [0, 0, 2]]))
    atoms = Atoms("AuX", [[0, 0, 0], [0, 0, 2]], cell=[9, 9, 9])
    for request in (*calculator.implemented_properties, None):
        with pytest.raises(UnknownElementError, match="holds X, Au,.*knows H, C, O.*Use a potential"):
            calculator.get_property(request, atoms) if request else calculator.get_hessian(atoms)


def test_an_optimizer_finds_a_minimum(calculator):
    atoms = ethanol()
    atoms.calc = calculator
    start = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=20)
    assert atoms.get_potential_energy() < start


@pytest.mark.parametrize(("dtype", "fused"), [("float64", True), ("float32", False)])
def test_a19b_energies_alone_cost_no_reverse_pass(model_path, monkeypatch, dtype, fused):
    calculator = EqpotCalculator(model_path, dtype=dtype)
    calculator.get_forces(crystal())
    assert (calculator.potentials[0].fused_kernel() is not None) == fused
    gradients = []
    structures = FusedFibreBundle.structures
    monkeypatch.setattr(FusedFibreBundle, "structures", lambda self, *rest: gradients.append(rest[4]) or structures(self, *rest))
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a reverse pass"))
    atoms = ethanol()
    for name in ("energy", "free_energy", "energies"):
        calculator.get_property(name, atoms)
    assert gradients == ([False] if fused else [])
    assert set(calculator.results) == {"energy", "free_energy", "energies"}


def test_a19b_several_properties_cost_one_evaluation_and_stresses_come_only_when_asked_for(calculator, monkeypatch):
    calls = []
    evaluate = Potential.evaluate
    monkeypatch.setattr(Potential, "evaluate", lambda self, *arguments: calls.append(arguments[1:]) or evaluate(self, *arguments))
    atoms = crystal()
    atoms.calc = calculator
    for first, count in (("get_forces", 1), ("get_stress", 1), ("get_stresses", 1), ("get_potential_energy", 2)):
        calls.clear()
        calculator.reset()
        getattr(atoms, first)()
        assert ("stresses" in calculator.results) == (first == "get_stresses")
        atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energy(), atoms.get_potential_energies()
        assert len(calls) == count
    calls.clear()
    atoms.positions[0] += 0.01
    properties = atoms.get_properties(["energy", "energies", "forces", "stress", "stresses"])
    assert len(calls) == 1
    assert properties["natoms"] == 2


def test_a24_a_batch_equals_the_calculator_on_its_members(calculator):
    potential = calculator.potentials[0]
    members = [crystal(), ethanol(), crystal(pbc=[True, True, False]), Atoms("O"), Atoms()]
    for order in (range(5), [3, 2, 4, 0, 1]):
        batch = potential.evaluate(collate([build_graph(members[i], potential.cutoff) for i in order]), stresses=True)
        start = 0
        for place, index in enumerate(order):
            atoms = members[index]
            rows = slice(start, start + len(atoms))
            start += len(atoms)
            assert float(batch["energy"][place]) == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-10)
            np.testing.assert_allclose(batch["forces"][rows], calculator.get_forces(atoms), atol=1e-10)
            if atoms.cell.volume:
                voigt = full_3x3_to_voigt_6_stress(batch["stresses"][rows].numpy())
                np.testing.assert_allclose(voigt, calculator.get_stresses(atoms), atol=1e-10)
            else:
                assert not batch["stresses"][rows].any()


FEW = {
    "no atoms": Atoms(),
    "no atoms in a cell": Atoms(cell=[5, 5, 5], pbc=True),
    "one atom": Atoms("O"),
    "one atom in a large cell": Atoms("O", cell=[20, 20, 20], pbc=True),
    "two beyond the cutoff": Atoms("O2", [[0, 0, 0], [0, 0, 4.0]], cell=[20, 0, 20], pbc=[True, False, True]),
    "two at the boundary": Atoms("O2", [[0, 0, 0.5], [0, 0, 19.5]], cell=[20, 20, 20], pbc=[True, True, False]),
}
SLABS = {
    "slab": crystal(pbc=[True, True, False]),
    "wire without the other vectors": Atoms("CO", [[0, 0, 0], [1, 0.5, 0.9]], cell=[0, 0, 3], pbc=[False, False, True]),
    "slab without a third vector": Atoms("CO", [[0, 0, 0], [1, 0.5, 0.9]], cell=[3, 3, 0], pbc=[True, True, False]),
    "left-handed": crystal(),
}
SLABS["left-handed"].set_cell(SLABS["left-handed"].cell.array[[1, 0, 2]])


@pytest.fixture(params=["float32", "float64", "committee"])
def any_calculator(request, model_path):
    if request.param == "committee":
        return EqpotCalculator([model_path, model_path], dtype="float64")
    return EqpotCalculator(model_path, dtype=request.param)


def check_everything(calculator, atoms):
    """All properties have their shapes, are finite and belong together; stress is there if the cell has a volume."""
    n_atoms = len(atoms)
    shapes = {"energy": (), "free_energy": (), "energies": (n_atoms,), "forces": (n_atoms, 3), "stress": (6,), "stresses": (n_atoms, 6)}
    for name in reversed(calculator.implemented_properties):
        if "stress" in name and not atoms.cell.volume:
            with pytest.raises(PropertyNotImplementedError, match="no volume"):
                calculator.get_property(name, atoms)
            continue
        value = calculator.get_property(name, atoms)
        assert np.isfinite(value).all()
        assert np.shape(value) == shapes[name.removesuffix("_std")]
    assert calculator.get_potential_energies(atoms).sum() == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-10)
    hessian = calculator.get_hessian(atoms)
    assert hessian.shape == (n_atoms, 3, n_atoms, 3)
    assert np.isfinite(hessian).all()
    return hessian


@pytest.mark.parametrize("name", FEW)
def test_a14_atoms_without_neighbors(any_calculator, name):
    atoms = FEW[name]
    alone = any_calculator.get_potential_energy(Atoms("O"))
    hessian = check_everything(any_calculator, atoms)
    assert any_calculator.get_potential_energy(atoms) == pytest.approx(len(atoms) * alone, rel=1e-7)
    assert not any_calculator.get_forces(atoms).any()
    assert not hessian.any()


def test_a14_an_isolated_atom_changes_nothing_for_the_others(any_calculator):
    alone, molecule = any_calculator.get_potential_energy(Atoms("O")), ethanol()
    crowd = molecule + Atoms("O", [[50.0, 0, 0]])
    check_everything(any_calculator, crowd)
    forces, energies = any_calculator.get_forces(crowd), any_calculator.get_potential_energies(crowd)
    assert energies[-1] == pytest.approx(alone, rel=1e-7)
    np.testing.assert_allclose(forces[:-1], any_calculator.get_forces(molecule), atol=1e-5)
    assert not forces[-1].any()


@pytest.mark.parametrize("name", SLABS)
def test_mixed_periodicity_and_missing_lattice_vectors(any_calculator, name):
    atoms = SLABS[name]
    check_everything(any_calculator, atoms)
    axis = int(np.flatnonzero(atoms.pbc)[0])
    repeated = atoms.repeat([2 if direction == axis else 1 for direction in range(3)])
    energy = any_calculator.get_potential_energy(atoms)
    assert any_calculator.get_potential_energy(repeated) == pytest.approx(2 * energy, abs=1e-5)
    # A periodic direction without a vector has no answer.
    broken = atoms.copy()
    broken.cell[axis] = 0
    for compute in (any_calculator.get_potential_energy, any_calculator.get_forces, any_calculator.get_hessian):
        with pytest.raises(NeighborError, match="lattice vector"):
            compute(broken)


def test_a3_the_handedness_of_the_cell_changes_nothing(any_calculator):
    for name in ("stress", "stresses"):
        expected = any_calculator.get_property(name, crystal())
        found = any_calculator.get_property(name, SLABS["left-handed"])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_only_positions_numbers_cell_and_pbc_clear_the_results(calculator, monkeypatch):
    atoms = crystal()
    atoms.calc = calculator
    forces = atoms.get_forces()
    with monkeypatch.context() as patch:
        patch.setattr(Potential, "evaluate", None)
        atoms.info["charge"] = 1
        atoms.info["energy"] = 3.0
        atoms.set_initial_charges([1, -1])
        atoms.set_initial_magnetic_moments([1, 1])
        atoms.set_tags([1, 2])
        atoms.set_momenta(np.ones((2, 3)))
        atoms.set_celldisp([1, 0, 0])
        np.testing.assert_array_equal(atoms.get_forces(), forces)
        assert calculator.get_property("forces", atoms, allow_calculation=False) is not None
    changes = {
        "positions": lambda: atoms.positions.__setitem__((0, 0), 0.2),
        "numbers": lambda: atoms.numbers.__setitem__(0, 8),
        "cell": lambda: atoms.cell.__setitem__((0, 0), 3.2),
        "pbc": lambda: atoms.set_pbc([True, False, True]),
    }
    for name, change in changes.items():
        atoms.get_forces()
        change()
        assert calculator.check_state(atoms) == [name]
        assert calculator.get_property("forces", atoms, allow_calculation=False) is None


def test_results_are_not_the_callers_to_change(calculator):
    atoms = crystal()
    atoms.calc = calculator
    for name in ("energies", "forces", "stress", "stresses"):
        value = calculator.get_property(name, atoms)
        value += 1
        assert not np.array_equal(calculator.get_property(name, atoms), value)


def test_what_fails_leaves_the_calculator_as_it_was(calculator, model_path):
    with pytest.raises(ConfigError, match="no structure yet"):
        calculator.get_potential_energy()
    good = crystal()
    forces, parameters = calculator.get_forces(good), calculator.todict()
    with pytest.raises(UnknownElementError):
        calculator.calculate(Atoms("Au"))
    with pytest.raises(ModelFileError):
        calculator.set(model="missing.safetensors")
    with pytest.raises(ConfigError, match="float16"):
        calculator.set(dtype="float16")
    assert calculator.todict() == parameters
    assert calculator.set(model=model_path, dtype="float64") == {}
    assert not calculator.calculation_required(good, ["forces"])
    np.testing.assert_array_equal(calculator.get_forces(), forces)


def test_a7_results_do_not_depend_on_the_skin_or_on_what_came_before(model_path):
    random = np.random.default_rng(0)
    kept, fresh = EqpotCalculator(model_path), EqpotCalculator(model_path, skin=0.0)
    atoms = crystal("CO") * (3, 3, 3)
    for number in range(15):
        atoms.positions += 0.01 * random.normal(size=atoms.positions.shape)
        if number == 7:
            atoms.wrap()
        if number == 10:
            atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
        for name in ("energy", "forces", "stress"):
            np.testing.assert_array_equal(kept.get_property(name, atoms), fresh.get_property(name, atoms))
    assert kept.skin > 0
    assert fresh.skin == 0
    assert kept._lists[kept.potentials[0].cutoff].n_builds < 12


@pytest.mark.parametrize("skin", [-1.0, "much", np.nan])
def test_a_skin_that_cannot_be_meant_is_refused(model_path, skin):
    with pytest.raises(ConfigError, match="The skin is"):
        EqpotCalculator(model_path, skin=skin)


def test_a_structure_outside_the_training_data_is_warned_of_once(caplog):
    calculator = EqpotCalculator("silicon")
    atoms = bulk("Si", cubic=True)
    calculator.get_potential_energy(atoms)
    assert not caplog.messages
    shortest = calculator.potentials[0].shortest_distances["Si-Si"]
    calculator.get_potential_energy(bulk("Si", cubic=True, a=0.95 * shortest * 4 / 3**0.5))
    assert not caplog.messages
    atoms.positions[1] = atoms.positions[0] + [1.2, 0, 0]
    calculator.get_potential_energy(atoms)
    assert len(caplog.messages) == 1
    assert "Atoms Si 0 and Si 1 are 1.20 Å apart" in caplog.messages[0]
    atoms.positions[1, 0] -= 0.1
    calculator.get_potential_energy(atoms)
    assert len(caplog.messages) == 1


def test_one_calculator_looks_at_structures_of_any_size(caplog):
    calculator = EqpotCalculator("silicon")
    for atoms in (bulk("Si", cubic=True), bulk("Si"), bulk("Si", a=2.0)):
        assert not caplog.messages
        calculator.get_potential_energy(atoms)
    assert len(caplog.messages) == 1


def test_elements_that_never_met_are_warned_of(caplog):
    """Beyond the cutoff, where a small open structure keeps its pairs too, they have not met."""
    calculator = EqpotCalculator("ethanol")
    atoms = Atoms("OO", [[0, 0, 0], [0, 0, 30.0]])
    for _ in range(17):
        atoms.positions[0, 2] += 1.45
        calculator.get_forces(atoms)
    assert atoms.get_distance(0, 1) > 4.0
    assert not caplog.messages
    for _ in range(3):
        atoms.positions[0, 2] += 1.45
        calculator.get_forces(atoms)
    assert len(caplog.messages) == 1
    assert "no two such atoms next to each other" in caplog.messages[0]


def test_the_pair_that_is_nearest_for_its_elements_is_named():
    atoms = Atoms("H2C2", [[0, 0, 0], [0, 0, 0.6], [5, 0, 0], [5, 0, 0.9]])
    sentence = unknown_distance(build_graph(atoms, 2.0), distance_table({"H-H": 0.7, "C-C": 1.4}))
    assert sentence.startswith("Atoms C 2 and C 3 are 0.90 Å apart, and the training data have no two such atoms nearer than 1.40 Å")

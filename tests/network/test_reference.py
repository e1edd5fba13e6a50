"""The reference form against the numbers of the official code, and the point cloud against its formulas written as loops."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from eqpot.errors import ConfigError, DataError, ModelFileError
from eqpot.network.reference import load_reference
from helpers import ethanol
from reference_helpers import BUNDLE, CLOUD, GEOMETRIES, POSITIONS, golden, golden_config, inputs, molecule_inputs, random_weights

MOLECULES = [
    ("A_small", "water"),
    ("A_small", "ethanol"),
    ("C_options", "water"),
    ("C_options", "ethanol"),
    ("C_options", "aspirin"),
    ("R_position_only", "ethanol"),
    ("P_point_cloud", "ethanol"),
    ("P_point_cloud_options", "ethanol"),
]


@pytest.mark.parametrize(("name", "molecule"), MOLECULES)
def test_all_numbers_are_those_of_the_official_code(name, molecule):
    network, expected = load_reference(golden(f"{name}_weights"), golden_config(name)), golden(f"{name}_{molecule}")
    energy, forces = network.energy_and_forces(*inputs(expected))
    found = {"energy": energy, "forces": forces, **network.outputs(*inputs(expected))}
    compared = [key for key in expected if key in ("energy", "forces", "scalar_out", "vector_out") or key.startswith("mid_")]
    assert len(compared) >= 3
    for key in compared:
        assert found[key].shape == expected[key].shape, key
        np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=1e-10, err_msg=key)


def test_calibration_is_that_of_the_official_code():
    calibration, final = golden("C_options_calibration"), golden("C_options_weights")
    before = {name: calibration.get(f"before/{name}", value) for name, value in final.items()}
    molecules = [golden(f"C_options_{name}") for name in golden_config("C_options")["molecules"]]
    sizes = [len(molecule["numbers"]) for molecule in molecules]
    offsets = np.cumsum([0, *sizes])
    numbers, positions, features, vectors = (
        np.concatenate([molecule[key] for molecule in molecules]) for key in ("numbers", "positions", "node_features", "input_vectors")
    )
    edges = np.concatenate([molecule["edge_index"] + offset for molecule, offset in zip(molecules, offsets, strict=False)], axis=1)
    network = load_reference(before, golden_config("C_options"))
    first = network.calibrate(numbers, positions, features, edges, vectors, np.repeat(np.arange(3), sizes))
    np.testing.assert_allclose(first, calibration["first_training_forward_scalar_out"], rtol=0, atol=1e-10)
    after = {name.removeprefix("after/"): value for name, value in calibration.items() if name.startswith("after/")}
    assert len(after) == 6
    for name, value in after.items():
        np.testing.assert_allclose(network.state_dict()[name], value, rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("config", GEOMETRIES.values(), ids=GEOMETRIES)
def test_calibration_gives_a_convolution_the_spread_of_its_input(config):
    """Unlike fresh weights, these have a bias, which must not count."""
    network, arguments = load_reference(random_weights(config), config), molecule_inputs(ethanol())
    network.calibrate(*arguments)
    result = network.outputs(*arguments)
    bias = network.state_dict()["interaction_layers.0.conv.bias"]
    assert bias.abs().min() > 0
    assert float((result["mid_layer0_conv"] - bias).std()) == pytest.approx(float(result["mid_embed"].std()), rel=1e-10)


def test_outputs_of_a_batch_are_those_of_its_structures():
    network = load_reference(golden("A_small_weights"), golden_config("A_small"))
    water, alcohol = golden("A_small_water"), golden("A_small_ethanol")
    joined = [np.concatenate([water[key], alcohol[key]]) for key in ("numbers", "positions", "node_features")]
    edges = np.concatenate([water["edge_index"], alcohol["edge_index"] + 3], axis=1)
    result = network.outputs(*joined, edges, batch=np.repeat([0, 1], [3, 9]))["scalar_out"]
    np.testing.assert_allclose(result, np.concatenate([water["scalar_out"], alcohol["scalar_out"]]), rtol=0, atol=1e-10)


def test_missing_self_edges_are_added():
    molecule = golden("A_small_ethanol")
    edges = molecule["edge_index"][:, np.diff(molecule["edge_index"], axis=0)[0] != 0]
    network = load_reference(golden("A_small_weights"), golden_config("A_small"))
    energy = network.energy_and_forces(*inputs({**molecule, "edge_index": edges}))[0]
    assert float(energy) == pytest.approx(float(molecule["energy"]), abs=1e-10)


@pytest.mark.parametrize("config", GEOMETRIES.values(), ids=GEOMETRIES)
def test_forces_are_the_derivative_and_finite_for_one_atom(config):
    config = config.model_copy(update={"radius": 2.6, "layer_scale": 0.7})
    network, atoms, step = load_reference(random_weights(config), config), ethanol(), 1e-5
    forces = network.energy_and_forces(*molecule_inputs(atoms, 2.6))[1].numpy()

    def energy(shift):
        moved = atoms.copy()
        moved.positions[3, 1] += shift
        return float(network.energy_and_forces(*molecule_inputs(moved, 2.6))[0])

    assert forces[3, 1] == pytest.approx((energy(-step) - energy(step)) / (2 * step), abs=1e-8)
    assert not network.energy_and_forces(*molecule_inputs(atoms[:1], 2.6))[1].any()


def turned_inputs(atoms, matrix, vectors):
    turned = atoms.copy()
    turned.positions = atoms.positions @ matrix.T
    return [*molecule_inputs(turned, 2.6), vectors @ matrix.T]


def test_the_point_cloud_is_exactly_equivariant_and_the_bundle_is_not():
    changes = {"input_dim": 11, "output_dim_vec": 2, "task_level": "node", "radius": 2.6}
    atoms, vectors = ethanol(), np.random.default_rng(1).normal(size=(9, 2, 3))
    matrix = -Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    errors = {}
    for name in ("cloud", "bundle"):
        config = GEOMETRIES[name].model_copy(update=changes)
        network = load_reference(random_weights(config), config)
        results = [
            {**network.outputs(*arguments), "forces": network.energy_and_forces(*arguments)[1]}
            for arguments in (turned_inputs(atoms, np.eye(3), vectors), turned_inputs(atoms, matrix, vectors))
        ]
        pairs = ((results[0][key].numpy(), results[1][key].numpy()) for key in ("scalar_out", "vector_out", "forces"))
        errors[name] = [abs(b - (a if a.shape[-1] == 1 else a @ matrix.T)).max() / abs(a).max() for a, b in pairs]
    assert max(errors["cloud"]) < 1e-12
    assert min(errors["bundle"]) > 1e-4


def gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def monomials(values, degree):
    powers = [list(values)]
    for _ in range(1, degree):
        powers.append([a * b for a in powers[-1] for b in values])
    return np.concatenate(powers)


def cloud_by_loops(w, config, positions, features, edge_index, vectors):
    """The point cloud, one pair of nodes at a time: (scalars [n_atoms, S], vectors [n_atoms, V, 3])."""
    pairs = {(int(j), int(i)) for j, i in edge_index.T}
    nodes = [(i, (positions[j] - positions[i]) / np.linalg.norm(positions[j] - positions[i])) for j, i in sorted(pairs) if i != j]
    f = [w["x_embedder.weight"] @ np.concatenate([features[i], vectors[i] @ n]) for i, n in nodes]
    readouts = []
    for layer in range(config.num_layers):
        p = f"interaction_layers.{layer}."
        updated = []
        for receiver, (i, n) in enumerate(nodes):
            m = np.zeros(config.hidden_dim)
            for sender, (j, sent) in enumerate(nodes):
                if (j, i) not in pairs:
                    continue
                r = positions[j] - positions[i]
                u = np.linalg.norm(r) / config.radius
                invariants = (r @ n, np.linalg.norm(r - (r @ n) * n), sent @ n)
                hidden = gelu(w["basis_fn.1.weight"] @ monomials(invariants, config.degree) + w["basis_fn.1.bias"])
                basis = gelu(w["basis_fn.3.weight"] @ hidden + w["basis_fn.3.bias"])
                basis = basis * ((1 - 28 * u**6 + 48 * u**7 - 21 * u**8) if u < 1 else 0.0)
                m += (w[p + "conv.kernel.weight"] @ basis) * f[sender]
            y = m + w[p + "conv.bias"]
            z = (y - y.mean()) / math.sqrt(y.var() + 1e-5) * w[p + "norm.weight"] + w[p + "norm.bias"]
            z = w[p + "linear_2.weight"] @ gelu(w[p + "linear_1.weight"] @ z + w[p + "linear_1.bias"]) + w[p + "linear_2.bias"]
            updated.append(f[receiver] + w[p + "layer_scale"] * z)
        f = updated
        r = f"read_out_layers.{layer}."
        readouts.append([w[r + "weight"] @ value + w[r + "bias"] for value in f])
    rho = np.mean(readouts, axis=0)
    scalars, outputs = [], []
    for atom in range(len(positions)):
        mine = [(rho[k], n) for k, (i, n) in enumerate(nodes) if i == atom]
        scalars.append(np.mean([value[: config.output_dim] for value, _ in mine], axis=0))
        outputs.append(np.mean([np.outer(value[config.output_dim :], n) for value, n in mine], axis=0))
    return np.array(scalars), np.array(outputs)


def test_the_point_cloud_follows_its_formulas():
    changes = {"input_dim": 11, "output_dim": 2, "output_dim_vec": 1, "task_level": "node", "radius": 2.6, "layer_scale": 1.0, "degree": 3}
    config = CLOUD.model_copy(update=changes)
    weights, arguments = random_weights(config), molecule_inputs(ethanol(), 2.6)
    vectors = np.random.default_rng(1).normal(size=(9, 2, 3))
    result = load_reference(weights, config).outputs(*arguments, vectors)
    scalars, outputs = cloud_by_loops(weights, config, *arguments[1:], vectors)
    np.testing.assert_allclose(result["scalar_out"], scalars, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["vector_out"], outputs, rtol=0, atol=1e-12)


def test_weights_that_do_not_fit_the_configuration_are_named():
    weights, config = golden("C_options_weights"), golden_config("C_options")
    name = "interaction_layers.1.conv.fiber_kernel.weight"
    with pytest.raises(ModelFileError, match=rf"{name} of shape \(12, 10\) is missing"):
        load_reference({key: value for key, value in weights.items() if key != name}, config)
    with pytest.raises(ModelFileError, match="ori_grid.*transform"):
        load_reference({key: value for key, value in weights.items() if key != "ori_grid"}, config)
    with pytest.raises(ModelFileError, match=rf"{name} has shape \(12, 9\).*\(12, 10\)"):
        load_reference({**weights, name: weights[name][:, :9]}, config)
    with pytest.raises(ModelFileError, match=f"{name} is not finite"):
        load_reference({**weights, name: weights[name] * np.nan}, config)
    with pytest.raises(ModelFileError, match="r_max is 3 Å and the configuration's radius 4 Å"):
        load_reference(weights, {**config, "radius": 4.0})
    for changes in ({"radius": None}, {"layer_scale": None}, {"num_layers": 2}, {"num_ori": 0}):
        with pytest.raises(ModelFileError, match="no place for the weight"):
            load_reference(weights, {**config, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_dim": None}, "hidden_dim"),
        ({"num_ori": -2}, "num_ori"),
        ({"task_level": "atom"}, "task_level"),
        ({"degree": 0}, "degree"),
        ({"radius": -1.0}, "radius"),
    ],
)
def test_impossible_configurations_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        load_reference(golden("C_options_weights"), {**golden_config("C_options"), **changes})


def test_inputs_that_do_not_fit_are_refused():
    network, arguments = load_reference(random_weights(BUNDLE), BUNDLE), molecule_inputs(ethanol())
    with pytest.raises(DataError, match=r"node_features has shape \(9, 8\)"):
        network.energy_and_forces(*arguments[:2], arguments[2][:, :8], arguments[3])
    with pytest.raises(DataError, match="positions holds NaN"):
        network.energy_and_forces(arguments[0], arguments[1] * np.nan, *arguments[2:])
    with pytest.raises(DataError, match=r"atoms 0 \.\.\. 8"):
        network.energy_and_forces(*arguments[:3], arguments[3] + 1)
    with pytest.raises(DataError, match="positions only"):
        load_reference(random_weights(POSITIONS), POSITIONS).energy_and_forces(*arguments, np.zeros((9, 1, 3)))
    silent = BUNDLE.model_copy(update={"output_dim": 0, "output_dim_vec": 1})
    with pytest.raises(ConfigError, match="no scalar output"):
        load_reference(random_weights(silent), silent).energy_and_forces(*arguments)


def test_tensors_and_arrays_give_the_same():
    network, arguments = load_reference(random_weights(BUNDLE), BUNDLE), molecule_inputs(ethanol())
    expected = network.energy_and_forces(*arguments)
    with torch.no_grad():
        found = network.energy_and_forces(*(torch.as_tensor(value) for value in arguments))
    assert torch.equal(found[1], expected[1])
    assert found[0].dtype == found[1].dtype == torch.float64

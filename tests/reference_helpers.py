"""Golden files and random weights of the reference form."""

import json

import numpy as np
import torch

from eqpot.network.reference import build_reference
from eqpot.network.reference_config import ReferenceConfig
from helpers import ROOT

GOLDEN = ROOT / "tests" / "network" / "golden"

BUNDLE = ReferenceConfig(input_dim=9, hidden_dim=6, output_dim=1, num_layers=2, num_ori=5, basis_dim=7, degree=2, widening_factor=2)
POSITIONS = BUNDLE.model_copy(update={"num_ori": 0})
CLOUD = BUNDLE.model_copy(update={"num_ori": -1})
GEOMETRIES = {"bundle": BUNDLE, "positions": POSITIONS, "cloud": CLOUD}


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def golden_config(name):
    return json.loads((GOLDEN / f"{name}_config.json").read_text())


def inputs(molecule):
    return [molecule.get(key) for key in ("numbers", "positions", "node_features", "edge_index", "input_vectors")]


def random_weights(config, seed=0):
    """Weights under which every part of the network matters."""
    torch.manual_seed(seed)
    network = build_reference(config).double()
    weights = {}
    for name, tensor in network.state_dict().items():
        noise = torch.randn_like(tensor)
        weights[name] = {"windowing_fn": tensor, "ori_grid": torch.nn.functional.normalize(noise, dim=-1)}.get(
            name.split(".", maxsplit=1)[0], 1.2 * tensor + 0.2 * noise if tensor.dim() == 1 else 1.5 * tensor
        )
    return {name: tensor.numpy() for name, tensor in weights.items()}


def molecule_inputs(atoms, radius=None, channels=9):
    """Inputs of the reference network for ASE atoms; self edges included."""
    distances = atoms.get_all_distances()
    target, source = np.nonzero(distances < (radius or np.inf))
    return [atoms.numbers, atoms.positions, np.eye(channels)[atoms.numbers], np.stack([source, target])]

"""What a run starts from: the frames of its split, and a potential with fresh weights or those of a model file."""

import fnmatch
import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from eqpot.data import Frame, check_residuals, elements_of, fit_reference_energies, fit_scale, is_isolated_atom, read_frames
from eqpot.data.doctor.labels import check_stress
from eqpot.elements import symbols_of
from eqpot.errors import ConfigError, DataError
from eqpot.kernels.fibre_bundle import lanes_of
from eqpot.model_file import load_potential, read_header
from eqpot.network.base import Network
from eqpot.network.build import build_network
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.potential import DTYPES, Potential
from eqpot.training.config import TrainConfig

logger = logging.getLogger(__name__)


def read_split(config: TrainConfig) -> tuple[list[Frame], list[Frame]]:
    """Return training and validation frames as the configuration says; DataError when there are too few."""
    data = config.data
    frames = read_frames([entry.source() for entry in data.train], cache=data.cache)
    # Isolated atoms define the references: they are trained on, whatever the split, and not counted.
    apart = data.reference_energies == "isolated_atoms"
    isolated = [frame for frame in frames if apart and is_isolated_atom(frame.atoms)]
    frames = [frame for frame in frames if not (apart and is_isolated_atom(frame.atoms))]
    order = np.arange(len(frames))
    if data.split == "random":
        order = np.random.default_rng(config.seed).permutation(order)
    if data.valid is not None:
        valid = read_frames([entry.source() for entry in data.valid], cache=data.cache)
        if data.n_valid is not None and data.n_valid > len(valid):
            raise DataError(f"{data.n_valid} validation frames are asked for, and the files hold {len(valid)}; lower n_valid.")
        valid = valid[: data.n_valid]
        n_valid = 0
    else:
        n_valid = data.n_valid or max(1, round(0.05 * len(frames)))
    n_train = data.n_train if data.n_train is not None else len(frames) - n_valid
    if data.n_train is None and n_train < 1:
        held = "1 frame" if len(frames) == 1 else f"{len(frames)} frames"
        raise DataError(
            f"The files hold {held} to train on; add some."
            if data.valid is not None
            else f"The files hold {held}, too few to keep {n_valid} for validation and train on others; name others in data.valid."
        )
    if n_train < 1 or n_train + n_valid > len(frames):
        raise DataError(
            f"{n_train} training and {n_valid} validation frames are asked for, and the files hold {len(frames)}; lower n_train or n_valid."
        )
    if data.valid is None:
        valid = [frames[i] for i in order[n_train : n_train + n_valid]]
    train = [*(frames[i] for i in order[:n_train]), *isolated]
    unknown = set(elements_of(valid)) - set(elements_of(train))
    if unknown:
        raise DataError(
            f"The validation frames hold elements that the training frames lack (atomic numbers {sorted(unknown)}); split differently."
        )
    for finding in check_stress(train):
        logger.warning("%s", finding.message)
    return train, valid


def resolve(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the network of `init`, if there is one; ConfigError, with the difference, where it asks for another."""
    if config.init is None:
        if config.data.reference_energies == "keep":
            raise ConfigError("data.reference_energies is keep, and there is no init whose energies could be kept; name one or fit them.")
        return config
    header = read_header(config.init)
    if not isinstance(header.network, NetworkConfig) or header.radial_table is not None:
        kind = "a converted network" if header.radial_table is None else "tables for radial functions"
        raise ConfigError(f"The potential {config.init} has {kind} and cannot be trained; start from one that eqpot train wrote.")
    asked, there = config.network, header.network
    differences = [
        f"network.{key}: {getattr(there, key)} -> {getattr(asked, key)}"
        for key in sorted(asked.model_fields_set)
        if getattr(there, key) != getattr(asked, key)
    ]
    if differences:
        raise ConfigError(f"The network of {config.init} is another ({'; '.join(differences)}); leave these keys out.")
    return config.model_copy(update={"network": there})


def start_potential(config: TrainConfig, frames: Sequence[Frame], average_neighbors: float) -> Potential:
    """Return the potential that training starts from, for a resolved configuration."""
    torch.manual_seed(config.seed)
    if config.init is not None:
        return continued_potential(config, frames)
    method = config.data.reference_energies
    assert method != "keep"
    elements = elements_of(frames)
    references = fit_reference_energies(frames, method)
    scale = fit_scale(frames)
    network = build_network(config.network, len(elements), average_neighbors)
    dtype = DTYPES[config.dtype]
    if isinstance(network, FibreBundleNetwork) and config.network.n_channels % (lanes := lanes_of(dtype)):
        logger.warning(
            "network.n_channels is %d, and the fused kernel, which makes evaluation faster, takes multiples of %d in %s.",
            config.network.n_channels,
            lanes,
            config.dtype,
        )
    return Potential(network, elements, torch.from_numpy(references), scale).to(config.device, dtype)


def continued_potential(config: TrainConfig, frames: Sequence[Frame]) -> Potential:
    """Return the potential of `init` with the elements of the frames that it lacks; ConfigError or DataError where it cannot be.

    Weights and scale are those of the file, so the network's part of the energy of known elements is unchanged. New elements receive
    random embeddings.
    """
    assert config.init is not None
    old = load_potential(config.init, dtype=config.dtype)
    elements = [*old.elements, *(number for number in elements_of(frames) if number not in old.elements)]
    network = old.network
    if len(elements) > len(old.elements):
        orientations = network.stored_orientations()
        network = build_network(config.network, len(elements), network.average_neighbors, orientations).to(old.dtype)
        _copy_rows(old.network, network)
    references = _continued_references(config, frames, old, elements)
    potential = Potential(network, elements, references, float(old.scale)).to(config.device, DTYPES[config.dtype])
    potential.shortest_distances = old.shortest_distances
    return potential


def _copy_rows(old: Network, new: Network) -> None:
    """Copy all weights; tables of elements are longer in `new` and keep their random rows there."""
    tables = {id(module.weight) for module in new.modules() if isinstance(module, nn.Embedding)}
    with torch.no_grad():
        for (_, source), (_, target) in zip(old.named_parameters(), new.named_parameters(), strict=True):
            (target[: len(source)] if id(target) in tables else target).copy_(source)


def _continued_references(config: TrainConfig, frames: Sequence[Frame], old: Potential, elements: Sequence[int]) -> torch.Tensor:
    """Return reference energies [n_elements]: the old ones with new elements fitted to the rest, or fitted anew to the frames.

    Elements that the frames lack keep theirs.
    """
    kept = dict(zip(old.elements, old.reference_energies.tolist(), strict=True))
    there = elements_of(frames)
    method = config.data.reference_energies
    if method != "keep":
        fitted = dict(zip(there, fit_reference_energies(frames, method).tolist(), strict=True))
        return torch.tensor([fitted.get(number, kept.get(number, 0.0)) for number in elements], dtype=torch.float64)
    new = [number for number in there if number not in kept]
    if new:
        frames = [frame for frame in frames if frame.energy is not None]
        counts = np.array([[np.count_nonzero(frame.atoms.numbers == number) for number in new] for frame in frames], dtype=float)
        rest = np.array([frame.energy - sum(kept.get(int(number), 0.0) for number in frame.atoms.numbers) for frame in frames])
        if np.linalg.matrix_rank(counts) < len(new):
            raise DataError(
                f"The frames' compositions cannot determine the reference energies of the new elements {', '.join(symbols_of(new))}; "
                "give isolated-atom energies in data.reference_energies."
            )
        kept.update(zip(new, np.linalg.lstsq(counts, rest, rcond=None)[0].tolist(), strict=True))
    references = torch.tensor([kept[number] for number in elements], dtype=torch.float64)
    check_residuals(frames, elements, references.numpy())
    return references


def trained_names(network: Network, freeze: Sequence[str]) -> list[str]:
    """Return the names of the parameters that are trained; ConfigError for a pattern that matches none, or if none is left."""
    names = [name for name, _ in network.named_parameters()]
    frozen: set[str] = set()
    for pattern in freeze:
        matched = set(fnmatch.filter(names, pattern.removeprefix("!")))
        if not matched:
            parts = dict.fromkeys(name.split(".")[0] for name in names)
            raise ConfigError(f"training.freeze: no parameter matches {pattern!r}; the network's parts are {', '.join(parts)}.")
        frozen = frozen - matched if pattern.startswith("!") else frozen | matched
    if len(frozen) == len(names):
        raise ConfigError("training.freeze: all parameters are frozen, so there is nothing to train; exempt some, such as '!*readout*'.")
    return [name for name in names if name not in frozen]

"""Model files of networks that other programs trained."""

import hashlib
import json
import logging
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eqpot.elements import MAX_ATOMIC_NUMBER, numbers_of
from eqpot.errors import ConfigError, ModelFileError
from eqpot.model_file import save_potential
from eqpot.network.ponita import PonitaNetwork
from eqpot.network.reference import load_reference
from eqpot.potential import Potential

logger = logging.getLogger(__name__)


def convert_ponita(
    weights: str | Path,
    config: str | Path,
    output: str | Path,
    scale: float = 1.0,
    shift: float = 0.0,
    elements: Sequence[str] | None = None,
) -> Potential:
    """Write a model file of a checkpoint of the official PONITA code and return its potential.

    weights: npz of the official state_dict with `ori_grid`; config: JSON of the arguments of the official `Ponita`. The network's input
    must be the official one of rMD17: an atom's only feature is one-hot, its channel the atomic number. Energies become
    sum_i (scale * s_i + shift), with s_i the atomic share of the first scalar output; scale in eV per unit, shift in eV per atom. (The
    official training takes the mean energy of its structures off, all of one molecule: divide it by the number of atoms.)
    elements: symbols of those in the training data, as channels of others hold untrained weights; by default all channels.

    Raises ConfigError for a configuration that is none of an energy of atoms, ModelFileError for weights that cannot be read or do
    not fit the configuration.
    """
    if not (0 < scale < math.inf and math.isfinite(shift)):
        raise ConfigError(f"The scale is {scale} and the shift {shift}; the scale must be positive, and both finite.")
    arrays = _read_weights(Path(weights))
    reference = load_reference(arrays, _read_config(Path(config)))
    numbers = _numbers(elements, reference.config.input_dim)
    network = PonitaNetwork(reference.config, numbers).double()
    network.reference = reference
    potential = Potential(network, numbers, torch.full([len(numbers)], shift, dtype=torch.float64), scale)
    if all(array.dtype != np.float64 for array in arrays.values()):
        potential.float()
    provenance = {
        "converted_from": "PONITA, github.com/ebekkers/ponita",
        "weights_sha256": hashlib.sha256(Path(weights).read_bytes()).hexdigest(),
    }
    if reference.config.num_ori < 0 and reference.config.radius is not None:
        logger.warning(
            "Energy and forces of a point cloud jump where a neighbour reaches the radius, as its outputs are means over the edges of an "
            "atom, so dynamics with it do not conserve energy."
        )
    save_potential(potential, output, provenance)
    return potential


def _numbers(elements: Sequence[str] | None, input_dim: int) -> list[int]:
    if elements is None:
        return list(range(1, min(input_dim, MAX_ATOMIC_NUMBER + 1)))
    try:
        return sorted(set(numbers_of(elements)))
    except KeyError as error:
        raise ConfigError(f"{error.args[0]!r} is no chemical symbol; give elements such as H,C,O.") from error


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ModelFileError(f"The weights {path} are a single array; write all of them with numpy.savez.")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ModelFileError(f"There is no file {path} of weights; check the path.") from error
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelFileError(
            f"The weights {path} cannot be read as npz ({' '.join(str(error).split())}); write them with numpy.savez."
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}; check the path.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read as JSON ({' '.join(str(error).split())}); correct it.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The configuration file {path} must hold keys and values, the arguments of the official network.")
    return values

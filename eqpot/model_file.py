"""Model files: weights in safetensors, everything else in a JSON header; no pickle anywhere."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from eqpot.elements import numbers_of, symbols_of
from eqpot.errors import ConfigError, ModelFileError
from eqpot.files import write_atomically
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.potential import DTYPES, Potential

FORMAT_VERSION = 1
_HEADER_KEY = "eqpot"


def save_potential(potential: Potential, path: str | Path, training: dict[str, Any] | None = None) -> None:
    """Write a potential to `path`, atomically: an interrupted call leaves an earlier file as it was.

    training: what made the weights, such as {"data_sha256": ..., "frames": ...}; anything JSON can hold.
    """
    network = potential.network
    header = {
        "format_version": FORMAT_VERSION,
        "architecture": "fibre_bundle",
        "network": network.config.model_dump(),
        "average_neighbors": network.average_neighbors,
        "elements": symbols_of(potential.elements),
        "scale": float(potential.scale),
        "cutoff": potential.cutoff,
        "units": {"energy": "eV", "length": "angstrom"},
        "dtype": str(potential.dtype).removeprefix("torch."),
        "versions": {"eqpot": version("eqpot"), "torch": version("torch"), "python": platform.python_version()},
        "training": training or {},
    }
    tensors = {f"network.{name}": tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    tensors["orientations"] = network.grid.exact_orientations
    tensors["reference_energies"] = potential.reference_energies.detach().cpu()
    write_atomically(Path(path), save(tensors, metadata={_HEADER_KEY: json.dumps(header)}))


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the header of a model file without reading its weights; ModelFileError as in `load_potential`."""
    return _read(Path(path), tensors=False)[0]


def load_potential(path: str | Path, device: str = "cpu", dtype: str | None = None) -> Potential:
    """Read a potential from a model file.

    dtype: "float32" or "float64" for the network; by default that of the file. Loading takes no code from the file.

    Raises ModelFileError for a file that is missing, damaged, not one of eqpot's, or of a newer format; ConfigError for an
    unknown dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"The dtype is {dtype!r}; use one of {', '.join(DTYPES)}.")
    header, tensors = _read(Path(path), tensors=True)
    try:
        network = FibreBundleNetwork(
            NetworkConfig(**header["network"]), len(header["elements"]), header["average_neighbors"], tensors.pop("orientations")
        )
        potential = Potential(network, numbers_of(header["elements"]), tensors.pop("reference_energies"), header["scale"])
        potential.to(dtype=DTYPES[dtype or header["dtype"]])
        network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in tensors.items()})
    except (KeyError, TypeError, RuntimeError, ConfigError, ValidationError) as error:
        raise ModelFileError(f"The model file {path} does not hold together ({_first_line(error)}); fetch or export it again.") from error
    return potential.to(device).eval().requires_grad_(False)


def _read(path: Path, tensors: bool) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise ModelFileError(f"There is no model file {path}; check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            contents = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"The model file {path} is damaged or not a safetensors file ({_first_line(error)}); fetch or export it again."
        ) from error
    try:
        header = json.loads(metadata[_HEADER_KEY])
        format_version = int(header["format_version"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"The file {path} is a safetensors file but not one of eqpot's: it has no eqpot header.") from error
    if format_version > FORMAT_VERSION:
        raise ModelFileError(
            f"The model file {path} has format version {format_version}, and eqpot {version('eqpot')} reads up to {FORMAT_VERSION}; "
            "upgrade eqpot."
        )
    return header, contents


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

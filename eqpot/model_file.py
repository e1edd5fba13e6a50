"""Model files: weights in safetensors, everything else in a JSON header; no pickle anywhere."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from eqpot.config_file import explain
from eqpot.elements import numbers_of, symbols_of
from eqpot.errors import ConfigError, ModelFileError
from eqpot.files import write_atomically
from eqpot.network.base import Network
from eqpot.network.build import build_network
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.network.orientations import design_residual, required_degree
from eqpot.network.ponita import PonitaNetwork
from eqpot.network.radial_table import SUPPORT, TabulatedRadial, tabulate
from eqpot.network.reference_config import ReferenceConfig
from eqpot.potential import DTYPES, Potential, check_device
from eqpot.shipped import model_path, shipped
from eqpot.uncertainty import Uncertainty, UncertaintyRecord, check_directions

FORMAT_VERSION = 4
_HEADER_KEY = "eqpot"
_DIRECTIONS = "uncertainty.directions"
_UNITS = {"energy": "eV", "length": "angstrom"}
_CONFIGS: dict[str, type[NetworkConfig | ReferenceConfig]] = {
    "fibre_bundle": NetworkConfig,
    "point_cloud": NetworkConfig,
    "position": NetworkConfig,
    "ponita": ReferenceConfig,
}


class RadialTable(BaseModel):
    """Radial functions that are tables, and how far they are from the network they were made of (see `eqpot.compress`)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    n_intervals: int = Field(ge=1)
    deviations: dict[str, float]


class ModelHeader(BaseModel):
    """What a model file says about itself; loading checks it against the tensors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format_version: int = Field(ge=1)
    architecture: Literal["fibre_bundle", "point_cloud", "position", "ponita"]
    network: NetworkConfig | ReferenceConfig
    average_neighbors: float = Field(gt=0)
    elements: list[str] = Field(min_length=1)
    scale: float = Field(gt=0)
    cutoff: float | None
    units: dict[str, str]
    dtype: Literal["float32", "float64"]
    versions: dict[str, str]
    training: dict[str, Any]
    shortest_distances: dict[str, float] = {}
    radial_table: RadialTable | None = None
    uncertainty: UncertaintyRecord | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_network(cls, values: Any) -> Any:
        config = _CONFIGS.get(str(values.get("architecture"))) if isinstance(values, dict) else None
        if config is None or not isinstance(values.get("network"), dict):
            return values
        # Format 1 had one geometry and one block, whatever today's defaults are.
        unsaid = {"geometry": "fibre_bundle", "block": "exact"} if values.get("format_version") == 1 else {}
        try:
            return {**values, "network": config.model_validate({**unsaid, **values["network"]})}
        except ValidationError as error:
            raise ValueError(f"network: {explain(config, error)}") from error

    @model_validator(mode="after")
    def _check(self) -> "ModelHeader":
        strangers = [symbol for symbol in self.elements if symbol not in chemical_symbols[1:]]
        if strangers or len(set(self.elements)) < len(self.elements):
            raise ValueError(f"the elements {', '.join(self.elements)} are not distinct elements")
        if isinstance(self.network, NetworkConfig) and self.architecture != self.network.geometry:
            raise ValueError(f"the architecture is {self.architecture} and the geometry of the network {self.network.geometry}")
        if self.cutoff != self.network.cutoff:
            raise ValueError(f"the cutoff is {self.cutoff} and that of the network {self.network.cutoff}")
        pairs = [f"{first}-{second}" for first in self.elements for second in self.elements]
        if not all(name in pairs and distance > 0 for name, distance in self.shortest_distances.items()):
            raise ValueError("the shortest distances are not positive ones of pairs of these elements")
        if self.units != _UNITS:
            raise ValueError(f"the units are {self.units}")
        return self


def save_potential(
    potential: Potential, path: str | Path, training: dict[str, Any] | None = None, uncertainty: Uncertainty | None = None
) -> None:
    """Write a potential to `path`, atomically: an interrupted call leaves an earlier file as it was.

    Raises ConfigError for a network in another dtype than float32 and float64.

    training: what made the weights, such as {"data_sha256": ..., "frames": ...}; anything JSON can hold. uncertainty: of these weights.
    """
    network = potential.network
    names = {dtype: name for name, dtype in DTYPES.items()}
    if potential.dtype not in names:
        raise ConfigError(f"The network is in {potential.dtype}, and model files hold {' or '.join(DTYPES)}; convert it before.")
    header = ModelHeader(
        format_version=FORMAT_VERSION,
        architecture=network.architecture,
        network=network.config,
        average_neighbors=network.average_neighbors,
        elements=symbols_of(potential.elements),
        scale=float(potential.scale),
        cutoff=network.config.cutoff,
        units=_UNITS,
        dtype=names[potential.dtype],
        versions={"eqpot": version("eqpot"), "torch": version("torch"), "python": platform.python_version()},
        training=training or {},
        shortest_distances=potential.shortest_distances,
        radial_table=_radial_table(network),
        uncertainty=uncertainty.record if uncertainty else None,
    )
    tensors = {f"network.{name}": tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    orientations = network.stored_orientations()
    if orientations is not None:
        tensors["orientations"] = orientations
    tensors["reference_energies"] = potential.reference_energies.detach().cpu()
    if uncertainty is not None:
        tensors[_DIRECTIONS] = uncertainty.directions.detach().cpu().contiguous()
    write_atomically(Path(path), save(tensors, metadata={_HEADER_KEY: header.model_dump_json()}))


def read_header(path: str | Path) -> ModelHeader:
    """Return the header of a model file without reading its weights; ModelFileError as in `load_potential`."""
    return _read(Path(path), tensors=False)[0]


@torch.inference_mode(False)  # a caller's inference mode would make weights that no gradient can pass
def load_potential(path: str | Path, device: str = "cpu", dtype: str | None = None) -> Potential:
    """Read a potential from a model file, or a shipped one by its name, such as "silicon" (see `eqpot.shipped`).

    dtype: "float32" or "float64" for the network; by default that of the file. Loading takes no code from the file.

    Raises ModelFileError for a file that is missing, damaged, not one of eqpot's, of a newer format, or whose parts do not fit
    together; ConfigError for an unknown dtype or device.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"The dtype is {dtype!r}; use one of {', '.join(DTYPES)}.")
    check_device(device)
    header, tensors = _read(Path(path), tensors=True)
    try:
        _check_size(header.network, tensors)
        _check_tensors(header, tensors)
        orientations, references = tensors.pop("orientations", None), tensors.pop("reference_energies")
        # The random weights that are about to be replaced must not advance the caller's generator, nor go to the default device.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            network = _build_network(header, tensors, orientations)
            potential = Potential(network, numbers_of(header.elements), references, header.scale)
        potential.to(dtype=DTYPES[dtype or header.dtype])
        directions = tensors.pop(_DIRECTIONS, None)
        if directions is not None:
            check_directions(network, directions)
        network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in tensors.items()})
    except (KeyError, RuntimeError, ValueError, ConfigError) as error:
        raise ModelFileError(f"The model file {path} does not hold together ({_first_line(error)}); fetch or export it again.") from error
    potential.shortest_distances = header.shortest_distances
    potential.to(device).eval().requires_grad_(False)
    potential.fuse()
    return potential


def load_uncertainty(path: str | Path) -> Uncertainty | None:
    """Return the uncertainty of the potential at `path`, or None where it is not calibrated; ModelFileError as in `load_potential`."""
    header, tensors = _read(Path(path), tensors=True)
    if header.uncertainty is None:
        return None
    if _DIRECTIONS not in tensors:
        raise ModelFileError(f"The model file {path} does not hold the uncertainty that its header names; fetch or calibrate it again.")
    return Uncertainty(tensors[_DIRECTIONS], header.uncertainty)


def _build_network(header: ModelHeader, tensors: dict[str, torch.Tensor], orientations: torch.Tensor | None) -> Network:
    """Return the network of the header without its weights; ValueError where the tensors belong to another."""
    if isinstance(header.network, NetworkConfig):
        network = build_network(header.network, len(header.elements), header.average_neighbors, orientations)
        if header.radial_table is None:
            return network
        if not isinstance(network, FibreBundleNetwork):
            raise ConfigError("radial tables belong to the exact fibre bundle")
        # Before memory is taken for as many as the header says.
        if tensors["network.radial.coefficients"].shape[1] != header.radial_table.n_intervals + SUPPORT:
            raise ConfigError("the radial tables do not have the intervals that the header says")
        tabulated = tabulate(network, header.radial_table.n_intervals, fill=False)
        assert isinstance(tabulated.radial, TabulatedRadial)
        tabulated.radial.deviations = header.radial_table.deviations
        return tabulated
    ponita = PonitaNetwork(header.network, numbers_of(header.elements))
    if not torch.equal(tensors["network.embedding.weight"].double(), ponita.embedding.weight.double()):
        raise ValueError("the input features are not those of the elements")
    return ponita


def _radial_table(network: Network) -> RadialTable | None:
    radial = network.radial if isinstance(network, FibreBundleNetwork) else None
    return RadialTable(n_intervals=radial.n_intervals, deviations=radial.deviations) if isinstance(radial, TabulatedRadial) else None


def _check_size(network: NetworkConfig | ReferenceConfig, tensors: dict[str, torch.Tensor]) -> None:
    """Raise ValueError, before memory is taken for it, for a network of more weights than there are."""
    if isinstance(network, NetworkConfig):
        n_layers, width = network.n_blocks, network.n_channels
    else:
        n_layers, width = network.num_layers, network.hidden_dim
    # Every layer mixes its channels.
    if n_layers * width**2 > sum(tensor.numel() for tensor in tensors.values()):
        raise ValueError("the network of the header has more weights than the file")


def _check_tensors(header: ModelHeader, tensors: dict[str, torch.Tensor]) -> None:
    """Raise ValueError for tensors that would load and give wrong numbers."""
    network = header.network
    if tensors["reference_energies"].shape != (len(header.elements),):
        raise ValueError(f"there are reference energies of shape {tuple(tensors['reference_energies'].shape)}")
    if (_DIRECTIONS in tensors) != (header.uncertainty is not None):
        raise ValueError("the header and the tensors disagree on the uncertainty")
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{name} is in {str(tensor.dtype).removeprefix('torch.')}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite")
    if not isinstance(network, NetworkConfig) or network.geometry != "fibre_bundle":
        return
    if tensors["orientations"].shape != (network.n_orientations, 3) or tensors["orientations"].dtype != torch.float64:
        raise ValueError("the orientations are not [n_orientations, 3] in float64")
    needed = required_degree(network.feature_degree, network.kernel_degree)
    if network.block == "exact" and design_residual(tensors["orientations"], needed) > 1e-10:
        raise ValueError("the orientations are not the spherical design that equivariance needs")


def _read(path: Path, tensors: bool) -> tuple[ModelHeader, dict[str, torch.Tensor]]:
    path = model_path(path)
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.glob("*.safetensors"))) or "none"
        raise ModelFileError(f"{path} is a folder; name a model file in it (*.safetensors there: {inside[:200]}).")
    if not path.is_file():
        known = ", ".join(shipped())
        raise ModelFileError(f"There is no model file {path}; check the path{f', or name a shipped potential ({known})' if known else ''}.")
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
        newer = header["format_version"] > FORMAT_VERSION
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"The file {path} is a safetensors file but not one of eqpot's: it has no eqpot header.") from error
    if newer:
        raise ModelFileError(
            f"The model file {path} has format version {header['format_version']}, and eqpot {version('eqpot')} reads up to "
            f"{FORMAT_VERSION}; upgrade eqpot."
        )
    try:
        return ModelHeader.model_validate(header), contents
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ModelFileError(
            f"The header of the model file {path} is wrong ({where} {problem['msg']}); fetch or export it again."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

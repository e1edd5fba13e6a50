"""Data sources as a configuration names them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eqpot.data.labels import LabelKeys, Units
from eqpot.data.read import Source


class SourceConfig(BaseModel):
    """A data file, or several that share their labels' names and units."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path = Field(description="Data file: extxyz or anything ASE reads, rMD17 npz, VASP output, ASE database, JSON of pymatgen.")
    weight: float = Field(1.0, gt=0, description="Weight of the file's frames in the loss.")
    energy_key: str | None = Field("energy", description="Name of the energy in the file; null if its energies are not to be used.")
    forces_key: str | None = Field("forces", description="Name of the forces; null if they are not to be used.")
    stress_key: str | None = Field("stress", description="Name of the stress, which frames may lack; null if it is not to be used.")
    virial_key: str | None = Field(None, description="Name of the virial, -V stress, to be used instead of a stress.")
    units: Units | None = Field(
        None, description="Units of labels and structures; those not named are the format's: eV and Å, kcal/mol in npz files."
    )

    def source(self) -> Source:
        """Return what `read_frames` reads."""
        return Source(self.path, self.weight, LabelKeys(self.energy_key, self.forces_key, self.stress_key, self.virial_key, self.units))


_SHARED = ("energy_key", "forces_key", "stress_key", "virial_key", "units")


def fill_sources(values: Any) -> Any:
    """Return the values of a data section in which every file is a mapping with all its keys: its own, or else the section's."""
    if not isinstance(values, Mapping):
        return values
    filled = dict(values)
    shared = {key: values[key] for key in _SHARED if key in values}
    for name in ("train", "valid", "test"):
        entries = values.get(name)
        if entries is None:
            continue
        entries = entries if isinstance(entries, list | tuple) else [entries]
        filled[name] = [
            _merged(shared, entry) if isinstance(entry, Mapping) else {**shared, "path": entry} if isinstance(entry, str | Path) else entry
            for entry in entries
        ]
    return filled


def bare_sources(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dumped values of a data section without what `fill_sources` fills in, so that a key of the section reaches its files."""
    bare = dict(values)
    for name in ("train", "valid", "test"):
        entries = values.get(name)
        if entries is not None:
            bare[name] = [{key: value for key, value in entry.items() if key not in _SHARED or value != values[key]} for entry in entries]
    return bare


def _merged(shared: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a file, its own first; of units each by itself."""
    merged = {**shared, **entry}
    both = shared.get("units"), entry.get("units")
    if all(isinstance(units, Mapping) for units in both):
        merged["units"] = {**both[0], **{name: unit for name, unit in both[1].items() if unit is not None}}  # type: ignore[dict-item, union-attr]
    return merged

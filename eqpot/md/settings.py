"""What a simulation is told; every key with its type, default, bounds and help."""

import secrets
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eqpot.config_file import explain
from eqpot.errors import ConfigError
from eqpot.md.watchdog import WatchdogSettings

METHODS = {
    "nve": ("velocity_verlet",),
    "nvt": ("langevin", "velocity_rescaling", "nose_hoover"),
    "npt": ("cell_rescaling", "martyna_tobias_klein"),
}
"""Ensemble -> its integrators, the default first."""

Values = float | list[float]
"""One value for all systems, or a list with one for each."""


class Settings(BaseModel):
    """How systems move. ConfigError for values that cannot be meant.

    Defaults are safe for small cells: Langevin dynamics bring every atom to equilibrium by itself, so nothing depends on the exchange of
    energy between few modes; stochastic cell rescaling is first order in time, so a small cell does not ring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    ensemble: Literal["nve", "nvt", "npt"] = Field("nve", description="Constant energy, temperature, or temperature and pressure.")
    method: Literal["velocity_verlet", "langevin", "velocity_rescaling", "nose_hoover", "cell_rescaling", "martyna_tobias_klein"] | None = (
        Field(
            None,
            description="Integrator; nvt: langevin (default), velocity_rescaling or nose_hoover; npt: cell_rescaling (default) or "
            "martyna_tobias_klein.",
        )
    )
    steps: int = Field(1000, ge=1, description="Time steps; ramps end with them.")
    # Beyond 10 fs no atomic vibration is integrated stably; a longer step is a mistake of units.
    timestep: float = Field(0.5, gt=0, le=10, description="fs.")
    temperature: Values = Field(300.0, description="K; of the thermostat, and of drawn velocities.")
    final_temperature: Values | None = Field(None, description="K at the end, reached linearly; by default the temperature stays.")
    pressure: Values = Field(0.0, description="GPa.")
    final_pressure: Values | None = Field(None, description="GPa at the end, reached linearly; by default the pressure stays.")
    friction: float = Field(10.0, ge=0, description="1/ps, of Langevin dynamics.")
    thermostat_time: float = Field(100.0, gt=0, description="fs, in which other thermostats act.")
    barostat_time: float = Field(1000.0, gt=0, description="fs, in which the barostat acts.")
    cell: Literal["isotropic", "full"] = Field("isotropic", description="npt: the volume changes alone, or shape and volume.")
    bulk_modulus: float = Field(100.0, gt=0, description="GPa, a guess: npt by cell_rescaling relaxes in barostat_time if it is right.")
    seed: int | list[int] = Field(
        default_factory=lambda: secrets.randbelow(2**32),
        description="Of drawn velocities and of the thermostat; system k of many has seed + k, or its own in a list. Drawn and recorded if "
        "not given.",
    )
    interval: int = Field(10, ge=1, description="Steps between written frames.")
    watchdog: WatchdogSettings = Field(default_factory=WatchdogSettings, description="What stops a run, or is warned of.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(f"Settings of the dynamics: {explain(type(self), error)}.") from error

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.method is not None and self.method not in METHODS[self.ensemble]:
            raise ValueError(f"{self.method} does not integrate {self.ensemble}; use {' or '.join(METHODS[self.ensemble])}")
        for name in ("temperature", "final_temperature"):
            values = getattr(self, name)
            if values is not None and min(values if isinstance(values, list) else [values], default=0) < 0:
                raise ValueError(f"{name} is {values} K; it must not be negative")
        pressures = [self.pressure, self.final_pressure or 0.0]
        largest = max(abs(value) for values in pressures for value in (values if isinstance(values, list) else [values]))
        if largest > 1000:
            raise ValueError(f"a pressure of {largest:g} GPa is asked for, above 1000; give it in GPa (1 bar is 0.0001 GPa)")
        if not all(0 <= seed < 2**62 for seed in (self.seed if isinstance(self.seed, list) else [self.seed])):
            raise ValueError(f"the seed is {self.seed}; it must lie in 0 ... 2^62 - 1")
        return self

    @property
    def integrator(self) -> str:
        """The name of the method, the default one filled in."""
        return self.method or METHODS[self.ensemble][0]

    def seeds(self, n_systems: int) -> tuple[int, ...]:
        """Return the seed of every system; ConfigError if a list has another length."""
        if isinstance(self.seed, int):
            return tuple(self.seed + k for k in range(n_systems))
        return tuple(self.for_each("seed", n_systems))

    def for_each(self, name: str, n_systems: int) -> list[Any]:
        """Return the values of a key, one a system; ConfigError if a list has another length."""
        values = getattr(self, name)
        if not isinstance(values, list):
            return [values] * n_systems
        if len(values) != n_systems:
            raise ConfigError(f"{name} lists {len(values)} values for {n_systems} systems; give one for all, or one for each.")
        return values


class DynamicsConfig(BaseModel):
    """A whole run of `eqpot md`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    potential: Path = Field(description="Model file.")
    structures: list[Path] = Field(
        min_length=1, description="Starting structures, anything ASE reads; velocities are used where there are any."
    )
    replicas: int = Field(1, ge=1, description="Copies of each structure, which differ in their seeds.")
    output: Path = Field(description="Run folder; it must not exist yet.")
    dtype: Literal["float32", "float64"] | None = Field(None, description="Precision of the network; by default that of the model file.")
    device: str = Field("cpu", description="Device that computes.")
    trajectory: list[Literal["extxyz", "traj", "h5md"]] = Field(["extxyz"], description="Formats of the trajectory.")
    restart_minutes: float = Field(5.0, ge=0, description="Longest time between restart files.")
    dynamics: Settings = Field(default_factory=Settings)

    @model_validator(mode="before")
    @classmethod
    def _one_structure(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("structures"), str):
            return {**values, "structures": [values["structures"]]}
        return values

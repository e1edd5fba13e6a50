"""What a simulation is told; every key with its type, default, bounds and help."""

import secrets
from pathlib import Path
from typing import Any, Literal

import numpy as np
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

STOCHASTIC = ("langevin", "velocity_rescaling", "cell_rescaling")
"""Integrators that draw random numbers."""

USERS = {
    "pressure": METHODS["npt"],
    "friction": ("langevin",),
    "thermostat_time": ("velocity_rescaling", "nose_hoover", *METHODS["npt"]),
    "barostat_time": METHODS["npt"],
    "cell": METHODS["npt"],
    "bulk_modulus": ("cell_rescaling",),
}
"""Key -> the integrators that use it, for keys that not all use."""

Values = float | list[float]
"""One value for all systems, or a list with one for each."""


class Point(BaseModel):
    """What holds at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    time: float = Field(ge=0, description="ps.")
    temperature: Values | None = Field(None, description="K.")
    pressure: Values | None = Field(None, description="GPa.")


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
    steps: int = Field(1000, ge=1, description="Time steps.")
    # Beyond 10 fs no atomic vibration is integrated stably; a longer step is a mistake of units.
    timestep: float = Field(0.5, gt=0, le=10, description="fs.")
    temperature: Values = Field(300.0, description="K; of the thermostat, and of drawn velocities.")
    pressure: Values = Field(0.0, description="GPa.")
    schedule: list[Point] = Field(
        [], description="Temperatures and pressures at times, linear in between and constant beyond; they replace the above."
    )
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
        times = [point.time for point in self.schedule]
        if times != sorted(set(times)):
            raise ValueError(f"the times of the schedule are {times} ps; let each be later than the one before")
        coldest, _ = self._extremes("temperature")
        if coldest < 0:
            raise ValueError(f"a temperature is {coldest:g} K; it must not be negative")
        if coldest == 0 and self.integrator == "martyna_tobias_klein":
            raise ValueError("a temperature is 0 K, at which the cell of martyna_tobias_klein has no mass; use cell_rescaling")
        largest = max(abs(value) for value in self._extremes("pressure"))
        if largest > 1000:
            raise ValueError(f"a pressure of {largest:g} GPa is asked for, above 1000; give it in GPa (1 bar is 0.0001 GPa)")
        if not all(0 <= seed < 2**62 for seed in (self.seed if isinstance(self.seed, list) else [self.seed])):
            raise ValueError(f"the seed is {self.seed}; it must lie in 0 ... 2^62 - 1")
        return self

    def _extremes(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value that a key takes."""
        given = [getattr(self, name), *(getattr(point, name) for point in self.schedule)]
        values = [value for entry in given if entry is not None for value in (entry if isinstance(entry, list) else [entry])]
        return min(values), max(values)

    def at(self, name: str, time: float, n_systems: int) -> list[float]:
        """Return the temperatures (K) or pressures (GPa) at a time in ps, one a system."""
        points = [point for point in self.schedule if getattr(point, name) is not None]
        if not points:
            return _for_each(name, getattr(self, name), n_systems)
        columns = zip(*(_for_each(name, getattr(point, name), n_systems) for point in points), strict=True)
        return [float(np.interp(time, [point.time for point in points], values)) for values in columns]

    @property
    def integrator(self) -> str:
        """The name of the method, the default one filled in."""
        return self.method or METHODS[self.ensemble][0]

    @property
    def is_stochastic(self) -> bool:
        """Whether runs from the same positions and velocities part, if their seeds differ."""
        return self.integrator in STOCHASTIC

    def check_used(self) -> None:
        """Raise ConfigError for a key that is not its default and that the integrator does not use."""
        for key, users in USERS.items():
            value = getattr(self, key)
            if self.integrator not in users and value != type(self).model_fields[key].default:
                known = [f"{user} ({ensemble})" for ensemble, methods in METHODS.items() for user in methods if user in users]
                raise ConfigError(
                    f"dynamics.{key} is {value}, and {self.integrator} ({self.ensemble}) does not use it; leave it out, or choose a "
                    f"method that does: {', '.join(known)}."
                )

    def seeds(self, n_systems: int) -> tuple[int, ...]:
        """Return the seed of every system; ConfigError if a list has another length."""
        if isinstance(self.seed, int):
            return tuple(self.seed + k for k in range(n_systems))
        return tuple(_for_each("seed", self.seed, n_systems))


def _for_each(name: str, values: Any, n_systems: int) -> list[Any]:
    """Return the values of a key, one a system; ConfigError if a list has another length."""
    if not isinstance(values, list):
        return [values] * n_systems
    if len(values) != n_systems:
        systems = "1 system" if n_systems == 1 else f"{n_systems} systems"
        raise ConfigError(f"{name} lists {len(values)} values for {systems}; give one for all, or one for each.")
    return values


class DynamicsConfig(BaseModel):
    """A whole run of `eqpot md`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    potential: Path = Field(description="Model file.")
    committee: list[Path] = Field([], description="Other potentials fitted to the same data, whose spread the watchdog looks at.")
    structures: list[Path] = Field(
        min_length=1, description="Starting structures, anything ASE reads; velocities are used where there are any."
    )
    replicas: int = Field(1, ge=1, description="Copies of each structure, which differ in their seeds.")
    output: Path = Field(description="Run folder; it must not exist yet.")
    dtype: Literal["float32", "float64"] | None = Field(None, description="Precision of the network; by default that of the model file.")
    device: str = Field("cpu", description="Device that computes.")
    trajectory: list[Literal["extxyz", "traj", "h5md"]] = Field(["extxyz"], description="Formats of the trajectory.")
    restart_minutes: float = Field(5.0, ge=0, description="Longest time between restart files.")
    dynamics: Settings = Field(default_factory=Settings, description="How systems move.")

    @model_validator(mode="before")
    @classmethod
    def _one_structure(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("structures"), str):
            return {**values, "structures": [values["structures"]]}
        return values

"""The integrator that settings ask for: a pair of pure functions of a state, and the conditions of every step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from eqpot.md import cell_rescaling, langevin, martyna_tobias_klein, nose_hoover, nve, velocity_rescaling
from eqpot.md.settings import Settings
from eqpot.md.state import Conditions, ForceFunction, State
from eqpot.units import FEMTOSECOND, GIGAPASCAL

Init = Callable[[State, Conditions], State]
Step = Callable[[State, ForceFunction, float, Conditions], State]


@dataclass(frozen=True)
class Integrator:
    """`init` makes the state of step 0, `step` one from another; `conserves_momentum` tells whether drift stays out once removed."""

    init: Init
    step: Step
    conserves_momentum: bool = True
    changes_cell: bool = False


def make_integrator(settings: Settings) -> Integrator:
    """Return the integrator with its times in the internal unit."""
    thermostat = {"relaxation_time": settings.thermostat_time * FEMTOSECOND}
    barostat = {**thermostat, "pressure_time": settings.barostat_time * FEMTOSECOND, "isotropic": settings.cell == "isotropic"}
    compressibility = {"compressibility": 1 / (settings.bulk_modulus * GIGAPASCAL)}
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "velocity_verlet": (nve, {}),
        "langevin": (langevin, {"friction": settings.friction / (1000 * FEMTOSECOND)}),
        "velocity_rescaling": (velocity_rescaling, thermostat),
        "nose_hoover": (nose_hoover, thermostat),
        "cell_rescaling": (cell_rescaling, {**barostat, **compressibility}),
        "martyna_tobias_klein": (martyna_tobias_klein, barostat),
    }
    module, parameters = known[settings.integrator]
    is_langevin = settings.integrator == "langevin"
    return Integrator(module.init, partial(module.step, **parameters), not is_langevin, settings.ensemble == "npt")


def conditions_at(settings: Settings, step: int, degrees_of_freedom: torch.Tensor) -> Conditions:
    """Return the conditions of a step, on the device of degrees_of_freedom [n_systems]."""
    n_systems, device = len(degrees_of_freedom), degrees_of_freedom.device
    time = step * settings.timestep / 1000
    temperature, pressure = (
        torch.tensor(settings.at(name, time, n_systems), dtype=torch.float64, device=device) for name in ("temperature", "pressure")
    )
    return Conditions(temperature, pressure * GIGAPASCAL, degrees_of_freedom, settings.seeds(n_systems))

"""Molecular dynamics in torch."""

from eqpot.md.settings import Settings
from eqpot.md.simulation import Simulation
from eqpot.md.state import State

__all__ = ["Settings", "Simulation", "State"]

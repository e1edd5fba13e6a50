"""Molecular dynamics in torch."""

from eqpot.md.run import Run, resume_run, start_run
from eqpot.md.settings import DynamicsConfig, Settings
from eqpot.md.simulation import Simulation
from eqpot.md.state import State

__all__ = ["DynamicsConfig", "Run", "Settings", "Simulation", "State", "resume_run", "start_run"]

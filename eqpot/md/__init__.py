"""Molecular dynamics in torch."""

#from eqpot.md.simulation import Settings, Simulation
from eqpot.md.state import State

__all__ = ["Settings", "Simulation", "State"]

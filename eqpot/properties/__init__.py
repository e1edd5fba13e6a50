"""Structures at rest: relaxation, equation of state, phonons and vibrations, with ASE's tools and any ASE calculator."""

from eqpot.properties.equation_of_state import EquationOfState, equation_of_state
from eqpot.properties.phonons import Phonons, phonons
from eqpot.properties.relaxation import Relaxation, relax
from eqpot.properties.vibrations import Vibrations, vibrations

__all__ = ["EquationOfState", "Phonons", "Relaxation", "Vibrations", "equation_of_state", "phonons", "relax", "vibrations"]

"""Structures at rest: relaxation, equation of state, elastic constants, phonons and vibrations, with ASE's tools and any ASE calculator."""

from eqpot.properties.elastic import ElasticConstants, elastic_constants
from eqpot.properties.equation_of_state import EquationOfState, equation_of_state
from eqpot.properties.phonons import Phonons, phonons
from eqpot.properties.relaxation import Relaxation, relax
from eqpot.properties.vacancy import vacancy_energy
from eqpot.properties.vibrations import Vibrations, vibrations

__all__ = [
    "ElasticConstants",
    "EquationOfState",
    "Phonons",
    "Relaxation",
    "Vibrations",
    "elastic_constants",
    "equation_of_state",
    "phonons",
    "relax",
    "vacancy_energy",
    "vibrations",
]

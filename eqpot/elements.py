"""Chemical symbols and atomic numbers."""

from collections.abc import Iterable

from ase.data import atomic_numbers, chemical_symbols

MAX_ATOMIC_NUMBER = 118


def symbols_of(numbers: Iterable[int]) -> list[str]:
    """Return the chemical symbols of atomic numbers."""
    return [chemical_symbols[int(number)] for number in numbers]


def numbers_of(symbols: Iterable[str]) -> list[int]:
    """Return the atomic numbers of chemical symbols; KeyError for a name that is none."""
    return [atomic_numbers[symbol] for symbol in symbols]

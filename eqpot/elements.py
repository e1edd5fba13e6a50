"""Chemical symbols and atomic numbers."""

from collections.abc import Iterable

from ase.data import atomic_numbers, chemical_symbols

MAX_ATOMIC_NUMBER = 118


def symbols_of(numbers: Iterable[int]) -> list[str]:
    """Return the chemical symbols of atomic numbers, or what stands for one where there is no element."""
    return [chemical_symbols[number] if 0 <= number <= MAX_ATOMIC_NUMBER else f"Z = {number}" for number in map(int, numbers)]


def numbers_of(symbols: Iterable[str]) -> list[int]:
    """Return the atomic numbers of chemical symbols; KeyError for a name that is none."""
    return [atomic_numbers[symbol] for symbol in symbols]

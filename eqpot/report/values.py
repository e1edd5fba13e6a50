"""Numbers with errors as text."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A number of a report. sample: which part of the run it is of, empty where there is one; error: standard error."""

    name: str
    sample: str
    value: float
    error: float
    unit: str

    def __str__(self) -> str:
        where = f" at {self.sample}" if self.sample else ""
        return f"{self.name}{where} = {with_error(self.value, self.error)} {self.unit}".rstrip()


def decimals(error: float) -> int:
    """Return the decimals that show two significant digits of an error."""
    return min(max(1 - math.floor(math.log10(error)), 0), 9) if error > 0 else 3


def with_error(value: float, error: float) -> str:
    """Return "value ± error", with two significant digits of the error; the value alone where an error of zero says that none is known."""
    if error == 0:
        return f"{value:.3f}"
    if 0 < error < 1e-5:
        return f"{value:.4g} ± {error:.2g}"
    digits = decimals(error)
    return f"{value:.{digits}f} ± {error:.{digits}f}"

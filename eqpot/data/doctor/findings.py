"""What the doctor says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One sentence about the data. An error spoils a fit or its test, a warning may, a note is good to know; frames name a few examples."""

    level: Literal["error", "warning", "note"]
    check: str
    message: str
    frames: tuple[str, ...] = ()


def first(origins: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """Return the first few of many origins."""
    return tuple(list(origins)[:count])

"""Errors a user can cause; each message says what is wrong, where, and what to do."""


class EqpotError(Exception):
    """Base of every error that eqpot raises on purpose; its message is one line of printable characters, whatever a file put into it."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(character if character.isprintable() else " " for character in message))


class ConfigError(EqpotError):
    """A configuration value or a combination of them cannot be used."""


class DataError(EqpotError):
    """A data file, a frame or a label cannot be used."""


class ModelFileError(EqpotError):
    """A model file is unreadable, damaged, or of a version this eqpot does not know."""


class UnknownElementError(EqpotError):
    """A structure holds an element that the potential was not fitted to."""


class NeighborError(EqpotError):
    """A neighbour list cannot be built for this structure."""


class SimulationError(EqpotError):
    """A simulation cannot start or cannot go on."""


def short(error: Exception) -> str:
    """Return another package's message as part of a sentence: one line, of bounded length."""
    return " ".join(str(error).split())[:200] or type(error).__name__

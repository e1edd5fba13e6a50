"""`eqpot ipi-driver-path`: where i-PI finds the driver."""

import importlib.util

from eqpot.cli.console import command


@command
def ipi_driver_path() -> None:
    """Print the path of the driver for inputs of i-PI (pes_path), which has no other way to find it.

    Example: eqpot ipi-driver-path
    """
    spec = importlib.util.find_spec("eqpot.engines.ipi_driver")
    assert spec is not None
    # Not through rich, which would break a long path.
    print(spec.origin)

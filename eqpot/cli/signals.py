"""Ctrl-C and SIGTERM as requests to stop at the next good place."""

import signal
from collections.abc import Callable
from types import FrameType


def on_stop(request: Callable[[], None]) -> list[int]:
    """Call `request` at the first Ctrl-C or SIGTERM; the list returned then holds the signal's number."""
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        # The next signal does what it always does: a run that hangs can still be ended.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        received.append(number)
        request()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return received


def exit_code(received: list[int]) -> int:
    """Return the exit code of a process that a signal has ended."""
    return 128 + (received[0] if received else signal.SIGTERM)

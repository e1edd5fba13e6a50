"""Ctrl-C and SIGTERM as requests to stop at the next good place."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def on_stop(request: Callable[[], None]) -> Iterator[list[int]]:
    """Call `request` at the first Ctrl-C or SIGTERM, whose number the list then holds; handlers are what they were afterwards.

    One that stayed would outlive the command where another program has called it, and processes forked there could not be ended.
    """
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        # The next signal does what it always does: a run that hangs can still be ended.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        received.append(number)
        request()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def exit_code(received: list[int]) -> int:
    """Return the exit code of a process that a signal has ended."""
    return 128 + (received[0] if received else signal.SIGTERM)

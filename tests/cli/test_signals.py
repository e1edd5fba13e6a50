"""Requests to stop."""

import os
import signal

import pytest

from eqpot.cli.signals import exit_code, on_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_handlers_come_back(number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    asked = []
    with on_stop(lambda: asked.append(True)) as received:
        os.kill(os.getpid(), number)
        assert asked == [True]
        assert exit_code(received) == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="x"), on_stop(lambda: None):
        raise ValueError("x")
    assert signal.getsignal(signal.SIGTERM) == before

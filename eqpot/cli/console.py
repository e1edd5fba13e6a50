"""What the commands share: the console, one-sentence errors, logging."""

import functools
import logging
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.logging import RichHandler

from eqpot.errors import EqpotError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Without markup: paths may have brackets.
console = Console(highlight=False, markup=False)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def command(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Wrap a command: errors that a user can cause are printed as one sentence, exit code 1, no traceback."""

    @functools.wraps(function)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        # Rich breaks and pads lines to the width of a terminal, which a log file has not.
        rich = RichHandler(console=errors, show_time=False, show_path=False, show_level=False)
        handler = rich if errors.is_terminal else logging.StreamHandler()
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
        try:
            return function(*args, **kwargs)
        except EqpotError as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}." if error.filename else f"{error}."
        except KeyboardInterrupt:
            errors.print("Interrupted; what was written so far is kept.")
            sys.exit(130)
        errors.print(f"Error: {message}")
        sys.exit(1)

    return wrapped

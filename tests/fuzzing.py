"""What the tests that feed garbage to readers share: how files are spoiled, and what an error must be."""

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from eqpot.errors import EqpotError


def fuzz(max_examples: int) -> settings:
    """Return settings under which a test is the same every time; a folder may be shared by its examples."""
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=max_examples, deadline=None, derandomize=True, database=None, suppress_health_check=suppressed)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 3, 10**5, 10**9, 10**12, 2**63, 10**30, 1e-300, 0.5, 1e300])
    | st.floats()
    | st.sampled_from(["", "x", "nan", "../x", "\n", "Å", "\x00", "1e-3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "a", "path", "time", "H-C"]), inner, max_size=2),
    max_leaves=4,
)
"""What JSON or YAML may hold where something else is expected; sizes that no machine has included."""


def garbled(data: st.DataObject, content: bytes) -> bytes:
    """Return a file with up to four other bytes, and perhaps cut."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(0, len(changed)))] if data.draw(st.booleans()) else changed)


def replaced(data: st.DataObject, values: Any) -> Any:
    """Return nested dictionaries and lists with one entry, at any depth, that is another, is missing, or was not asked for."""
    changed = copy.deepcopy(values)
    holder = changed
    while True:
        places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        place = data.draw(st.sampled_from(places))
        if isinstance(holder[place], dict | list) and holder[place] and data.draw(st.integers(0, 3)):
            holder = holder[place]
            continue
        how = data.draw(st.sampled_from(["other", "other", "other", "missing", "unknown"]))
        if how == "missing":
            del holder[place]
        elif how == "unknown" and isinstance(holder, dict):
            holder["unknown"] = data.draw(VALUES)
        else:
            holder[place] = data.draw(VALUES)
        return changed


def assert_one_sentence(error: EqpotError, name: str) -> None:
    """Assert that an error is one line of bounded length that names the file."""
    assert name in str(error), str(error)
    assert "\n" not in str(error), str(error)
    assert len(str(error)) < 1000, str(error)

import os

# Several processes of tests share the cores; before torch is imported, which asks once.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from eqpot.model_file import save_potential
from helpers import random_potential

LONGEST = ("test_examples.py", "test_training.py", "test_zoo.py", "test_cli.py", "test_schedule.py", "test_shipped.py", "test_torchrun.py")


def pytest_collection_modifyitems(items):
    """What takes minutes comes first, or one process would be left with it at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_potential(random_potential(), path)
    return path

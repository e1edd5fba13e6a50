import pytest

from eqpot.model_file import save_potential
from helpers import random_potential


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_potential(random_potential(), path)
    return path

"""The potentials that come with eqpot, by name."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import yaml

from eqpot.errors import ModelFileError, short

_INDEX = "potentials/index.yaml"


@dataclass(frozen=True)
class Shipped:
    """One of them. description: what it is for; data, licence, citation: of what it was fitted to."""

    name: str
    path: Path
    elements: list[str]
    description: str
    data: str
    licence: str
    citation: str


@cache
def shipped() -> dict[str, Shipped]:
    """Return the shipped potentials by name, those of a checkout or of the installed package; none where neither is there."""
    index = _find_index()
    if index is None:
        return {}
    try:
        entries = yaml.safe_load(index.read_text(encoding="utf-8"))
        return {name: Shipped(name, index.parent / name / "potential.safetensors", **entry) for name, entry in entries.items()}
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(f"The index of shipped potentials {index} is damaged ({short(error)}); install eqpot again.") from error


def model_path(name: str | Path) -> Path:
    """Return the path itself if there is such a file, the model file of the shipped potential of this name otherwise; else the path."""
    path = Path(name)
    if path.is_file() or str(name) not in shipped():
        return path
    return shipped()[str(name)].path


def _find_index() -> Path | None:
    checkout = Path(__file__).parents[1] / _INDEX
    if checkout.is_file():
        return checkout
    try:
        found = [file for file in files("eqpot") or [] if file.match(f"share/eqpot/{_INDEX}")]
    except PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())).resolve() for file in found]
    return next((path for path in paths if path.is_file()), None)

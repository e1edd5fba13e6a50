"""YAML configuration files with overrides, read into pydantic models; mistakes are told in one sentence."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from eqpot.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def load_config(model: type[Model], path: str | Path, overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file, apply overrides such as "training.epochs=10", and validate.

    Raises ConfigError that names the file, the key and, for an unknown key, the nearest known one.
    """
    values = _read_yaml(Path(path))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"The override {override!r} is not of the form key=value, such as training.epochs=100.")
        _assign(values, key.split("."), _parse_value(override, text))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(model, error)}.") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}; check the path.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read as YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The configuration file {path} must hold keys and values, such as `output: runs/first`.")
    return values


def _parse_value(override: str, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of the override {override!r} is not valid YAML.") from error
    if isinstance(value, str):
        # YAML 1.1 takes 1e-3 for a string; the command line's user means a number.
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"The override {'.'.join(keys)} goes below {key!r}, which is a value.")
    values[keys[-1]] = value


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """Return what is wrong with the values, key by key, as the inside of one sentence."""
    messages = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        where = ".".join(location) or "the configuration"
        if problem["type"] == "extra_forbidden":
            messages.append(f"the key {where!r} is unknown{_suggestion(model, location)}")
        elif problem["type"] == "missing":
            messages.append(f"the key {where!r} is missing")
        else:
            messages.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(dict.fromkeys(messages))


def _suggestion(model: type[BaseModel], location: list[str]) -> str:
    prefix = ""
    for part in location[:-1]:
        if part.isdigit():
            # The place in a list, whose members the annotation names.
            prefix += f"{part}."
            continue
        nested = _models(model.model_fields[part].annotation)
        if not nested:
            return ""
        model, prefix = nested[0], f"{prefix}{part}."
    nearest = difflib.get_close_matches(location[-1], model.model_fields, n=1, cutoff=0.0)
    return f"; the nearest known key is {prefix + nearest[0]!r}" if nearest else ""


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation such as list[Model] | None names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]

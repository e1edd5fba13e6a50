"""YAML configuration files with overrides, read into pydantic models; mistakes are told in one sentence."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from eqpot.errors import ConfigError, short

_ALIASES = {"lr": "learning_rate", "r_max": "cutoff", "max_epochs": "epochs"}
"""Names that other packages give to keys."""

_MEMBER = re.compile(r"(bool|int|float|str)|\w+\[.*\]")
"""What pydantic puts between a key and those below where one of several types is wanted."""

_SHOWN = 3
"""Mistakes that are told at once."""

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
        message = f"{explain(model, error)}."
    except ConfigError as error:
        # Settings of the dynamics tell of their mistakes themselves.
        message = str(error)
    # Not from the error: a traceback would write out all that aliases of aliases stand for.
    raise ConfigError(f"{path}: {message}")


class _Loader(yaml.SafeLoader):
    """YAML without code, whose merge keys (<<) cannot double a mapping line by line until memory is full.

    Dates stay text: no key wants one, and folders are named after them.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's contract)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that stands twice, of which PyYAML takes the last; before merges, which may bring a key again."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(problem=f"the key {key.value[:100]!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > 10_000:
            raise yaml.constructor.ConstructorError(problem="a mapping is merged of too many", problem_mark=node.start_mark)


def parse_yaml(text: str) -> Any:
    """Return what YAML says; ValueError, of one line, for text that is none."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    # Numbers, dates and truth values with a tag of their own raise whatever their parsers do.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ValueError(short(error)) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}; check the path.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read as YAML ({short(error)}); correct it.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The configuration file {path} must hold keys and values, such as `output: runs/first`.")
    return values


def _parse_value(override: str, text: str) -> Any:
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"The value of the override {override!r} is not valid YAML.") from error
    if value == text:
        # YAML 1.1 takes 1e-3 for a string; the command line's user means a number, unless it stands in quotes.
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
    """Return what is wrong with the values, key by key, as the inside of one sentence; of many mistakes the first."""
    messages, listed = [], set[str]()
    for location, problem in _told(error):
        where = ".".join(location)[:100] or "the configuration"
        if problem["type"] == "extra_forbidden":
            suggestion = _suggestion(model, location)
            # Of many unknown keys of a level one tells what there is.
            messages.append(f"the key {where!r} is unknown{'' if suggestion in listed else suggestion}")
            listed.add(suggestion)
        elif problem["type"] == "missing":
            messages.append(f"the key {where!r} is missing")
        elif problem["type"] == "path_type" and isinstance(value := problem["input"], int | float):
            messages.append(f"{where}: a path is wanted, and {value} is none; for a folder of that name write ./{value}")
        elif problem["msg"].startswith("Input should be ") and isinstance(problem["input"], str | int | float):
            wanted = re.sub(", (unable|got) .*", "", problem["msg"].removeprefix("Input should be "))
            messages.append(f"{where} is {problem['input']!r:.60}, and should be {wanted[:300]}")
        else:
            messages.append(f"{where}: {problem['msg'].removeprefix('Value error, ')[:300]}")
    messages = list(dict.fromkeys(messages))
    more = [f"and {len(messages) - _SHOWN} more"] if len(messages) > _SHOWN else []
    return "; ".join([*messages[:_SHOWN], *more])


def _told(error: ValidationError) -> list[tuple[list[str], Any]]:
    """Return keys with what is wrong there: where a value may be of several types, the complaint of that which comes nearest."""
    told: dict[str, tuple[list[str], Any]] = {}
    for problem in error.errors():
        parts = [str(part) for part in problem["loc"]]
        # A key that is unknown may look like anything.
        known = parts[:-1] if problem["type"] == "extra_forbidden" else parts
        member = next((place for place, part in enumerate(known) if _MEMBER.fullmatch(part)), len(parts))
        location, union = [*parts[:member], *parts[member + 1 :]], ".".join(parts[:member])
        if member == len(parts) or union not in told or len(location) > len(told[union][0]):
            told[union if member < len(parts) else f"{union} {problem['type']}"] = location, problem
    return list(told.values())


def _suggestion(model: type[BaseModel], location: list[str]) -> str:
    """Return the known key that is meant, or those of the level where there is none."""
    root, prefix = model, ""
    for part in location[:-1]:
        if part.isdigit():
            # The place in a list, whose members the annotation names.
            prefix += f"{part}."
            continue
        if part not in model.model_fields:
            # The member of a union, which pydantic puts between a key and those below.
            continue
        nested = _models(model.model_fields[part].annotation)
        if not nested:
            return ""
        model, prefix = nested[0], f"{prefix}{part}."
    known, name = _all_keys(root), _ALIASES.get(location[-1], location[-1])
    nearest = [prefix + key for key in difflib.get_close_matches(name, model.model_fields, n=1)]
    if name in model.model_fields:
        nearest = [prefix + name]
    elif name in known:
        nearest = [known[name]]
    elif not nearest:
        nearest = [known[key] for key in difflib.get_close_matches(name, known, n=1)]
    return f"; the nearest known key is {nearest[0]!r}" if nearest else f"; the keys there are {', '.join(model.model_fields)}"


def _all_keys(model: type[BaseModel]) -> dict[str, str]:
    """Return name -> full key of all keys of a model and of those below it, the highest of each name; members of lists are left out."""
    found: dict[str, str] = {}
    level = [(model, "")]
    while level:
        below = []
        for holder, prefix in level:
            for name, field in holder.model_fields.items():
                found.setdefault(name, prefix + name)
                if not _has_list(field.annotation):
                    below += [(nested, f"{prefix}{name}.") for nested in _models(field.annotation)]
        level = below
    return found


def _has_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_has_list(argument) for argument in get_args(annotation))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation such as list[Model] | None names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]

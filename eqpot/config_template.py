"""Configuration files to begin with: every key with its help, the defaults as comments."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

WIDTH = 100


def template(model: type[BaseModel], given: Mapping[str, Any], indent: str = "", commented: bool = False) -> str:
    """Return YAML text with all keys of a configuration: those of `given` with their values, all others commented out at their defaults.

    commented: comment out every key, as those of a section of which nothing is given.
    """
    lines = []
    for name, field in model.model_fields.items():
        mark = "" if name in given and not commented else "#"
        section = _section(field)
        description = field.description or (section.__doc__ or "" if section else "").split("\n")[0]
        lines += [f"{indent}# {line}" for line in textwrap.wrap(description, WIDTH)]
        if section is not None:
            inside = template(section, given.get(name, {}), f"{indent}  ", commented=bool(mark))
            lines += [f"{indent}{mark}{name}:", inside]
        else:
            value = given[name] if name in given else _plain(field.get_default(call_default_factory=True))
            lines.append(f"{indent}{mark}{name}: {_written(value)}")
    return "\n".join(lines)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a key that is a section, None for a value; sections that may be absent, or come in numbers, are values."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel) else None


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _written(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, str):
        text = yaml.safe_dump(value, default_flow_style=True).strip()
        return text.removesuffix("...").strip()
    return json.dumps(value)

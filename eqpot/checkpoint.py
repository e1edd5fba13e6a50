"""Checkpoints: everything a run needs to go on as if it had not stopped, without pickle."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from eqpot.errors import EqpotError, ModelFileError, short
from eqpot.files import write_atomically


def write_checkpoint(path: Path, state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors and a JSON-able state, atomically; the same contents give the same bytes."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({**state, "sha256": _digest(state, kept)})
    write_atomically(path, save(kept, metadata={"state": text}))


def parse_checkpoint(content: bytes, path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return state and tensors from the bytes that `write_checkpoint` wrote to `path`; ModelFileError where one of them is another."""
    with restoring(path):
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        state: dict[str, Any] = dict(json.loads(header["__metadata__"]["state"]))
    # Files of the first release have none.
    if state.pop("sha256", None) not in (None, _digest(state, tensors)):
        raise _unreadable(path, ValueError("its contents are not those that were written"))
    return state, tensors


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turn what goes wrong with contents of other kinds than a run writes into a ModelFileError that names the file."""
    try:
        yield
    except (EqpotError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def restore_attributes(target: object, names: Sequence[str], state: Mapping[str, Any]) -> None:
    """Set attributes to what a state has of them; TypeError for another kind of value than they have, ValueError for a negative count."""
    for name in names:
        value, kind = state[name], type(getattr(target, name))
        if type(value) is not kind:
            raise TypeError(f"{name} is no {kind.__name__}")
        if kind is int and value < 0:
            raise ValueError(f"{name} is negative")
        setattr(target, name, value)


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"The checkpoint {path} cannot be read ({short(error)}); bring it back, or start the run anew in another folder.")


def _digest(state: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(state).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writes that a kill cut short."""
    for path in [path for kind in ("safetensors", "csv", "json", "extxyz", "txt") for path in folder.glob(f".*.{kind}.*")]:
        path.unlink()

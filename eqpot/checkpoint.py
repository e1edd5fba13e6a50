"""Checkpoints: everything a run needs to go on as if it had not stopped, without pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from eqpot.errors import ModelFileError
from eqpot.files import write_atomically


def write_checkpoint(path: Path, state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors and a JSON-able state, atomically; the same contents give the same bytes."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata={"state": json.dumps(state)})
    write_atomically(path, content)


def parse_checkpoint(content: bytes, path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return state and tensors from the bytes that `write_checkpoint` wrote to `path`; ModelFileError if that is impossible."""
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return json.loads(header["__metadata__"]["state"]), tensors
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"The checkpoint {path} cannot be read ({error}); start the run anew in another folder.") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writes that a kill cut short."""
    for path in [path for kind in ("safetensors", "csv", "json") for path in folder.glob(f".*.{kind}.*")]:
        path.unlink()

"""Checkpoints: everything a run needs to go on as if it had not stopped, without pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from eqpot.errors import ModelFileError
from eqpot.files import write_atomically


def write_checkpoint(path: Path, state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors and a JSON-able state, atomically."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata={"state": json.dumps(state)})
    write_atomically(path, content)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read what `write_checkpoint` wrote; ModelFileError if that is impossible."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["state"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"The checkpoint {path} cannot be read ({error}); start the run anew in another folder.") from error

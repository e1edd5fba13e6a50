"""The processes of a run that torchrun started, and what they tell each other; a process alone is the same with nobody to talk to."""

import os

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from eqpot.errors import ConfigError


class Processes:
    """All processes of the run: torchrun's, or this one alone. Process 0 decides, reads checkpoints and writes files."""

    def __init__(self, device: str) -> None:
        """Join the others over gloo, and NCCL for tensors on GPUs; ConfigError where all would take one GPU."""
        launched = "TORCHELASTIC_RUN_ID" in os.environ
        self.size = int(os.environ["WORLD_SIZE"]) if launched else 1
        self.rank = int(os.environ["RANK"]) if launched else 0
        self.restarted = launched and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        self.device = device
        if self.size > 1 and device.startswith("cuda:"):
            raise ConfigError(f"The device is {device} for {self.size} processes; write cuda, and each takes a GPU of its own.")
        if launched and device == "cuda":
            self.device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(self.device)
        if self.size > 1:
            # The store outlives a restart, and so do the addresses of dead processes in it: every start has names of its own.
            store, rank, size = next(rendezvous("env://"))
            store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]
            backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes, added in their order: the same bits in all of them, and in every run."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def broadcast(self, content: bytes) -> bytes:
        """Return the first process's content in all of them; what the others pass is ignored."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)])
        dist.broadcast(length, src=0)
        received = torch.frombuffer(bytearray(content), dtype=torch.uint8) if self.is_first and content else torch.empty(0)
        if not self.is_first:
            received = torch.empty(int(length), dtype=torch.uint8)
        if int(length):
            dist.broadcast(received, src=0)
        return received.numpy().tobytes()

    def close(self) -> None:
        """Leave the others; call it when the run has ended."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

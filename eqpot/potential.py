"""`Potential`: a network with elements, reference energies, scale and cutoff; energies, forces and stress in eV and Å."""

import math
import os
from dataclasses import fields, replace
from functools import cache

import torch
from torch import nn

from eqpot.elements import MAX_ATOMIC_NUMBER, symbols_of
from eqpot.errors import ConfigError, UnknownElementError, short
from eqpot.graph import AtomGraph, edge_vectors
from eqpot.kernels.fibre_bundle import FusedFibreBundle
from eqpot.kernels.verify import KernelChoice
from eqpot.neighbors.search import near_graph
from eqpot.network.base import Network

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def check_device(device: str) -> None:
    """Raise ConfigError for a device that torch does not know or this machine does not have."""
    try:
        # Energies are summed in float64, and read.
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"The device {device!r} cannot be used ({short(error)}); use cpu, or cuda where there is a GPU.") from error


@cache
def _prepare_forks() -> None:
    """Let forked processes start with one thread: torch's other threads do not survive a fork, and it would wait for them for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def forces_from(gradient: torch.Tensor, positions: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    """Return forces [n_atoms, 3] in eV/Å: with g = dE/dr for every edge vector r = x_j - x_i, F_i = sum_{j -> i} g - sum_{i -> k} g.

    gradient [n_edges, 3] in eV/Å; other arguments as in `Potential.forward`.
    """
    return torch.zeros_like(positions).index_add(0, edge_index[1], gradient).index_add(0, edge_index[0], -gradient)


def _without_inference(graph: AtomGraph) -> AtomGraph:
    """Return a graph whose tensors autograd can keep."""
    made = {field.name: getattr(graph, field.name) for field in fields(graph)}
    found = {name: tensor.clone() for name, tensor in made.items() if tensor.is_inference()}
    return replace(graph, **found) if found else graph


def strain_derivatives(
    gradient: torch.Tensor, vectors: torch.Tensor, cells: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor
) -> torch.Tensor:
    """Return sum r g^T [n_structures, 3, 3] in eV over the edges of each structure, in whatever order they come."""
    if cells.shape[0] == 1:
        # The same without a matrix for every edge.
        return torch.matmul(vectors.t(), gradient).unsqueeze(0)
    edge_batch = batch.index_select(0, edge_index[1])
    return torch.zeros_like(cells).index_add(0, edge_batch, vectors.unsqueeze(2) * gradient.unsqueeze(1))


def ordered_strain_derivatives(gradient: torch.Tensor, vectors: torch.Tensor, graph: AtomGraph) -> torch.Tensor:
    """Return what `strain_derivatives` does where edges are sorted by target; on a CPU to the last bit that of each structure alone."""
    if graph.n_structures == 1 or vectors.is_cuda:
        # A GPU sums in no fixed order, and four launches a structure would cost it more than the network.
        return strain_derivatives(gradient, vectors, graph.cells, graph.edge_index, graph.batch)
    counts = torch.bincount(graph.batch.index_select(0, graph.edge_index[1]), minlength=graph.n_structures).tolist()
    # Copies start at the same places in memory as a structure's own tensors, so that products of matrices round alike.
    pairs = zip(vectors.split(counts), gradient.split(counts), strict=True)
    return torch.stack([torch.matmul(own.clone().t(), share.clone()) for own, share in pairs])


def stress_from(strain_derivative: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Return stress [n_structures, 3, 3] in eV/Å^3: the symmetric part over the volume, zero where there is none."""
    virial = (strain_derivative + strain_derivative.transpose(1, 2)) / 2
    volume = torch.linalg.det(cells).abs().view(-1, 1, 1)
    return torch.where(volume > 0, virial / torch.where(volume > 0, volume, torch.ones_like(volume)), torch.zeros_like(virial))


def atomic_stresses(
    gradient: torch.Tensor, vectors: torch.Tensor, cells: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor
) -> torch.Tensor:
    """Return stresses [n_atoms, 3, 3] in eV/Å^3 that sum to that of `stress_from`; arguments as above, and zeros alike.

    An edge's share r g^T of the strain derivative belongs half to each of its two atoms, as in ASE's pair potentials.
    """
    virials = vectors.unsqueeze(2) * gradient.unsqueeze(1)
    empty = torch.zeros([batch.shape[0], 3, 3], dtype=virials.dtype, device=virials.device)
    shares = empty.index_add(0, edge_index[1], virials).index_add(0, edge_index[0], virials) / 2
    shares = (shares + shares.transpose(1, 2)) / 2
    volume = torch.linalg.det(cells).abs().index_select(0, batch).view(-1, 1, 1)
    return torch.where(volume > 0, shares / torch.where(volume > 0, volume, torch.ones_like(volume)), torch.zeros_like(shares))


class Potential(nn.Module):
    """Energy of atoms: E = sum_i (E_ref(z_i) + scale * network_i).

    Geometry, reference energies and sums are float64 whatever the network's dtype, so large cells and large reference
    energies cost no digits. The module can be scripted as it is; `eqpot.export` does so.
    """

    __jit_unused_properties__ = ["dtype", "device"]  # noqa: RUF012 (torch.jit.script reads it)

    species_of_number: torch.Tensor
    reference_energies: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: Network, elements: list[int], reference_energies: torch.Tensor, scale: float) -> None:
        """elements: atomic numbers [n_elements] in the order of the network's species; reference_energies [n_elements] in eV.

        scale: eV per unit of the network's output. Raises ConfigError when the lengths differ.
        """
        super().__init__()
        if len(elements) != len(reference_energies) or len(elements) != network.n_elements:
            raise ConfigError(
                f"{len(elements)} elements, {len(reference_energies)} reference energies and a network for "
                f"{network.n_elements} elements do not fit together."
            )
        _prepare_forks()
        self.network = network
        self.kernel_choice: KernelChoice | None = None
        # Of the training data, Å, by pair of elements (`eqpot.distances`); empty where nobody knows.
        self.shortest_distances: dict[str, float] = {}
        self.elements = list(elements)
        # Without a cutoff every atom is everyone's neighbour; `neighbor_list` takes infinity for that.
        self.cutoff = math.inf if network.config.cutoff is None else float(network.config.cutoff)
        species = torch.full([MAX_ATOMIC_NUMBER + 1], -1, dtype=torch.int64)
        species[torch.tensor(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("species_of_number", species, persistent=False)
        references = reference_energies.detach().to(torch.float64).clone(memory_format=torch.contiguous_format)
        self.register_buffer("reference_energies", references, persistent=False)
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64), persistent=False)

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        # A change of dtype concerns the network alone; a change of device concerns everything.
        exact = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(fn(buffer).device))
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The network's dtype."""
        return self.network.dtype

    @property
    def device(self) -> torch.device:
        return self.scale.device

    def check_elements(self, numbers: torch.Tensor) -> None:
        """Raise UnknownElementError if `numbers` [n_atoms] hold an element that the potential was not fitted to."""
        unknown = sorted(set(numbers.tolist()) - set(self.elements))
        if unknown:
            raise UnknownElementError(
                f"The structure holds {', '.join(symbols_of(unknown))}, which this potential was not fitted to; "
                f"it knows {', '.join(symbols_of(self.elements))}. Use a potential that was fitted to all of the structure's elements."
            )

    def fuse(self) -> None:
        """Let `evaluate` use the fused kernel from now on, where there is one for this network and it passes its check."""
        self.kernel_choice = KernelChoice(self.network)

    def fused_kernel(self) -> FusedFibreBundle | None:
        """Return the kernel that `evaluate` uses now, if any."""
        if self.kernel_choice is None:
            return None
        if self.kernel_choice.network is not self.network:
            self.fuse()
        return self.kernel_choice.kernel()

    def evaluate(self, graph: AtomGraph, forces: bool = True, stresses: bool = False) -> dict[str, torch.Tensor]:
        """Return what `forward` does for a graph, after checking its elements, by the fused kernel where there is one.

        Without `forces` energy and energies alone, with no reverse pass. `stresses` adds those of `atomic_stresses`, and implies forces.
        Edges may be longer than the cutoff: those have no part in anything.
        """
        _prepare_forks()
        self.check_elements(graph.numbers)
        fused = self.fused_kernel()
        if fused is not None and not stresses:
            species = self.species_of_number.index_select(0, graph.numbers)
            return fused.structures(graph, species, float(self.scale), self.reference_energies, forces)
        gradient: torch.Tensor | None = None
        # A caller's inference mode allows no derivatives, nor do the tensors that are made in it.
        with torch.inference_mode(False), torch.no_grad():
            graph = near_graph(_without_inference(graph), self.cutoff)
            vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
            if fused is not None:
                species = self.species_of_number.index_select(0, graph.numbers)
                energies, unscaled = fused(vectors, species, graph.edge_index)
                energies = self.scale * energies + self.reference_energies.index_select(0, species)
                gradient = self.scale * unscaled
            elif forces or stresses:
                # Forces are derivatives: a caller's no_grad must not reach them. (TorchScript has no enable_grad, so not in `forward`.)
                with torch.enable_grad():
                    energies, gradient = self.energies_and_gradient(vectors, graph.numbers, graph.edge_index)
            else:
                energies = self.atomic_energies(vectors, graph.numbers, graph.edge_index)
            energy = torch.zeros_like(graph.cells[:, 0, 0]).index_add(0, graph.batch, energies)
            result = {"energy": energy, "energies": energies.detach()}
            if gradient is not None:
                result["forces"] = forces_from(gradient, graph.positions, graph.edge_index)
                result["stress"] = stress_from(ordered_strain_derivatives(gradient, vectors, graph), graph.cells)
                if stresses:
                    result["stresses"] = atomic_stresses(gradient, vectors, graph.cells, graph.edge_index, graph.batch)
        return result

    def atomic_energies(
        self,
        vectors: torch.Tensor,
        numbers: torch.Tensor,
        edge_index: torch.Tensor,
    ) -> torch.Tensor:
        """Return atomic energies [n_atoms] in eV, float64, from edge vectors [n_edges, 3] in Å; differentiable any number of times."""
        species = self.species_of_number.index_select(0, numbers)
        energies = self.network(vectors.to(self.network.dtype), species, edge_index)
        return self.scale * energies.to(torch.float64) + self.reference_energies.index_select(0, species)

    def energies_and_gradient(
        self, vectors: torch.Tensor, numbers: torch.Tensor, edge_index: torch.Tensor, create_graph: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return atomic energies as `atomic_energies` does, and the gradient [n_edges, 3] of their sum in eV/Å."""
        if not vectors.requires_grad:
            # Another tensor, as the caller's stays what it is.
            vectors = vectors.detach().requires_grad_()
        energies = self.atomic_energies(vectors, numbers, edge_index)
        gradient = torch.autograd.grad([energies.sum()], [vectors], create_graph=create_graph)[0]
        assert gradient is not None
        return energies, gradient

    def forward(
        self,
        positions: torch.Tensor,
        numbers: torch.Tensor,
        cells: torch.Tensor,
        edge_index: torch.Tensor,
        shifts: torch.Tensor,
        batch: torch.Tensor,
        create_graph: bool = False,
    ) -> dict[str, torch.Tensor]:
        """Return energy, energies, forces and stress of a batch from one reverse pass; shapes of the input as in `AtomGraph`.

        energy   [n_structures] float64, eV
        energies [n_atoms] float64, eV, reference energies included
        forces   [n_atoms, 3] float64, eV/Å
        stress   [n_structures, 3, 3] float64, eV/Å^3: (1 / V) dE / d strain, tension positive; zero for a structure without a
                 cell of non-zero volume, where it is not defined

        `create_graph` keeps the graph of the forces for a loss or a Hessian.
        """
        vectors = edge_vectors(positions, cells, edge_index, shifts, batch)
        energies, gradient = self.energies_and_gradient(vectors, numbers, edge_index, create_graph)
        forces = forces_from(gradient, positions, edge_index)
        stress = stress_from(strain_derivatives(gradient, vectors, cells, edge_index, batch), cells)
        energy = torch.zeros_like(cells[:, 0, 0]).index_add(0, batch, energies)
        if not create_graph:
            energy, energies, forces, stress = energy.detach(), energies.detach(), forces.detach(), stress.detach()
        return {"energy": energy, "energies": energies, "forces": forces, "stress": stress}

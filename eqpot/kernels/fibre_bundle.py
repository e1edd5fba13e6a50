"""`FusedFibreBundle`: the exact fibre bundle network with frozen weights, as one call of a compiled kernel."""

import copy
import ctypes
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eqpot.errors import NeighborError
from eqpot.ghosts import GhostExchange
from eqpot.graph import AtomGraph
from eqpot.kernels.call import (
    MATRICES,
    NO_ATOM,
    NO_EXCHANGE,
    NO_TABLE,
    NOT_FINITE,
    TOO_CLOSE,
    Callback,
    Model,
    Pointer,
    Structures,
    Workspace,
    aligned_empty,
)
from eqpot.kernels.compiler import CompilationError, compile_library
from eqpot.neighbors.search import CLOSEST_DISTANCE, near_graph
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.network.radial_table import TabulatedRadial, intervals_of, radial_coefficients

_SPACING = {torch.float32: 0.0125, torch.float64: 0.0025}
"""Å between the knots of the radial tables: their error falls with the sixth power and is below that of the dtype, or close to it."""

SOURCES = tuple(Path(__file__).with_name(name) for name in ("fibre_bundle.c", "edges.h", "products.h"))


@dataclass(frozen=True)
class Packed:
    """A kernel's model without its library.

    content: arrays in the kernel's dtype, each at a multiple of 64 bytes; offsets: where each begins, in numbers, or -1, in the order of
    the pointers of `Model` and its blocks, and the tables; energy_biases [n_blocks]; inverse_spacing of the tables, 1/Å.
    """

    content: bytes
    offsets: list[int]
    energy_biases: list[float]
    inverse_spacing: float


class FusedFibreBundle:
    """Energies of a `FibreBundleNetwork` and their gradient with respect to the edge vectors.

    Radial functions are splines through the network's own (quintic, knots `_SPACING` / refinement apart); everything else is the same
    arithmetic in another order. Tables are made when a pair of elements is first met.
    Raises CompilationError where the kernel cannot be compiled or is not made for the network's shape.
    """

    def __init__(self, network: FibreBundleNetwork, dtype: torch.dtype, refinement: int = 1) -> None:
        config = network.config
        lanes = lanes_of(dtype)
        if config.n_channels % lanes:
            raise CompilationError(f"the fused kernel takes channels in multiples of {lanes}, not {config.n_channels}")
        self._order = orbits_of_half_turns(network.grid.exact_orientations)
        values = {
            "REAL": "float" if dtype == torch.float32 else "double",
            "N_CHANNELS": config.n_channels,
            "N_ORIENTATIONS": len(network.grid.orientations),
            "FEATURE_DEGREE": config.feature_degree,
            "KERNEL_DEGREE": config.kernel_degree,
        }
        self.definitions = tuple((name, str(value)) for name, value in values.items())
        self._library = compile_library(SOURCES, self.definitions)
        for function in ("eqpot_scratch_size", "eqpot_call", "eqpot_evaluate_structures"):
            getattr(self._library, function).restype = ctypes.c_int64
        self.dtype = dtype
        self.network = copy.deepcopy(network).double().cpu().requires_grad_(False)
        radial = network.radial
        self._n_intervals = (
            radial.n_intervals if isinstance(radial, TabulatedRadial) else intervals_of(config.cutoff, _SPACING[dtype] / refinement)
        )
        self._keep: list[torch.Tensor] = []
        self._workspace = self._new_workspace()
        self._lock = threading.Lock()
        n_species = network.n_elements
        # What a kernel and those made of it by with_readout share.
        self._pairs: set[int] = set()
        self._table_memory: list[torch.Tensor] = []
        self._tables = (Pointer * (config.n_blocks * n_species * n_species))()
        self._model = self._pack(n_species)

    def _hold(self, tensor: torch.Tensor, keep: list[torch.Tensor] | None = None) -> int:
        """Return the address of a copy in the kernel's dtype that lives as long as `keep`, by default as this object."""
        keep = self._keep if keep is None else keep
        keep.append(aligned_empty(tensor.numel(), self.dtype).copy_(tensor.reshape(-1)))
        return keep[-1].data_ptr()

    def _pack(self, n_species: int) -> Model:
        network = self.network
        blocks: list[Any] = list(network.blocks)
        products: list[Any] = [network.lift_product, *(block.product for block in blocks)]
        model = Model(
            n_blocks=len(products),
            n_species=n_species,
            cutoff=network.config.cutoff,
            inverse_spacing=self._n_intervals / network.config.cutoff,
            orientations=self._hold(network.grid.orientations[self._order]),
            synthesis=self._hold(network.grid.synthesis[self._order[::4]]),
            harmonic_norms=self._hold(_harmonic_norms(network.config.feature_degree)),
            embedding=self._hold(network.embedding.weight),
            tables=ctypes.cast(self._tables, Pointer),
        )
        for number, product in enumerate(products):
            fibre = {"factors": product.factors.weight}
            if not product.is_last:
                fibre["update"] = product.update.weight
            if number:
                block = blocks[number - 1]
                fibre |= {"message_mixing": block.message_mixing.weight, "self_mixing": block.self_mixing.weight}
            hidden, energy = product.readout[0], product.readout[2]
            matrices = fibre | {"gates": product.gates.weight.T, "readout": hidden.weight.T}
            for name, matrix in matrices.items():
                setattr(model.blocks[number], name, self._hold(matrix))
                setattr(model.blocks[number], f"{name}_t", self._hold(matrix.transpose(-1, -2)))
            for name, vector in {"gate_bias": product.gates.bias, "readout_bias": hidden.bias, "energy_weight": energy.weight[0]}.items():
                setattr(model.blocks[number], name, self._hold(vector))
            model.blocks[number].energy_bias = float(energy.bias)
        return model

    def packed(self) -> Packed:
        """Return all arrays of the model, with the tables of every two elements, as one block of bytes."""
        n_species, n_blocks = self._model.n_species, self._model.n_blocks
        self._tabulate_pairs(set(range(n_species * n_species)))
        model, blocks = self._model, self._model.blocks[:n_blocks]
        addresses = [model.orientations, model.synthesis, model.harmonic_norms, model.embedding]
        addresses += [getattr(block, name) for block in blocks for name in MATRICES]
        addresses += list(self._tables)
        held = {tensor.data_ptr(): tensor for tensor in (*self._keep, *self._table_memory)}
        content, offsets = bytearray(), []
        for address in addresses:
            offsets.append(len(content) // self.dtype.itemsize if address else -1)
            if address:
                content += held[address].numpy().tobytes()
                content += bytes(-len(content) % 64)
        biases = [block.energy_bias for block in blocks]
        return Packed(bytes(content), offsets, biases, model.inverse_spacing)

    def _tabulate_pairs(self, pairs: set[int]) -> None:
        """Make the tables of pairs, target times the number of elements plus source, that have none."""
        n_species = self._model.n_species
        with torch.inference_mode(False), torch.device("cpu"):
            for pair in sorted(pairs - self._pairs):
                self._tabulate(pair // n_species, pair % n_species)
                self._pairs.add(pair)

    def with_readout(self, weights: torch.Tensor) -> "FusedFibreBundle":
        """Return the kernel with other weights [n_blocks, n_channels] of the last layers, and none of their biases; all else is shared."""
        other = copy.copy(self)
        other._keep = [*self._keep]
        other._model = Model.from_buffer_copy(self._model)
        for number, weight in enumerate(weights):
            other._model.blocks[number].energy_weight = other._hold(weight)
            other._model.blocks[number].energy_bias = 0.0
        return other

    def _tabulate(self, target: int, source: int) -> None:
        """Make the tables of the edges from one species to another."""
        network = self.network
        functions = [
            values.view(len(values), -1, network.config.n_channels)
            for values in radial_coefficients(network, target, source, self._n_intervals)
        ]
        # What is linear in the radial functions goes into the tables: the source's element, the mixing of the lift, norms.
        tables = [
            torch.einsum("rlc,lcd->rld", functions[0] * network.embedding.weight[source], network.lift_mixing.weight) * network.lift.norm
        ]
        blocks: list[Any] = list(network.blocks)
        for block, values in zip(blocks, functions[1:], strict=True):
            norms = torch.sqrt(2 * torch.arange(values.shape[1], dtype=torch.float64) + 1) * block.convolution.norm
            tables.append(values * norms.view(-1, 1))
        n_species = self._model.n_species
        addresses = [self._hold(table, self._table_memory) for table in tables]
        # The first block's last: a call in another thread looks there for whether the pair has tables.
        for number in reversed(range(len(addresses))):
            self._tables[(number * n_species + target) * n_species + source] = addresses[number]

    def __call__(
        self,
        vectors: torch.Tensor,
        species: torch.Tensor,
        edge_index: torch.Tensor,
        gradient: bool = True,
        ghosts: GhostExchange | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return atomic energies [n_atoms] and the gradient [n_edges, 3] of their sum, both float64 with the digits of the kernel's dtype.

        Arguments as in `FibreBundleNetwork.forward`, on the CPU, edges in any order. Without `gradient` it is zero and costs nothing;
        where a vector is not finite everything is NaN. With `ghosts` energies are those of the local atoms, and the gradient that
        of the energy of all domains. Raises NeighborError for more edges than 32-bit numbers count, and for atoms that are not there.
        """
        _check_count(len(vectors))
        vectors = vectors.detach().to("cpu", torch.float64).contiguous()
        species, edge_index = species.to("cpu", torch.int64).contiguous(), edge_index.to("cpu", torch.int64).contiguous()
        n_local = ghosts.n_local if ghosts else len(species)
        energies, edge_gradient = torch.empty(n_local, dtype=torch.float64, device="cpu"), torch.empty_like(vectors)
        callback = Callback(ghosts, len(species), self.dtype)
        with self._memory() as workspace:
            system = workspace.system(len(species), len(vectors))
            system.n_local, system.want_gradient, system.exchange = n_local, gradient, callback.function
            system.energies = energies.data_ptr()
            arrays = [Pointer(tensor.data_ptr()) for tensor in (species, edge_index[0], edge_index[1], vectors, edge_gradient)]
            wrong = self._library.eqpot_call(ctypes.byref(self._model), ctypes.byref(system), *arrays)
        callback.check()
        if not wrong:
            return energies, edge_gradient
        _check_edges(wrong)
        if wrong & NOT_FINITE:
            return energies.fill_(math.nan), edge_gradient.fill_(math.nan)
        if wrong & NO_TABLE:
            self._tabulate_for(species, edge_index)
            return self(vectors, species, edge_index, gradient, ghosts)
        order = torch.argsort(edge_index[1], stable=True)
        energies, sorted_gradient = self(vectors[order], species, edge_index[:, order], gradient, ghosts)
        return energies, torch.empty_like(sorted_gradient).index_copy_(0, order, sorted_gradient)

    def structures(
        self, graph: AtomGraph, species: torch.Tensor, scale: float, reference_energies: torch.Tensor, gradient: bool = True
    ) -> dict[str, torch.Tensor]:
        """Return energy, energies, forces and stress of a graph as `Potential.forward` does, on the CPU; forces and stress with `gradient`.

        Edges may be longer than the cutoff: those have no part in anything. species [n_atoms]; scale in eV, reference_energies
        [n_elements] in eV: those of the potential. One call of the library does what in tensor operations takes molecules as long as
        the network. Where a vector is not finite everything is NaN. Errors as above, and NeighborError for atoms on top of each other.
        """
        n_atoms, n_edges, n_structures = graph.n_atoms, len(graph.shifts), graph.n_structures
        _check_count(n_edges)
        whole = [tensor.to("cpu", torch.int64).contiguous() for tensor in (species, graph.batch, graph.edge_index, graph.shifts)]
        real = [tensor.to("cpu", torch.float64).contiguous() for tensor in (reference_energies, graph.positions, graph.cells)]
        # On the CPU, whatever the default device is.
        kind: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
        found = {"energy": torch.zeros(n_structures, **kind), "energies": torch.empty(n_atoms, **kind)}
        if gradient:
            found["forces"] = torch.zeros((n_atoms, 3), **kind)
            found["stress"] = torch.zeros((n_structures, 3, 3), **kind)
        with self._memory() as workspace:
            system = workspace.system(n_atoms, n_edges)
            system.n_local, system.want_gradient, system.exchange = n_atoms, gradient, NO_EXCHANGE
            system.energies = found["energies"].data_ptr()
            inputs = (real[0], *whole, *real[1:])
            results = [found[name].data_ptr() if name in found else None for name in ("energy", "forces", "stress")]
            given = (n_structures, n_edges, scale, CLOSEST_DISTANCE, *(tensor.data_ptr() for tensor in inputs))
            structures = Structures(*given, *workspace.of_edges, *results)
            wrong = self._library.eqpot_evaluate_structures(*map(ctypes.byref, (self._model, system, structures)))
        if not wrong:
            return found
        if wrong & TOO_CLOSE:
            near_graph(graph, self.network.config.cutoff)  # says which
        _check_edges(wrong)
        if wrong & NOT_FINITE:
            return {name: values.fill_(math.nan) for name, values in found.items()}
        if wrong & NO_TABLE:
            self._tabulate_for(species, graph.edge_index)
            return self.structures(graph, species, scale, reference_energies, gradient)
        order = torch.argsort(graph.edge_index[1], stable=True)
        ordered = replace(graph, edge_index=graph.edge_index[:, order], shifts=graph.shifts[order])
        return self.structures(ordered, species, scale, reference_energies, gradient)

    def _new_workspace(self) -> Workspace:
        return Workspace(self.network.config, len(self.network.grid.orientations), self.dtype, self._library.eqpot_scratch_size())

    @contextmanager
    def _memory(self) -> Iterator[Workspace]:
        """Give memory to one call: its own where another thread is at work, or was when this process was forked."""
        own = self._lock.acquire(blocking=False)
        try:
            yield self._workspace if own else self._new_workspace()
        finally:
            if own:
                self._lock.release()

    def _tabulate_for(self, species: torch.Tensor, edge_index: torch.Tensor) -> None:
        pairs = species[edge_index[1]] * self._model.n_species + species[edge_index[0]]
        self._tabulate_pairs(set(torch.unique(pairs).tolist()))


def _check_count(n_edges: int) -> None:
    if n_edges >= 2**31:
        raise NeighborError(f"The structure has {n_edges} edges; the fused kernel takes fewer than 2^31. Use a smaller structure.")


def _check_edges(wrong: int) -> None:
    if wrong & NO_ATOM:
        raise NeighborError("The edges lead to atoms, or the atoms belong to structures, that are not there; build the graph anew.")
    if wrong & TOO_CLOSE:
        raise NeighborError("Two atoms lie on top of each other; correct the structure.")


def lanes_of(dtype: torch.dtype) -> int:
    """Return how many channels the kernel takes at once, of which a network has a multiple."""
    return 64 // dtype.itemsize


def orbits_of_half_turns(orientations: torch.Tensor) -> torch.Tensor:
    """Return the order of the points [n, 3] in which every four are one and its images under half-turns about x, y and z.

    Raises CompilationError where a half-turn leads out of the grid, as of no design of `spherical_design`.
    """
    turns = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    turned = orientations.view(-1, 1, 1, 3) * turns.view(4, 1, 3)
    distances, images = (turned - orientations).norm(dim=-1).min(dim=2)
    if distances.max() > 1e-9 or images.unique().numel() < len(images) or (images.sort(dim=1)[0].diff(dim=1) == 0).any():
        raise CompilationError("the fused kernel takes grids of orientations that half-turns about x, y and z map onto themselves")
    return images[images[:, 0] == images.amin(dim=1)].flatten()


def _harmonic_norms(degree: int) -> torch.Tensor:
    """Return the factors of `spherical_harmonics` [(degree + 1)^2]."""
    norms = []
    for n in range(degree + 1):
        for m in range(-n, n + 1):
            ratio = math.factorial(n - abs(m)) / math.factorial(n + abs(m))
            norms.append(math.sqrt((2 * n + 1) * ratio * (2 if m else 1)))
    return torch.tensor(norms, dtype=torch.float64)

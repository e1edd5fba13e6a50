"""The reference form: the three networks of Bekkers et al. (ICLR 2024) as they are published, number for number.

Modules and parameters carry the names of the official code (github.com/ebekkers/ponita), so its `state_dict` loads as it is. What the
published form lacks as a potential is told in docs/network.md.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from eqpot.errors import ConfigError, DataError, ModelFileError
from eqpot.network.reference_config import ReferenceConfig, read_reference_config
from eqpot.network.reference_layers import InteractionLayer, PolynomialWindow, kernel_basis_network, safe_norm

Array = np.ndarray | torch.Tensor

_CALIBRATION_FLAG = "conv.callibrated"  # codespell:ignore callibrated
"""The official code's own spelling; it says whether training has begun and means nothing to a trained network."""


class ReferenceNetwork(nn.Module):
    """What the three geometries share; each has a `forward` that maps edges and input features to outputs of the atoms.

    `forward` takes edge vectors r = x_j - x_i [n_edges, 3] (Å), edges j -> i [2, n_edges] with the self edge (r = 0) of every atom,
    scalar features [n_atoms, n_scalars] and vector features [n_atoms, n_vectors, 3], and returns scalars [n_atoms, output_dim] and
    vectors [n_atoms, output_dim_vec, 3], without units.
    """

    def __init__(self, config: ReferenceConfig, n_attributes: int) -> None:
        super().__init__()
        channels, basis, on_fibre = config.hidden_dim, config.kernel_basis_size, config.num_ori > 0
        self.config = config
        self.output_dim = config.output_dim
        self.multiple_readouts = config.multiple_readouts
        self.basis_fn = kernel_basis_network(n_attributes, config.degree, channels, basis)
        self.windowing_fn = None if config.radius is None else PolynomialWindow(config.radius)
        self.x_embedder = nn.Linear(config.input_dim, channels, bias=False)
        self.interaction_layers = nn.ModuleList(
            InteractionLayer(channels, basis, config.widening_factor, on_fibre, config.layer_scale) for _ in range(config.num_layers)
        )
        # Layers without a read-out keep their place in the official numbering.
        self.read_out_layers = nn.ModuleList(
            nn.Linear(channels, config.output_dim + config.output_dim_vec)
            if config.multiple_readouts or layer == config.num_layers - 1
            else nn.Identity()
            for layer in range(config.num_layers)
        )

    def sample_kernel_basis(self, attributes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[..., n_attributes] and lengths that broadcast with [...] -> windowed kernel basis [..., basis_dim]."""
        basis: torch.Tensor = self.basis_fn(attributes)
        return basis if self.windowing_fn is None else basis * self.windowing_fn(lengths).unsqueeze(-1)

    def interact(
        self, features: torch.Tensor, kernel_basis: torch.Tensor, fiber_basis: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Apply all layers and return the mean of their read-outs, [..., output_dim + output_dim_vec]."""
        readouts: list[torch.Tensor] = []
        for layer, read_out in zip(self.interaction_layers, self.read_out_layers):  # noqa: B905 (TorchScript has no strict)
            features = layer(features, kernel_basis, fiber_basis, source, target)
            if self.multiple_readouts:
                readouts.append(read_out(features))
        if not self.multiple_readouts:
            readouts.append(self.read_out_layers[-1](features))
        return torch.stack(readouts).mean(dim=0)

    def energy_and_forces(
        self, numbers: Array, positions: Array, node_features: Array, edge_index: Array, input_vectors: Array | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return energy [] and forces [n_atoms, 3] (per Å), without units of energy.

        The energy is the first scalar output summed over the atoms, forces are minus its derivative. numbers [n_atoms], positions
        [n_atoms, 3] in Å, node_features [n_atoms, n_scalars], edge_index [2, n_edges] (row 0 source j, row 1 target i; self edges
        that are missing are added), input_vectors [n_atoms, n_vectors, 3], arrays or tensors. The network itself sees the elements
        through node_features alone.

        Raises DataError for inputs that do not fit together and ConfigError for a network without a scalar output.
        """
        if self.output_dim == 0:
            raise ConfigError("The network has no scalar output (output_dim is 0), so it has no energy; use a network with one.")
        inputs = self._inputs(numbers, positions, node_features, edge_index, input_vectors)
        with torch.enable_grad():
            moved = inputs[0].detach().clone().requires_grad_()
            energy = self._atomic_outputs(moved, *inputs[1:])[0][:, 0].sum()
            gradient = torch.autograd.grad(energy, moved)[0]
        return energy.detach(), -gradient

    def outputs(
        self,
        numbers: Array,
        positions: Array,
        node_features: Array,
        edge_index: Array,
        input_vectors: Array | None = None,
        batch: Array | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return outputs and intermediates; inputs as in `energy_and_forces`, and `batch` [n_atoms], the structure of each atom.

        scalar_out [n_structures, output_dim], or [n_atoms, output_dim] with task_level "node"; vector_out [..., output_dim_vec, 3] if
        there are any; and, with a leading [n_atoms, num_ori] on the fibre bundle, [n_atoms] for positions only and one row for
        each node of the point cloud: mid_embed [..., hidden_dim], mid_layer{i}_conv and mid_layer{i}_out [..., hidden_dim],
        mid_readout{i} [..., output_dim + output_dim_vec], mid_kernel_basis_unwindowed [n_edges, ..., basis_dim], and on the
        fibre bundle mid_fiber_basis [num_ori, num_ori, basis_dim].
        """
        inputs = self._inputs(numbers, positions, node_features, edge_index, input_vectors)
        structures = None if batch is None else torch.as_tensor(batch).to(inputs[2])
        recorded: dict[str, torch.Tensor] = {}
        handles = []
        for name, module in self._intermediates().items():

            def record(_module: nn.Module, _arguments: Any, result: torch.Tensor, name: str = name) -> None:
                recorded[name] = result.detach()

            handles.append(module.register_forward_hook(record))
        try:
            with torch.no_grad():
                scalars, vectors = self._atomic_outputs(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        recorded["scalar_out"] = self._pool(scalars, structures)
        if vectors.shape[1] > 0:
            recorded["vector_out"] = self._pool(vectors, structures)
        return recorded

    def calibrate(
        self,
        numbers: Array,
        positions: Array,
        node_features: Array,
        edge_index: Array,
        input_vectors: Array | None = None,
        batch: Array | None = None,
    ) -> torch.Tensor:
        """Rescale the kernels to the data of a first batch, as the official code does once when training begins.

        In each layer kernel.weight *= std(f) / std(m) and fiber_kernel.weight *= std(m) / std(y - bias), with the layer's input f,
        the sum over neighbours m and the convolution's output y, all of the old weights. Inputs as in `outputs`; returns scalar_out,
        of the old weights too.
        """
        handles = [layer.conv.register_forward_hook(_rescale) for layer in self.interaction_layers]  # type: ignore[union-attr]
        try:
            return self.outputs(numbers, positions, node_features, edge_index, input_vectors, batch)["scalar_out"]
        finally:
            for handle in handles:
                handle.remove()

    def _intermediates(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"mid_embed": self.x_embedder, "mid_kernel_basis_unwindowed": self.basis_fn}
        if isinstance(self, FibreBundleReference):
            modules["mid_fiber_basis"] = self.fiber_basis_fn
        for index, (layer, read_out) in enumerate(zip(self.interaction_layers, self.read_out_layers, strict=True)):
            modules[f"mid_layer{index}_conv"] = layer.conv  # type: ignore[assignment]
            modules[f"mid_layer{index}_out"] = layer
            if isinstance(read_out, nn.Linear):
                modules[f"mid_readout{index}"] = read_out
        return modules

    def _inputs(
        self, numbers: Array, positions: Array, node_features: Array, edge_index: Array, input_vectors: Array | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return positions, node_features, edge_index with all self edges, and input_vectors as tensors that fit together."""
        like = self.x_embedder.weight
        places, scalars = torch.as_tensor(positions).to(like), torch.as_tensor(node_features).to(like)
        edges = torch.as_tensor(edge_index).to(device=like.device, dtype=torch.int64)
        n_atoms = len(torch.as_tensor(numbers))
        vectors = like.new_zeros(n_atoms, 0, 3) if input_vectors is None else torch.as_tensor(input_vectors).to(like)
        n_vectors = vectors.shape[1] if vectors.dim() == 3 else 0
        if n_vectors and self.config.num_ori == 0:
            raise DataError("Input vectors need orientations, and this network has positions only (num_ori is 0); leave them out.")
        expected = ((n_atoms, 3), (n_atoms, self.config.input_dim - n_vectors), (n_atoms, n_vectors, 3))
        names = ("positions", "node_features", "input_vectors")
        for name, value, shape in zip(names, (places, scalars, vectors), expected, strict=True):
            if value.shape != shape:
                raise DataError(f"{name} has shape {tuple(value.shape)}; {n_atoms} atoms and the network's input_dim ask for {shape}.")
            if not torch.isfinite(value).all():
                raise DataError(f"{name} holds NaN or infinity; correct it.")
        if edges.dim() != 2 or len(edges) != 2 or (edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < n_atoms):
            raise DataError(f"edge_index must be [2, n_edges] with atoms 0 ... {n_atoms - 1}; its shape is {tuple(edges.shape)}.")
        lonely = torch.ones(n_atoms, dtype=torch.bool, device=like.device)
        lonely[edges[0, edges[0] == edges[1]]] = False
        own = torch.nonzero(lonely).view(-1)
        return places, scalars, torch.cat([edges, torch.stack([own, own])], dim=1), vectors

    def _atomic_outputs(
        self, positions: torch.Tensor, node_features: torch.Tensor, edge_index: torch.Tensor, input_vectors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = positions[edge_index[0]] - positions[edge_index[1]]
        outputs: tuple[torch.Tensor, torch.Tensor] = self(vectors, edge_index, node_features, input_vectors)
        return outputs

    def _pool(self, values: torch.Tensor, batch: torch.Tensor | None) -> torch.Tensor:
        if self.config.task_level == "node":
            return values
        if batch is None:
            return values.sum(dim=0, keepdim=True)
        return values.new_zeros(int(batch.max()) + 1, *values.shape[1:]).index_add(0, batch, values)


class FibreBundleReference(ReferenceNetwork):
    """Features on R^3 x S^2, sampled at every atom on one grid of orientations n_o.

    Spatial kernels of (r . n_o, |r - (r . n_o) n_o|), then fibre kernels of n_o . n_p.
    """

    ori_grid: torch.Tensor

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__(config, n_attributes=2)
        self.fiber_basis_fn = kernel_basis_network(1, config.degree, config.hidden_dim, config.kernel_basis_size)
        # The official grid is random and no part of its state_dict; here it belongs to the weights.
        self.register_buffer("ori_grid", torch.zeros(config.num_ori, 3))

    def forward(
        self, vectors: torch.Tensor, edge_index: torch.Tensor, node_features: torch.Tensor, input_vectors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        grid = self.ori_grid
        n_orientations = grid.shape[0]
        along = torch.matmul(vectors, grid.t())
        across = safe_norm(vectors.unsqueeze(1) - along.unsqueeze(2) * grid)
        kernel_basis = self.sample_kernel_basis(torch.stack([along, across], dim=-1), safe_norm(vectors).unsqueeze(1))
        fiber_basis = self.fiber_basis_fn(torch.matmul(grid, grid.t()).unsqueeze(-1))
        scalars = node_features.unsqueeze(1).expand(-1, n_orientations, -1)
        lifted = torch.cat([scalars, torch.matmul(input_vectors, grid.t()).transpose(1, 2)], dim=-1)
        readout = self.interact(self.x_embedder(lifted), kernel_basis, fiber_basis, edge_index[0], edge_index[1])
        vector_part = torch.einsum("iok,od->ikd", readout[..., self.output_dim :], grid) / n_orientations
        return readout[..., : self.output_dim].mean(dim=1), vector_part


class PositionReference(ReferenceNetwork):
    """Features on R^3: kernels of the distance alone; no vectors, neither in nor out."""

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__(config, n_attributes=1)

    def forward(
        self, vectors: torch.Tensor, edge_index: torch.Tensor, node_features: torch.Tensor, input_vectors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = safe_norm(vectors)
        kernel_basis = self.sample_kernel_basis(lengths.unsqueeze(-1), lengths)
        readout = self.interact(self.x_embedder(node_features), kernel_basis, kernel_basis, edge_index[0], edge_index[1])
        return readout[:, : self.output_dim], input_vectors[:, :0]


class PointCloudReference(ReferenceNetwork):
    """Features on a point cloud in R^3 x S^2: every edge j -> i is a node at x_i with the orientation n = (x_j - x_i) / |x_j - x_i|.

    A node (x', n') sends to (x, n) if their atoms share an edge or are the same one, with one kernel of the invariants r . n,
    |r - (r . n) n| and n' . n, where r = x' - x. Outputs are averaged over the nodes of an atom, vector outputs times n. Exactly
    equivariant: orientations turn with the atoms. An atom without neighbours has no node, and its outputs are zero.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__(config, n_attributes=3)

    def forward(
        self, vectors: torch.Tensor, edge_index: torch.Tensor, node_features: torch.Tensor, input_vectors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_atoms = node_features.shape[0]
        lengths = safe_norm(vectors)
        # A self edge has no direction.
        lifted = torch.nonzero(lengths > 0).view(-1)
        atom = edge_index[1].index_select(0, lifted)
        orientations = vectors.index_select(0, lifted) / lengths.index_select(0, lifted).unsqueeze(1)
        edge, source, target = node_pairs(edge_index, atom, n_atoms)

        receiving = orientations.index_select(0, target)
        r = vectors.index_select(0, edge)
        along = (r * receiving).sum(dim=1)
        across = safe_norm(r - along.unsqueeze(1) * receiving)
        angle = (orientations.index_select(0, source) * receiving).sum(dim=1)
        kernel_basis = self.sample_kernel_basis(torch.stack([along, across, angle], dim=-1), lengths.index_select(0, edge))

        projections = torch.matmul(input_vectors.index_select(0, atom), orientations.unsqueeze(2)).squeeze(2)
        features = self.x_embedder(torch.cat([node_features.index_select(0, atom), projections], dim=-1))
        readout = self.interact(features, kernel_basis, kernel_basis, source, target)

        counts = torch.bincount(atom, minlength=n_atoms).clamp(min=1).to(readout.dtype)
        scalar_part, vector_part = readout[:, : self.output_dim], readout[:, self.output_dim :]
        scalars = torch.zeros([n_atoms, scalar_part.shape[1]], dtype=readout.dtype, device=readout.device)
        turned = vector_part.unsqueeze(2) * orientations.unsqueeze(1)
        outputs = torch.zeros([n_atoms, vector_part.shape[1], 3], dtype=readout.dtype, device=readout.device)
        scalars = scalars.index_add(0, atom, scalar_part) / counts.view(-1, 1)
        return scalars, outputs.index_add(0, atom, turned) / counts.view(-1, 1, 1)


def node_pairs(edge_index: torch.Tensor, atom: torch.Tensor, n_atoms: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for every pair of nodes that share an edge: the edge, the sending and the receiving node, each [n_pairs].

    `atom` [n_nodes] is the atom a node sits on. An edge j -> i joins every node of j with every node of i.
    """
    counts = torch.bincount(atom, minlength=n_atoms)
    nodes = torch.argsort(atom)
    first = torch.cumsum(counts, 0) - counts
    n_source, n_target = counts.index_select(0, edge_index[0]), counts.index_select(0, edge_index[1])
    per_edge = n_source * n_target
    edge = torch.repeat_interleave(torch.arange(edge_index.shape[1], device=atom.device), per_edge)
    rank = torch.arange(edge.shape[0], device=atom.device) - (torch.cumsum(per_edge, 0) - per_edge).index_select(0, edge)
    columns = n_target.index_select(0, edge)
    source = first.index_select(0, edge_index[0].index_select(0, edge)) + torch.div(rank, columns, rounding_mode="floor")
    target = first.index_select(0, edge_index[1].index_select(0, edge)) + rank % columns
    return edge, nodes.index_select(0, source), nodes.index_select(0, target)


def build_reference(config: ReferenceConfig) -> ReferenceNetwork:
    """Return the network of the geometry that `num_ori` says, with fresh weights."""
    if config.num_ori > 0:
        return FibreBundleReference(config)
    return PositionReference(config) if config.num_ori == 0 else PointCloudReference(config)


def load_reference(weights: Mapping[str, Array], config: Mapping[str, Any] | ReferenceConfig) -> ReferenceNetwork:
    """Return an official network in float64.

    weights: the official state_dict and, for the fibre bundle, `ori_grid` [num_ori, 3]. config: the arguments of the official `Ponita`;
    its `num_ori` tells the geometry.

    Raises ConfigError for a configuration that is none, and ModelFileError for weights that are missing, left over, not finite or
    not of the shape that the configuration asks for.
    """
    settings = config if isinstance(config, ReferenceConfig) else read_reference_config(config)
    network = build_reference(settings).double()
    expected = network.state_dict()
    given = {name: value for name, value in weights.items() if not name.endswith(_CALIBRATION_FLAG)}
    for name in given:
        if name not in expected:
            raise ModelFileError(f"The configuration has no place for the weight {name}; check the configuration against the weights.")
    tensors = {name: _checked(name, given, tensor.shape) for name, tensor in expected.items()}
    if settings.radius is not None and abs(float(tensors["windowing_fn.r_max"]) / settings.radius - 1) > 1e-6:
        raise ModelFileError(
            f"The weight windowing_fn.r_max is {float(tensors['windowing_fn.r_max']):g} Å and the configuration's radius "
            f"{settings.radius:g} Å; correct the radius."
        )
    network.load_state_dict(tensors)
    return network.eval()


def _checked(name: str, weights: Mapping[str, Array], shape: torch.Size) -> torch.Tensor:
    if name not in weights:
        hint = "; the official state_dict lacks it, take it from the network's transform" if name == "ori_grid" else ""
        raise ModelFileError(f"The weight {name} of shape {tuple(shape)} is missing{hint}.")
    try:
        tensor = torch.as_tensor(weights[name]).to(torch.float64)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"The weight {name} is no array of numbers; export the weights again.") from error
    if tensor.shape != shape:
        raise ModelFileError(
            f"The weight {name} has shape {tuple(tensor.shape)}, and the configuration asks for {tuple(shape)}; "
            f"check the configuration against the weights."
        )
    if not torch.isfinite(tensor).all():
        raise ModelFileError(f"The weight {name} is not finite; take other weights.")
    return tensor


def _rescale(convolution: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    """Forward hook of `calibrate`."""
    features, kernel_basis, _, source, target = arguments
    with torch.no_grad():
        messages = convolution.messages(features, kernel_basis, source, target)  # type: ignore[operator]
        convolution.kernel.weight *= features.std() / messages.std()  # type: ignore[union-attr]
        if convolution.fiber_kernel is not None:
            convolution.fiber_kernel.weight *= messages.std() / (output - convolution.bias).std()  # type: ignore[union-attr, operator]

"""The reference form inside a `Potential`."""

import torch
from torch import nn

from eqpot.errors import ConfigError
from eqpot.network.base import Network
from eqpot.network.reference import build_reference
from eqpot.network.reference_config import ReferenceConfig


class PonitaNetwork(Network):
    """Atomic energies from edge vectors and species by a network of the reference form, without units.

    An element's input features are the official ones of rMD17: a one-hot vector whose channel is the atomic number. The first scalar
    output is the energy.
    """

    def __init__(self, config: ReferenceConfig, elements: list[int]) -> None:
        """elements: atomic numbers in the order of the species; ConfigError if `config` is no energy of atoms of these elements."""
        # The published form sums messages as they are, so the average number of neighbours is nothing to it.
        super().__init__(config, len(elements), 1.0, config.input_dim)
        if config.output_dim == 0 or config.output_dim_vec > 0:
            raise ConfigError(
                f"The network has {config.output_dim} scalar and {config.output_dim_vec} vector outputs; a potential needs one with scalar "
                f"outputs alone, and with inputs that atoms have (elements, no vectors)."
            )
        if not elements or not 0 < min(elements) <= max(elements) < config.input_dim:
            raise ConfigError(
                f"The network has {config.input_dim} input channels, so it knows the atomic numbers 1 ... {config.input_dim - 1}, "
                f"and {elements} are asked for; choose elements among them."
            )
        one_hot = nn.functional.one_hot(torch.tensor(elements), config.input_dim)
        self.embedding.weight = nn.Parameter(one_hot.to(self.dtype), requires_grad=False)
        self.reference = build_reference(config)

    def forward(self, vectors: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Map edge vectors [n_edges, 3] (Å), species indices [n_atoms] and edges [2, n_edges] without self edges to energies [n_atoms]."""
        own = torch.arange(species.shape[0], device=species.device)
        edges = torch.cat([edge_index, torch.stack([own, own])], dim=1)
        with_own = torch.cat([vectors, torch.zeros([own.shape[0], 3], dtype=vectors.dtype, device=vectors.device)])
        features = self.embedding(species)
        no_vectors = torch.zeros([own.shape[0], 0, 3], dtype=features.dtype, device=features.device)
        return self.reference(with_own, edges, features, no_vectors)[0][:, 0]

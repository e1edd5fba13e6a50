"""What a node does with its messages in the paper's block (Bekkers et al., ICLR 2024, eq. 13), in a form fit for a potential."""

import torch
from torch import nn


class ResidualPerceptron(nn.Module):
    """x + W2 gelu(W1 y / sqrt(1 + mean over the channels of y^2) + b1) + b2.

    The paper divides by the standard deviation alone (LayerNorm). That makes the message of a lone neighbour as large as any
    other's until it vanishes at the cutoff; with the 1 small messages stay small, and only large ones are bounded.
    """

    def __init__(self, n_channels: int, widening: int) -> None:
        super().__init__()
        self.widen = nn.Linear(n_channels, widening * n_channels)
        self.narrow = nn.Linear(widening * n_channels, n_channels)

    def forward(self, features: torch.Tensor, messages: torch.Tensor) -> torch.Tensor:
        """Map features x and messages y, both [..., n_channels], to new features."""
        bounded = messages / torch.sqrt(1 + messages.square().mean(dim=-1, keepdim=True))
        return features + self.narrow(nn.functional.gelu(self.widen(bounded)))


def make_readout(n_channels: int) -> nn.Sequential:
    """Return the perceptron that maps invariants [n_atoms, n_channels] to atomic energies [n_atoms, 1]."""
    return nn.Sequential(nn.Linear(n_channels, n_channels), nn.SiLU(), nn.Linear(n_channels, 1))

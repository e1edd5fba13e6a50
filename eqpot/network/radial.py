"""Functions of the edge length: Bessel basis, smooth window, and the radial network of the kernels."""

import math

import torch
from torch import nn


def smooth_window(lengths: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Return 1 - 28 u^6 + 48 u^7 - 21 u^8 with u = r / cutoff, zero beyond (Gasteiger et al. 2020, eq. 8, p = 6).

    The value and its first two derivatives vanish at the cutoff, so energies, forces and Hessians are continuous there. Computed as a
    multiple of (1 - u)^3, as near the cutoff the terms of the sum cancel to less than they are rounded to.
    """
    u = lengths / cutoff
    window = (1 - u) ** 3 * (1 + u * (3 + u * (6 + u * (10 + u * (15 + 21 * u)))))
    return torch.where(u < 1, window, torch.zeros_like(window))


def bessel_functions(lengths: torch.Tensor, cutoff: float, count: int) -> torch.Tensor:
    """Return sqrt(2 / cutoff) sin(n pi r / cutoff) / r for n = 1 ... count, [n_edges, count] (ibid., eq. 7).

    The sines follow from sin(x) and cos(x) by the recursion sin((n + 1) x) = 2 cos(x) sin(n x) - sin((n - 1) x).
    """
    x = lengths * (math.pi / cutoff)
    double_cosine = 2 * torch.cos(x)
    sines = [torch.sin(x)]
    previous = torch.zeros_like(x)
    for n in range(1, count):
        current = double_cosine * sines[n - 1] - previous
        previous = sines[n - 1]
        sines.append(current)
    return torch.stack(sines, dim=-1) * (math.sqrt(2 / cutoff) / lengths).unsqueeze(-1)


SILU_GAIN = 1.5
"""About the inverse of the root mean square of silu(x) for a normal x: it keeps variances from layer to layer."""


def radial_kernel(width: int, n_outputs: int) -> nn.Linear:
    """Return the linear map, without bias, from radial features [n_edges, width] to kernels [n_edges, n_outputs] of variance one."""
    kernel = nn.Linear(width, n_outputs, bias=False)
    nn.init.normal_(kernel.weight, std=SILU_GAIN / math.sqrt(width))
    return kernel


class RadialNetwork(nn.Module):
    """Hidden features of an edge: a two-layer perceptron of the Bessel functions and the two elements, times the window."""

    def __init__(self, n_elements: int, n_bessel: int, width: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.n_bessel = n_bessel
        self.input = nn.Linear(n_bessel, width)
        self.source_element = nn.Embedding(n_elements, width)
        self.target_element = nn.Embedding(n_elements, width)
        self.hidden = nn.Linear(width, width)
        self._initialise()

    def _initialise(self) -> None:
        # Inputs of both activations start with a variance near one. torch's defaults leave them several times smaller, so messages
        # start weak, products of them weaker still, and fits of equal length come out worse.
        nn.init.normal_(self.input.weight)
        nn.init.normal_(self.hidden.weight, std=SILU_GAIN / math.sqrt(self.hidden.in_features))
        for bias in (self.input.bias, self.hidden.bias):
            nn.init.zeros_(bias)
        for embedding in (self.source_element, self.target_element):
            nn.init.normal_(embedding.weight, std=math.sqrt(0.5))

    def forward(self, lengths: torch.Tensor, source_species: torch.Tensor, target_species: torch.Tensor) -> torch.Tensor:
        """Map lengths [n_edges] and species indices [n_edges] to features [n_edges, width] that vanish at the cutoff."""
        return self.unwindowed(lengths, source_species, target_species) * smooth_window(lengths, self.cutoff).unsqueeze(-1)

    def unwindowed(self, lengths: torch.Tensor, source_species: torch.Tensor, target_species: torch.Tensor) -> torch.Tensor:
        """Return the features before the window, which are smooth for every length."""
        elements = self.source_element(source_species) + self.target_element(target_species)
        hidden = nn.functional.silu(self.input(bessel_functions(lengths, self.cutoff, self.n_bessel)) + elements)
        return nn.functional.silu(self.hidden(hidden))

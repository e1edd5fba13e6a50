"""
A block of one's own
====================

A part of the network can be replaced by another. What must hold is measured: rotations, forces as derivatives, energies that add up.
"""

from pathlib import Path

import ase.io
import torch
from torch import nn

from eqpot.data import label_graphs, read_frames
from eqpot.data.batches import collate_labelled
from eqpot.exactness import extensivity_error, force_deviation, rotation_error
from eqpot.network.blocks import ProductBlock
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.potential import Potential

STEPS = 100
HERE = Path(__file__).parent


class Activated(ProductBlock):
    """A SiLU at every orientation: not a polynomial, so a finite grid cannot follow a rotation."""

    def forward(self, features, scalars, messages):
        return super().forward(features, scalars, self.grid.to_coefficients(nn.functional.silu(self.grid.to_grid(messages))))


class Gated(ProductBlock):
    """The same SiLU of invariants, the means over all orientations of the squared messages, times the messages: exact."""

    def forward(self, features, scalars, messages):
        return super().forward(features, scalars, messages * nn.functional.silu(1 + messages.square().sum(dim=1, keepdim=True)))


# %%
# Both stand in the place of the product block, and are fitted by a plain loop: `Potential` is a module whose forces are differentiable.
frames = read_frames(HERE / "data" / "ethanol.npz")
batch = collate_labelled(label_graphs(frames[:60], 4.0))
ethanol = ase.io.read(HERE.parent / "potentials" / "ethanol" / "structure.extxyz")
mean = torch.tensor([frame.energy / 9 for frame in frames]).mean().expand(3)
for block in (ProductBlock, Activated, Gated):
    torch.manual_seed(0)
    network = FibreBundleNetwork(NetworkConfig(cutoff=4.0, n_channels=16, radial_width=16), n_elements=3, average_neighbors=8.0)
    network.lift_product, network.blocks[0].product = (block(network.grid, 2, 16, is_last) for is_last in (False, True))
    potential = Potential(network, [1, 6, 8], mean, scale=1.0)
    optimizer = torch.optim.Adam(potential.parameters(), lr=0.01)
    for _ in range(STEPS):
        errors = potential(*batch.graph.tensors(), create_graph=True)["forces"] - batch.forces
        optimizer.zero_grad()
        errors.square().mean().backward()
        optimizer.step()
    exact = potential.requires_grad_(False).double()
    found = rotation_error(exact, ethanol)[1], force_deviation(exact, ethanol), extensivity_error(exact, ethanol)
    print(f"{block.__name__}: training error {1000 * errors.detach().abs().mean():.0f} meV/Å, rotation error {found[0]:.0e} eV/Å,", end=" ")
    print(f"forces against differences {found[1]:.0e}, two copies {found[2]:.0e} eV/atom")

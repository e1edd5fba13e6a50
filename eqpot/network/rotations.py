"""Finite groups of rotations, to average over."""

import math

import torch

from eqpot.network.fibre import ExactBuffers

_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2

_GENERATORS = {
    1: [],
    12: [((0.0, 0.0, 1.0), 2), ((1.0, 1.0, 1.0), 3)],
    24: [((0.0, 0.0, 1.0), 4), ((1.0, 1.0, 1.0), 3)],
    60: [((0.0, 1.0, _GOLDEN_RATIO), 5), ((1.0, 1.0, 1.0), 3)],
}
"""Order of the group (tetrahedron, cube, icosahedron) -> axes and foldness of rotations that generate it."""

_TURN_AXIS = (1.0, 2.0, 3.0)


class RotationGroup(ExactBuffers):
    """The matrices of `rotation_group` as a part of a network."""

    rotations: torch.Tensor

    def __init__(self, order: int) -> None:
        super().__init__({"rotations": rotation_group(order)})


def rotation_group(order: int) -> torch.Tensor:
    """Return the matrices [order, 3, 3] (float64) of a rotation group: 1, 12 (tetrahedron), 24 (cube) or 60 (icosahedron).

    The group stands askew, turned by a radian about (1, 2, 3): the orientation grids are orbits of the same groups in their
    usual position, and an average over rotations that map the grid to itself would change nothing.
    """
    generators = [_rotation(axis, 2 * math.pi / fold) for axis, fold in _GENERATORS[order]]
    group = [torch.eye(3, dtype=torch.float64)]
    for element in group:
        for generator in generators:
            product = generator @ element
            if not any(torch.allclose(product, known, atol=1e-8) for known in group):
                group.append(product)
    if order == 1:
        return torch.stack(group)
    turn = _rotation(_TURN_AXIS, 1.0)
    return turn @ torch.stack(group) @ turn.T


def _rotation(axis: tuple[float, float, float], angle: float) -> torch.Tensor:
    """Return the rotation by an angle about an axis (Rodrigues)."""
    x, y, z = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0).tolist()
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross

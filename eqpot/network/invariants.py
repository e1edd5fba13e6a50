"""What an edge and an orientation have in common: lengths, angles, and their polynomials."""

import math

import torch


def legendre_polynomials(x: torch.Tensor, degree: int) -> list[torch.Tensor]:
    """Return P_l(x) for l = 0 ... degree, each of the shape of x (Bonnet's recursion)."""
    values = [torch.ones_like(x), x]
    for n in range(2, degree + 1):
        values.append(((2 * n - 1) * x * values[n - 1] - (n - 1) * values[n - 2]) / n)
    return values[: degree + 1]


def spherical_harmonics(directions: torch.Tensor, degree: int) -> torch.Tensor:
    """Return real spherical harmonics Y_lm of unit vectors, normalised to a mean square of 1 over the sphere.

    directions: [..., 3]; result: [..., (degree + 1)^2], ordered l = 0, 1, ... and m = -l ... l within each l.
    Written as polynomials of x, y, z (recursion of the associated Legendre functions divided by sin^m), hence smooth
    on the whole sphere, poles included.
    """
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    harmonics = [x for _ in range((degree + 1) * (degree + 1))]
    # (x + i y)^m = cosine + i sine
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)
    diagonal = 1.0
    for m in range(degree + 1):
        if m > 0:
            cosine, sine = x * cosine - y * sine, x * sine + y * cosine
            diagonal = diagonal * (2 * m - 1)
        previous, current = torch.zeros_like(z), torch.full_like(z, diagonal)
        for n in range(m, degree + 1):
            if n > m:
                previous, current = current, ((2 * n - 1) * z * current - (n + m - 1) * previous) / (n - m)
            norm = math.sqrt((2 * n + 1) * math.factorial(n - m) / math.factorial(n + m))
            if m == 0:
                harmonics[n * n + n] = norm * current
            else:
                norm = norm * math.sqrt(2.0)
                harmonics[n * n + n + m] = norm * current * cosine
                harmonics[n * n + n - m] = norm * current * sine
    return torch.stack(harmonics, dim=-1)

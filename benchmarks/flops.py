"""Arithmetic of the network as docs/network.md writes it: what a perfect implementation of those sums would have to do."""

from eqpot.network.config import NetworkConfig


def flops_per_atom(config: NetworkConfig, n_neighbors: float) -> float:
    """Return the floating-point operations that energy and forces of an atom take, a multiply-add counted as two.

    Sums over channels, orientations, coefficients and neighbours are counted; functions of single numbers, which are few, are not. The
    reverse pass takes a linear map with fixed weights once more, and a product of two variables twice.
    """
    linear, product = _per_edge(config)
    atom_linear, atom_product = _per_atom(config)
    multiply_adds = 2 * (n_neighbors * linear + atom_linear) + 3 * (n_neighbors * product + atom_product)
    return 2 * multiply_adds


def _per_edge(config: NetworkConfig) -> tuple[int, int]:
    """Return multiply-adds of an edge in linear maps with fixed weights, and in products of variables."""
    channels, width, n_grid = config.n_channels, config.radial_width, config.n_orientations
    n_coefficients, n_convolutions, n_radial = (config.feature_degree + 1) ** 2, config.n_blocks - 1, config.kernel_degree + 1
    # Cosines of edge and orientations, then the radial perceptron and its outputs.
    linear = 3 * n_grid + config.n_bessel * width + width**2
    linear += width * (config.feature_degree + 1) * channels + n_convolutions * width * n_radial * channels
    # The lift: radial functions times scalars, times harmonics, into the sum.
    product = (config.feature_degree + 1) * channels + n_coefficients * channels
    # A convolution: the kernel as a series, times the neighbour's feature, into the sum.
    product += n_convolutions * n_grid * channels * (n_radial + 1)
    return linear, product


def _per_atom(config: NetworkConfig) -> tuple[int, int]:
    """Return multiply-adds of an atom in linear maps with fixed weights, and in products of variables."""
    channels, n_grid, n_coefficients = config.n_channels, config.n_orientations, (config.feature_degree + 1) ** 2
    mixing, transform = n_coefficients * channels**2, n_grid * n_coefficients * channels
    linear = product = 0
    for block in range(config.n_blocks):
        is_first, is_last = block == 0, block == config.n_blocks - 1
        # Messages: mixed, and from the second block on through the grid and with the atom's own features.
        linear += mixing if is_first else 2 * mixing + 2 * transform
        # Three factors, the double product and, where features go on, the triple one and their update.
        linear += 3 * mixing + 3 * transform + (0 if is_last else 3 * transform + mixing)
        product += n_grid * channels + (n_coefficients * channels if is_last else (n_grid + 3 * n_coefficients) * channels)
        linear += 4 * channels * (channels if is_last else 4 * channels) + channels**2 + channels
    return linear, product

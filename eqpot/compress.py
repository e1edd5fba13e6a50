"""Compression: radial functions as tables, their deviation measured and kept with the model file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from eqpot.errors import ConfigError
from eqpot.graph import AtomGraph
from eqpot.model_file import RadialTable, load_potential, load_uncertainty, read_header, save_potential
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.network.radial_table import TabulatedRadial, intervals_of, tabulate
from eqpot.potential import Potential

DEFAULT_SPACING = 0.02


def compress(path: str | Path, output: str | Path, graphs: Sequence[AtomGraph], spacing: float = DEFAULT_SPACING) -> RadialTable:
    """Write the potential at `path` with tables in place of its radial functions to `output`, and return what they are.

    spacing: Å between the knots. graphs: structures on which the deviation is measured, in float64, the tables in the dtype of
    the file. The deviations, all maxima: `radial`, of the functions from 0 to the cutoff for all pairs of elements, and
    `radial_slope`, of their derivatives, both over the largest value; `energy_mev_per_atom` and `force_mev_per_ang` on the graphs.

    Raises ConfigError for a spacing below 1e-4 Å or above a tenth of the cutoff, no structures, or a potential that has no
    radial functions to tabulate; UnknownElementError for a graph with elements that it does not know.
    """
    exact = load_potential(path, dtype="float64")
    header = read_header(path)
    network = exact.network
    if not isinstance(network, FibreBundleNetwork):
        raise ConfigError(f"The potential {path} is no exact fibre bundle; only that has radial functions that can be tabulated.")
    if not 1e-4 <= spacing <= network.config.cutoff / 10:
        raise ConfigError(
            f"The spacing is {spacing} Å; it must be at least 1e-4 Å and at most a tenth of the cutoff ({network.config.cutoff} Å)."
        )
    if not graphs:
        raise ConfigError("There is no structure to measure the deviation on; give at least one.")
    n_intervals = intervals_of(network.config.cutoff, spacing)
    rounded = tabulate(network, n_intervals).to(getattr(torch, header.dtype))
    compressed = Potential(rounded.double(), exact.elements, exact.reference_energies, float(exact.scale))
    deviations = _radial_deviation(network, rounded, n_intervals) | _deviation_on(exact, compressed, graphs)
    assert isinstance(rounded.radial, TabulatedRadial)
    rounded.radial.deviations = deviations
    compressed.to(getattr(torch, header.dtype))
    compressed.shortest_distances = exact.shortest_distances
    save_potential(compressed, output, header.training, load_uncertainty(path))
    return RadialTable(n_intervals=n_intervals, deviations=deviations)


def _radial_deviation(exact: FibreBundleNetwork, tabulated: FibreBundleNetwork, n_intervals: int) -> dict[str, float]:
    """Compare all radial functions ten times in every interval."""
    cutoff = exact.config.cutoff
    lengths = torch.arange(1, 10 * n_intervals, dtype=torch.float64) * (cutoff / (10 * n_intervals))
    largest: list[list[float]] = []
    for pair in range(exact.n_elements**2):
        target, source = (torch.full_like(lengths, index, dtype=torch.int64) for index in divmod(pair, exact.n_elements))
        functions: list[torch.Tensor] = []
        for network in (exact, tabulated):
            convolutions = [network.lift, *(block.get_submodule("convolution") for block in network.blocks)]

            def all_functions(r: torch.Tensor, network=network, convolutions=convolutions):  # type: ignore[no-untyped-def]
                hidden = network.radial(r, source, target)  # noqa: B023 (called within the loop)
                return torch.cat([convolution.radial(hidden) for convolution in convolutions], dim=1)

            # Every function depends on its own length alone, so one forward derivative is the derivative of all.
            functions += torch.func.jvp(all_functions, (lengths,), (torch.ones_like(lengths),))
        expected, expected_slope, found, found_slope = functions
        largest.append([float(values.abs().max()) for values in (found - expected, expected, found_slope - expected_slope, expected_slope)])
    # Not Python's max: a NaN must come out.
    value, of_value, slope, of_slope = np.max(largest, axis=0).tolist()
    return {"radial": value / of_value, "radial_slope": slope / of_slope}


def _deviation_on(exact: Potential, compressed: Potential, graphs: Sequence[AtomGraph]) -> dict[str, float]:
    energies, forces = [], []
    for graph in graphs:
        exact.check_elements(graph.numbers)
        expected, found = exact(*graph.tensors()), compressed(*graph.tensors())
        energies.append(float((found["energies"] - expected["energies"]).sum().abs()) / max(graph.n_atoms, 1))
        forces.append(float((found["forces"] - expected["forces"]).abs().max()))
    # Not Python's max: a NaN must come out.
    return {"energy_mev_per_atom": 1000 * float(np.max(energies)), "force_mev_per_ang": 1000 * float(np.max(forces))}

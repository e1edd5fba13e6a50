"""What docs/theory.md says of grids and splines."""

import pytest

import exactness
from eqpot import load_potential
from eqpot.exactness import force_deviation, result_of
from measured import read


@pytest.mark.parametrize(("n_points", "low", "high"), [(12, 0.1, 10), (24, 0, 1e-12), (36, 0, 1e-12)])
def test_trained_weights_are_exact_on_a_design_of_the_degree_that_theory_asks_for(n_points, low, high):
    potential = exactness.on_grid(load_potential("rmd17", dtype="float64"), n_points)
    assert low <= exactness.relative_rotation_error(potential, exactness.displaced("rmd17")) < high


def test_splines_of_any_spacing_keep_forces_the_gradient():
    exact, atoms = load_potential("ethanol", dtype="float64").requires_grad_(True), exactness.displaced("ethanol")
    coarse = exactness.with_splines(exact, 0.2)
    assert abs(result_of(coarse, atoms)["forces"] - result_of(exact, atoms)["forces"]).max() > 0.01
    assert force_deviation(coarse, atoms) < 1e-6


def test_the_rows_that_are_kept_say_what_the_page_says():
    grids = [entry for entry in read() if entry["table"] == "exactness grids"]
    for label, degree in (("`rmd17`, L 2, Lk 3, t ≥ 7", 7), ("`ethanol`, L 3, Lk 3, t ≥ 9", 9)):
        for entry in grids:
            assert (entry["values"][label] < 1e-12) == (entry["of"]["t"] >= degree)

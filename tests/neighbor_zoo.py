"""Structures that neighbour lists have stumbled over."""

import os

import numpy as np
from ase import Atoms
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("EQPOT_ZOO", "2000"))
"""Cases of each zoo test; `make zoo` runs many more."""

zoo_settings = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

CUTOFFS = (1.7, 3.0, 4.4)


@st.composite
def structures(draw):
    """Any pbc mask; triclinic, strongly sheared, left-handed, needle and flat cells; atoms inside, on faces, outside, all negative."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    lengths = [draw(st.sampled_from([0.7, 1.1, 2.0, 3.7, 9.0])) for _ in range(3)]
    directions = np.eye(3) + draw(st.sampled_from([0.0, 0.3, 0.6])) * random.uniform(-1, 1, (3, 3))
    if abs(np.linalg.det(directions)) < 0.1:
        directions = np.eye(3)
    if draw(st.booleans()):
        directions = np.linalg.qr(random.normal(size=(3, 3)))[0] @ directions
    cell = directions @ np.linalg.qr(random.normal(size=(3, 3)))[0] * draw(st.sampled_from([1.0, -1.0]))
    cell *= np.array(lengths)[:, None]
    if draw(st.integers(0, 3)) == 0:
        # The same lattice with a long, strongly sheared vector: only where both are periodic is it the same structure.
        cell[1] += draw(st.sampled_from([3, -20])) * cell[0]
    n_atoms = draw(st.integers(1, 8))
    scaled = random.uniform(0, 1, (n_atoms, 3))
    if draw(st.booleans()):
        scaled = np.round(scaled * 2) / 2  # on faces, edges and corners
    scaled += draw(st.sampled_from([0.0, -1.0, 0.5, 2.25]))
    if draw(st.booleans()):
        scaled += random.integers(-2, 3, (n_atoms, 3))
    atoms = Atoms(numbers=np.ones(n_atoms), positions=scaled @ cell, cell=cell, pbc=pbc)
    if not any(pbc) and draw(st.booleans()):
        atoms.cell = None
    if draw(st.integers(0, 5)) == 0:
        atoms.translate(random.normal(size=3) * 1e4)
    return atoms

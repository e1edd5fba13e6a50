"""Errors of what others have published for the tasks of `tasks.py`, in the quantities that are customary there.

Molecules: MAE, energies of structures in meV and force components in meV/Å; Batatia et al. 2022 (MACE, arXiv 2206.07697, Table 1), and the
README of the official code of PONITA. Acetylacetone at 300 K: RMSE in the same units; ibid., Table 3. Elements and alloy: MAE of energies
in meV/atom, of forces in meV/Å and of the six stress components in GPa, of the SNAP and qSNAP potentials that Zuo et al. 2020
and Li et al. 2020 published, evaluated in LAMMPS on the same test frames; the alloy's energies with four constants fitted to these. Their
fits had no stresses; copper's data have none of use.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Errors:
    """Of energies, forces and, in crystals, stresses."""

    energy: float
    force: float
    stress: float | None = None


MOLECULES = {
    name: {
        "MACE": Errors(*mace),
        "Allegro": Errors(*allegro),
        "NequIP": Errors(*nequip),
        **({"PaiNN": Errors(*painn)} if painn else {}),
        "PONITA": Errors(*ponita),
    }
    for name, mace, allegro, nequip, painn, ponita in (
        ("ethanol", (0.4, 2.1), (0.4, 2.1), (0.4, 2.8), (2.7, 10.0), (0.4, 2.5)),
        ("malonaldehyde", (0.8, 4.1), (0.6, 3.6), (0.8, 5.1), (3.9, 13.8), (0.6, 4.0)),
        ("uracil", (0.5, 2.1), (0.6, 1.8), (0.4, 3.1), (4.5, 6.1), (0.4, 2.4)),
        ("toluene", (0.5, 1.5), (0.4, 1.8), (0.3, 1.6), (4.2, 4.4), (0.3, 1.3)),
        ("naphthalene", (0.5, 1.6), (0.2, 0.9), (0.9, 1.3), (5.1, 3.6), (0.3, 1.3)),
        ("salicylic", (0.9, 3.1), (0.9, 2.9), (0.7, 4.0), (4.9, 9.1), (0.7, 3.3)),
        ("aspirin", (2.2, 6.6), (2.3, 7.3), (2.3, 8.2), (6.9, 16.1), (1.7, 5.8)),
        ("paracetamol", (1.3, 4.8), (1.5, 4.9), (1.4, 5.9), None, (1.1, 4.3)),
        ("azobenzene", (1.2, 3.0), (1.2, 2.6), (0.7, 2.9), None, (0.7, 2.3)),
        ("benzene", (0.4, 0.3), (0.3, 0.2), (0.04, 0.3), None, (0.17, 0.3)),
    )
}

TOGETHER = {f"molecules, {name}": errors for name, errors in MOLECULES.items()}
"""Beside one potential for all molecules, those for each alone."""

ACETYLACETONE = {
    "acetylacetone": {"MACE": Errors(0.9, 5.1), "NequIP": Errors(0.81, 5.90), "BOTNet": Errors(0.89, 6.3)},
}

CRYSTALS = {
    "lithium": {"SNAP": Errors(1.03, 27.7, 0.127), "qSNAP": Errors(0.73, 32.8, 0.083)},
    "molybdenum": {"SNAP": Errors(5.48, 206.5, 1.226), "qSNAP": Errors(2.77, 183.8, 0.595)},
    "silicon": {"SNAP": Errors(6.44, 132.7, 0.376), "qSNAP": Errors(3.81, 115.7, 0.269)},
    "copper": {"SNAP": Errors(0.53, 37.1), "qSNAP": Errors(0.56, 24.1)},
    "MoNbTaW, Mo": {"SNAP": Errors(2.48, 126, 0.853)},
    "MoNbTaW, Nb": {"SNAP": Errors(5.68, 118, 0.368)},
    "MoNbTaW, Ta": {"SNAP": Errors(4.92, 167, 0.699)},
    "MoNbTaW, MoTa": {"SNAP": Errors(4.77, 36.5, 0.480)},
    "MoNbTaW, NbMo": {"SNAP": Errors(4.96, 32.5, 0.494)},
    "MoNbTaW, TaW": {"SNAP": Errors(7.39, 35.2, 0.550)},
}

"""Quantities of silicon and ethanol through ASE's own tools, on the shipped potentials.

The tolerances say what was measured, not what one would wish: docs/ase.md has the table that benchmarks/properties.py prints.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.optimize import BFGS, FIRE, LBFGS

import properties
from eqpot.properties import elastic_constants, equation_of_state, phonons, vibrations
from eqpot.properties.phonons import force_constants, frequencies, supercell
from properties import METHYL, METHYLENE, OXYGEN


@pytest.fixture(scope="module")
def silicon():
    return properties.relaxed_crystal("silicon")


@pytest.fixture(scope="module")
def ethanol():
    return properties.ethanol(properties.calculator("ethanol"))


def test_cell_relaxation_of_silicon(silicon):
    """5.4687 Å is the lattice constant of the DFT data themselves (PBE); measured 5.4692 Å."""
    assert abs(silicon.get_stress()).max() < 1e-6
    assert (4 * silicon.get_volume()) ** (1 / 3) == pytest.approx(5.4687, abs=0.002)
    assert silicon.cell.angles() == pytest.approx((60, 60, 60), abs=1e-3)


def test_elastic_constants_of_silicon(silicon):
    """C11, C12 and the unrelaxed C44 against central differences of the DFT stress in the data (PBE): 152.8, 56.6, 99.0 GPa.

    Measured 148.2 (-3.0 %), 54.2 (-4.2 %), 100.1 GPa (+1.1 %): the potential is a little soft in compression. The relaxed C44, 75.3 GPa,
    needs forces on the inner displacement; its reference is experiment, 79.5 GPa (Hall, Phys. Rev. 161, 756 (1967)), 6 % above.
    """
    measured, data = elastic_constants(silicon).cubic, properties.elastic_constants_of_the_data()
    clamped = elastic_constants(silicon, relaxation="none").cubic.c44
    assert measured.c11 == pytest.approx(data["C11"], rel=0.05)
    assert measured.c12 == pytest.approx(data["C12"], rel=0.07)
    assert clamped == pytest.approx(data["C44, atoms unrelaxed"], rel=0.03)
    assert measured.c44 == pytest.approx(79.5, rel=0.10)
    assert measured.c44 < 0.8 * clamped


def test_bulk_modulus_from_energies_is_that_of_the_stress(silicon):
    """Energies at nine volumes and stresses at two strains are different paths to one number; measured 85.8 and 85.5 GPa."""
    from_stress = elastic_constants(silicon).bulk_modulus.hill
    assert equation_of_state(silicon).bulk_modulus == pytest.approx(from_stress, rel=0.02)


def test_rows_of_copper_by_a_model_that_is_fitted_to_them(monkeypatch):
    """Copper in ASE's effective medium theory, whose parameters are fitted to these quantities: 10 to 15 % off, so nothing is mixed up."""
    monkeypatch.setattr(properties, "calculator", lambda _: EMT())
    monkeypatch.setattr(properties, "phonons", partial(phonons, length=9.0))
    monkeypatch.setitem(properties.CRYSTALS, "copper", replace(properties.CRYSTALS["copper"], repeat=2))
    rows = properties.crystal_rows("copper")
    assert {row[0] for row in rows} == {"copper"}
    assert [row[1] for row in rows[-3:]] == ["vacancy in a cell of 32 sites, eV", "phonons at X, THz", "phonons at L, THz"]
    for _, _, own, reference, _ in rows:
        np.testing.assert_allclose([*map(float, own.split(", "))], [*map(float, reference.split(", "))], rtol=0.16)


def test_copper_resists_compression():
    """Lysogorskiy et al. 2021 (PBE): 177, 132, 82 GPa; measured 163.0, 114.2, 84.8. A fit without stresses has C12 = 23."""
    found = elastic_constants(properties.relaxed_crystal("copper")).cubic
    np.testing.assert_allclose([found.c11, found.c12, found.c44], [177, 132, 82], rtol=0.15)


def test_phonons_of_silicon_at_high_symmetry_points(silicon):
    """Neutron scattering (Dolling 1963; Nilsson and Nelin, Phys. Rev. B 6, 3777 (1972)), THz; measured 2.0 to 4.8 % below.

    PBE itself is some 2 to 3 % below experiment, since its lattice constant is too large.
    """
    at_points = properties.at_special_points(phonons(silicon, path="GXL"))
    for name, values in properties.NEUTRONS_IN_SILICON.items():
        np.testing.assert_allclose(at_points[name], values, rtol=0.055, atol=1e-3)


def test_phonon_band_of_silicon_has_no_imaginary_mode_and_sound_of_the_elastic_constants(silicon):
    assert phonons(silicon).lowest > -1e-3
    constants = force_constants(silicon, silicon.calc, supercell(silicon), 0.01)
    wave = np.array([0.01, 0, 0.01])
    length = np.linalg.norm(wave @ silicon.cell.reciprocal().array)
    velocities = frequencies(constants, wave[None])[0][:3] / length * 100  # m/s, from THz Å
    density = silicon.get_masses().sum() * 1.66053907e-27 / (silicon.get_volume() * 1e-30)
    elastic = elastic_constants(silicon).cubic
    assert velocities[2] == pytest.approx((elastic.c11 * 1e9 / density) ** 0.5, rel=0.02)
    np.testing.assert_allclose(velocities[:2], (elastic.c44 * 1e9 / density) ** 0.5, rtol=0.02)


def test_vibrations_of_ethanol(ethanol):
    """21 harmonic wavenumbers beside PBE/def2-SVP, the level of the data; measured: within 6.4 1/cm."""
    np.testing.assert_allclose(vibrations(ethanol).wavenumbers, properties.WAVENUMBERS_OF_DFT, atol=10)


@pytest.mark.parametrize("optimizer", [BFGS, LBFGS, FIRE])
def test_optimizers_reach_the_same_minimum(ethanol, optimizer):
    atoms = properties.ethanol(ethanol.calc)
    atoms.rattle(0.05, seed=0)
    assert optimizer(atoms, logfile=None).run(fmax=1e-3, steps=500)
    assert atoms.get_potential_energy() == pytest.approx(ethanol.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(atoms.get_all_distances(), ethanol.get_all_distances(), atol=0.01)


def test_gauche_and_trans_ethanol_differ_as_in_dft(ethanol):
    """-16.1 meV in PBE/def2-SVP, and here; in experiment trans is 4.9 meV lower: the level of theory errs, not the fit."""
    assert properties.gauche_minus_trans(ethanol) == pytest.approx(properties.GAUCHE_OF_DFT, abs=2)


def test_methyl_torsion_by_neb(ethanol):
    """The climbing image finds the saddle that symmetry gives: 153.3 meV beside 154.9 in DFT, and 145.5 in experiment."""
    images = properties.methyl_band(ethanol)
    saddle = properties.methyl_saddle(ethanol, ethanol.calc)
    height = 1000 * (saddle.get_potential_energy() - ethanol.get_potential_energy())
    assert properties.barrier(images) == pytest.approx(height, abs=0.5)
    assert images[-1].get_potential_energy() == pytest.approx(images[0].get_potential_energy(), abs=1e-5)
    top = max(images, key=lambda image: image.get_potential_energy())
    assert top.get_dihedral(OXYGEN, METHYLENE, METHYL, properties.METHYL_HYDROGENS[0]) % 120 == pytest.approx(0, abs=2)
    assert height == pytest.approx(properties.BARRIER_OF_DFT, rel=0.03)
    saddle.set_constraint()
    assert np.sum(vibrations(saddle).wavenumbers < -100) == 1

"""What a dynamics report takes from trajectories: structure, motion, vibrations, torsions."""

import math

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from eqpot.errors import DataError, NeighborError
from eqpot.observables import (
    Diffusion,
    RadialDistribution,
    Spectrum,
    Trajectory,
    Well,
    dihedral_angles,
    einstein,
    find_torsions,
    find_wells,
    first_shell,
    green_kubo,
    mean_distribution,
    mean_squared_displacement,
    radial_distribution,
    torsional_free_energy,
    vibrational_spectrum,
)
from eqpot.observables.diffusion import CM2_PER_S
from eqpot.observables.vibrations import WAVENUMBER
from eqpot.report import dynamics_figures as figures
from eqpot.report.dynamics_run import Sample
from eqpot.report.page import Page
from eqpot.report.values import Finding, with_error

_BLOCKS = 5
"""Parts of a single trajectory that tell the error of what replicas tell otherwise."""

_MOST_TORSIONS = 8
"""Torsions that are shown: a page of dozens says nothing."""


def structure(page: Page, samples: list[Sample]) -> list[Finding]:
    """Show radial distribution functions and coordination numbers of structures that are periodic in all directions."""
    samples = [sample for sample in samples if sample.trajectories[0].pbc.all()]
    if not samples:
        return []
    r_max = min(_range(trajectory) for sample in samples for trajectory in sample.trajectories)
    try:
        found = {sample.name: _distributions(sample, r_max) for sample in samples}
    except NeighborError as error:
        # Atoms that fell into each other: the rest of the page tells when.
        page.heading("Structure", f"Left out: {error}")
        return []
    half = min(_widths(trajectory).min() / 2 for sample in samples for trajectory in sample.trajectories)
    beyond = "" if r_max <= half else f" Beyond {half:.2f} Å, half the cell's width, atoms meet their own images."
    n_frames = sum(part.n_frames for parts in found.values() for part in parts)
    page.heading("Structure", f"Radial distribution functions of {n_frames} frames.{beyond}")
    page.figures(figures.radial_distributions(found))
    rows, findings = [], []
    for name, parts in found.items():
        mean = mean_distribution(parts)
        for center, around in mean.values:
            shell = first_shell(mean, center, around)
            if shell is None:
                continue
            numbers = [part.coordination_number(center, around, shell.end) for part in parts]
            # Where all parts have one number its rounding is no error.
            spread = float(np.std(numbers, ddof=1) / np.sqrt(len(numbers))) if np.ptp(numbers) > 1e-9 else 0.0
            number = mean.coordination_number(center, around, shell.end)
            findings.append(Finding(f"{around} neighbours of {center}", name, number, spread, ""))
            label = f"{around} around {center}" + (f" at {name}" if name else "")
            rows.append((label, f"{shell.peak:.2f}", f"{shell.height:.2f}", f"{shell.end:.2f}", with_error(number, spread)))
    if rows:
        page.table(("pair", "first peak, Å", "its height", "first minimum, Å", "neighbours up to there"), rows)
    return findings


def _widths(trajectory: Trajectory) -> np.ndarray:
    """Return the distances between opposite faces of the cells [n_frames, 3], Å."""
    return 1 / np.linalg.norm(np.linalg.inv(trajectory.cells), axis=1)


def _range(trajectory: Trajectory) -> float:
    return float(np.clip(_widths(trajectory).min() / 2, 6.0, 10.0))


def _distributions(sample: Sample, r_max: float) -> list[RadialDistribution]:
    """Return the distributions of the replicas, or of the blocks of a single trajectory."""
    first = sample.trajectories[0]
    pairs = len(first.numbers) ** 2 / abs(np.linalg.det(first.cells[0])) * 4 / 3 * math.pi * r_max**3
    n_frames = int(np.clip(1e7 / pairs, _BLOCKS, 200)) // len(sample.trajectories)
    chosen = np.unique(np.linspace(0, len(first.times) - 1, min(len(first.times), max(n_frames, 2))).astype(int))
    parts = [chosen] if len(sample.trajectories) > 1 else np.array_split(chosen, _BLOCKS)
    return [radial_distribution(trajectory.at(part), r_max) for trajectory in sample.trajectories for part in parts]


def motion(page: Page, samples: list[Sample]) -> list[Finding]:
    """Show displacements and diffusion of what is periodic."""
    displacements: dict[str, tuple[float, np.ndarray]] = {}
    rows, findings = [], []
    for sample in samples:
        if not sample.trajectories[0].pbc.any():
            continue
        try:
            resting = [trajectory.at_rest() for trajectory in sample.trajectories]
        except DataError as error:
            page.heading("Motion", f"Left out: {error}")
            return []
        moving = ~sample.trajectories[0].held
        for number in np.unique(resting[0].numbers[moving]):
            symbol, chosen = chemical_symbols[number], moving & (resting[0].numbers == number)
            name = ", ".join(part for part in (sample.name, symbol) if part)
            found = np.array([mean_squared_displacement(trajectory.positions[:, chosen]) for trajectory in resting])
            displacements[name] = (resting[0].interval, found)
            slope, integral = _diffusion(resting, chosen)
            if slope is None:
                continue
            rows.append((name, *diffusion_cells(slope, integral)))
            if 0.8 < (slope.exponent or 0.0) < 1.2:
                value, error_bar = (1e5 * CM2_PER_S * size for size in (slope.coefficient, slope.error))
                findings.append(Finding(f"diffusion of {symbol}", sample.name, value, error_bar, "10⁻⁵ cm²/s"))
    if not displacements:
        return []
    page.heading(
        "Motion",
        "Mean squared displacements, seen from the centre of mass or, where there are any, from atoms that are held, and diffusion "
        "coefficients with standard errors from five blocks: from the slope (Einstein) and from the velocities (Green-Kubo). They mean "
        "something where the displacement grows as t, exponent 1.",
    )
    page.figures(figures.displacements(displacements))
    if rows:
        page.table(("element", "Einstein, 10⁻⁵ cm²/s", "Green-Kubo, 10⁻⁵ cm²/s", "exponent", "so the atoms"), rows)
    return findings


def _diffusion(resting: list[Trajectory], chosen: np.ndarray) -> tuple[Diffusion | None, Diffusion | None]:
    """Return the coefficients from slopes and integrals, means of the replicas; None where there are too few frames or no velocities."""
    try:
        slopes = [einstein(trajectory.positions[:, chosen], trajectory.interval) for trajectory in resting]
    except DataError:
        return None, None
    integrals = [green_kubo(each.velocities[:, chosen], each.interval) for each in resting if each.velocities is not None]
    return _mean_diffusion(slopes), _mean_diffusion(integrals) if integrals else None


def _mean_diffusion(found: list[Diffusion]) -> Diffusion:
    """Return the mean of replicas, whose errors are independent."""
    exponents = [each.exponent for each in found if each.exponent is not None]
    return Diffusion(
        float(np.mean([each.coefficient for each in found])),
        float(np.sqrt(np.sum([each.error**2 for each in found])) / len(found)),
        found[0].window,
        float(np.mean(exponents)) if exponents else None,
    )


def diffusion_cells(found: Diffusion, integral: Diffusion | None) -> tuple[str, ...]:
    """Return the cells of a table of diffusion coefficients, from slope and, where there are velocities, integral."""
    exponent = found.exponent or 0.0
    if exponent < 0.3:
        # The slope of a displacement that only oscillates is no coefficient, and its blocks no error.
        return "–", "–", f"{exponent:.2f}", "stay at their places"
    size = 1e5 * CM2_PER_S
    values = ("–" if item is None else with_error(size * item.coefficient, size * item.error) for item in (found, integral))
    regime = "still fly: run longer" if exponent >= 1.2 else "diffuse" if exponent > 0.8 else "do not diffuse yet: run longer"
    return (*values, f"{exponent:.2f}", regime)


def vibrations(page: Page, samples: list[Sample]) -> list[Finding]:
    """Show velocity autocorrelations and the density of states, where frames are close enough in time."""
    samples = [sample for sample in samples if all(trajectory.velocities is not None for trajectory in sample.trajectories)]
    samples = [sample for sample in samples if any(trajectory.velocities.any() for trajectory in sample.trajectories)]  # type: ignore[union-attr]
    if not samples:
        return []
    interval = samples[0].trajectories[0].interval
    limit = WAVENUMBER / (2 * interval)
    fastest = max(_fastest_vibration(sample.trajectories[0].numbers) for sample in samples)
    if limit < fastest:
        page.heading(
            "Vibrations",
            f"Left out: frames {interval:g} fs apart show vibrations up to {limit:.0f} 1/cm, and these elements may have some "
            f"up to {fastest:.0f} 1/cm, which would be folded back. Write frames every {WAVENUMBER / (2 * fastest):.2g} fs or more often.",
        )
        return []
    # One for all, or their lines could not be compared.
    resolution = max(4.0, 3.6 * WAVENUMBER / (min(len(sample.trajectories[0].times) for sample in samples) * interval))
    if resolution > limit / 10:
        return []
    spectra = {sample.name: [_spectrum(trajectory, resolution) for trajectory in sample.trajectories] for sample in samples}
    first = spectra[samples[0].name]
    page.heading(
        "Vibrations",
        f"Power spectrum of the velocities, weighted by mass: the classical density of states, without intensities of infrared or Raman. "
        f"Resolution {first[0].resolution:.3g} 1/cm, Hann window, mean of {first[0].n_segments * len(first)} segments; "
        f"up to {limit:.0f} 1/cm.",
    )
    page.figures([figures.correlations({sample.name: sample.trajectories for sample in samples}), figures.spectrum(spectra)])
    return []


def _spectrum(trajectory: Trajectory, resolution: float) -> Spectrum:
    assert trajectory.velocities is not None
    return vibrational_spectrum(trajectory.velocities, trajectory.numbers, trajectory.masses, trajectory.interval, resolution)


def _fastest_vibration(numbers: np.ndarray) -> float:
    """Return what no vibration of molecules of these elements exceeds by much, 1/cm: H2 has 4160, N2 2330, heavier ones below 1000."""
    if numbers.min() == 1:
        return 4000.0
    return 2400.0 if ((numbers >= 5) & (numbers <= 9)).any() else 1000.0


def torsions(page: Page, samples: list[Sample]) -> list[Finding]:
    """Show free energies along the torsions of molecules in the void, found from the bonds of the first frame."""
    findings: list[Finding] = []
    for sample in samples:
        first = sample.trajectories[0]
        found = [] if first.pbc.any() else find_torsions(Atoms(first.numbers, first.positions[0]))
        if not found:
            continue
        temperature = float(sample.thermo["temperature_k"].mean()) if sample.temperature is None else sample.temperature
        profiles, rows = {}, []
        for torsion in found[:_MOST_TORSIONS]:
            name = "-".join(f"{chemical_symbols[first.numbers[atom]]}{atom}" for atom in torsion.atoms)
            try:
                angles = np.array([dihedral_angles(trajectory, torsion.atoms) for trajectory in sample.trajectories])
            except DataError:
                continue
            profile = torsional_free_energy(angles, temperature, 36 // torsion.symmetry, torsion.symmetry)
            profiles[name] = (torsion, profile)
            for well in find_wells(angles, profile, temperature):
                lower, upper = (
                    with_error(height, error) if math.isfinite(height) else "not crossed"
                    for height, error in zip(well.barriers, well.barrier_errors, strict=True)
                )
                population = (
                    with_error(well.population, well.population_error) if torsion.symmetry == 1 else f"{torsion.symmetry} equal wells"
                )
                rows.append((name, f"{well.minimum:.0f}", population, with_error(well.energy, well.error), lower, upper))
                findings += _well_findings(name, sample.name, well, torsion.symmetry)
        title = "Torsions" + (f" at {sample.name}" if sample.name else "")
        more = f" {len(found) - _MOST_TORSIONS} further torsions are not shown." if len(found) > _MOST_TORSIONS else ""
        page.heading(title, f"Free energy -kT ln p at {temperature:.4g} K along the bonds that are in no ring; 0° is eclipsed.{more}")
        page.figures(figures.torsions(profiles))
        if rows:
            page.table(
                ("torsion", "well at, degrees", "population", "its lowest bin, meV", "barrier below, meV", "barrier above, meV"), rows
            )
    return findings


def _well_findings(torsion: str, sample: str, well: Well, symmetry: int) -> list[Finding]:
    """Return population and lower barrier of a well, if crossed, named by the multiple of 60 degrees it is near, as bins fluctuate."""
    turn = 360 // symmetry
    near = round(well.minimum / 60) * 60 % turn
    where = f"{torsion} near {near - turn if 2 * near > turn else near}°"
    findings = []
    if well.population < 1.0:
        findings.append(Finding(f"population of {where}", sample, well.population, well.population_error, ""))
    crossed = [each for each in zip(well.barriers, well.barrier_errors, strict=True) if math.isfinite(each[0])]
    if crossed:
        findings.append(Finding(f"barrier of {where}", sample, *min(crossed), "meV"))
    return findings

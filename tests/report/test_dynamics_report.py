"""The report of a dynamics run."""

import csv
import html
import json
import re
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io.extxyz import write_xyz
from typer.testing import CliRunner

from eqpot import load_potential
from eqpot.cli.main import app
from eqpot.errors import ConfigError, DataError
from eqpot.md import Settings, Simulation, start_run
from eqpot.observables import CanonicalTest, Diffusion, RadialDistribution, Well, average, drift, read_thermo
from eqpot.report.dynamics import report_dynamics, temperature_remark
from eqpot.report.dynamics_figures import plot_sequence, radial_distributions
from eqpot.report.dynamics_run import read_run
from eqpot.report.dynamics_trajectories import _mean_diffusion, _well_findings, diffusion_cells
from eqpot.units import BOLTZMANN, FEMTOSECOND
from helpers import ROOT, ethanol

TEMPERATURE, FRICTION, INTERVAL = 300.0, 0.1, 4.0
DIFFUSION = 1e4 * BOLTZMANN * TEMPERATURE * FEMTOSECOND**2 / FRICTION * (1 / 39.948 - 1 / (16 * 39.948 + 16 * 20.1797))
"""k_B T / gamma (1 / m - 1 / M) in 1e-5 cm^2/s, of argon seen from the centre of mass; FRICTION in 1/fs."""


def write_gas(folder, n_frames=800, seed=0, width=1.0, interval=INTERVAL):
    """A run of free Langevin particles in a cell that breathes, with the columns that a run at constant pressure has."""
    random = np.random.default_rng(seed)
    atoms = Atoms("Ar16Ne16", positions=random.uniform(0, 30, size=(32, 3)), cell=[30, 30, 30], pbc=True)
    masses, memory = atoms.get_masses()[:, None], np.exp(-FRICTION * interval)
    velocities = random.normal(size=(32, 3)) * np.sqrt(BOLTZMANN * TEMPERATURE / masses)
    pressure, rows = 0.0, []
    folder.mkdir()
    with (folder / "trajectory.extxyz").open("w") as file:
        for frame in range(n_frames):
            atoms.set_velocities(velocities * width)
            atoms.info = {"step": frame, "time_fs": frame * interval}
            write_xyz(file, [atoms], write_results=False)
            kinetic = atoms.get_kinetic_energy()
            pressure = 0.9 * pressure + 0.1 * random.normal()
            rows.append(
                {
                    "step": frame, "time_fs": frame * interval, "temperature_k": 2 * kinetic / (96 * BOLTZMANN),
                    "potential_energy_ev": -3 + 0.01 * random.normal(), "kinetic_energy_ev": kinetic, "total_energy_ev": kinetic - 3,
                    "conserved_energy_ev": 7 + 32e-9 * frame * interval + 1e-8 * random.normal(), "pressure_gpa": 2.0 + pressure,
                    "volume_ang3": atoms.get_volume(),
                }
            )  # fmt: skip
            noise = random.normal(size=(32, 3)) * np.sqrt(BOLTZMANN * TEMPERATURE / masses * (1 - memory**2))
            later = memory * velocities + noise
            atoms.positions += (velocities + later) / 2 * interval * FEMTOSECOND
            velocities = later
            atoms.set_cell(np.full(3, 30 + 0.1 * pressure), scale_atoms=True)
            atoms.wrap()
    with (folder / "thermo.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = {"ensemble": "npt", "temperature": TEMPERATURE, "timestep": 1.0}
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def gas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamics") / "a <gas>"
    write_gas(folder)
    return folder


def page_of(folder, **options):
    report_dynamics(folder, folder / "page.html", **options)
    return (folder / "page.html").read_text(encoding="utf-8")


def cells(page, first):
    """The cells of the table row that begins so."""
    return re.findall(r"<td>(.*?)</td>", re.search(rf"<tr><td>{re.escape(first)}</td>.*?</tr>", page)[0])[1:]


def test_the_page_stands_alone_and_says_what_was_measured(gas):
    result = CliRunner().invoke(app, ["report", str(gas), "--discard", "2.8"])
    assert result.exit_code == 0, result.output
    page = (gas / "report.html").read_text(encoding="utf-8")
    assert "<h1>a &lt;gas&gt;</h1>" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#)(?!data:)[^"]*"', page), "the page needs nothing but itself"
    # Temperature, potential energy, pressure, density, conserved energy; two of temperatures, structure, motion, vibrations each.
    assert page.count("<svg") == 5 + 4 * 2
    thermo = {name: values[700:] for name, values in read_thermo(gas).items()}
    pressure = average(thermo["pressure_gpa"])
    mean, kept, correlated, blocks, deviation, time, independent = cells(page, "pressure, GPa")
    assert float(mean) == pytest.approx(pressure.mean, abs=1e-3)
    assert kept == "0"
    assert cells(page, "temperature, K")[1] == "300"
    assert cells(page, "density, g/cm³")[1] == "–"
    assert float(correlated) == pytest.approx(pressure.standard_error, rel=0.05)
    assert float(blocks) == pytest.approx(pressure.block_error, rel=0.1)
    assert float(deviation) == pytest.approx(thermo["pressure_gpa"].std(ddof=1), rel=0.02)
    assert float(time) == pytest.approx((pressure.inefficiency - 1) / 2 * INTERVAL, rel=0.01)
    assert float(independent) == pytest.approx(100 / pressure.inefficiency, abs=0.51)
    assert "The first 2.8 ps count as equilibration. Beyond half of the run none is looked for" in page
    assert "Radial distribution functions of 100 frames" in page
    grams = 16 * (39.948 + 20.1797) * 1.6605390666 / thermo["volume_ang3"]
    assert float(cells(page, "density, g/cm³")[0]) == pytest.approx(grams.mean(), abs=1e-4)
    slope = drift(thermo["time_fs"] / 1000, thermo["conserved_energy_ev"] * 1000 / 32)
    shown = re.search(r"<b>([^<]*) <small>meV/atom/ps", page)[1].split(" ± ")
    assert float(shown[0]) == pytest.approx(slope.slope, rel=1e-3)
    assert float(shown[1]) == pytest.approx(slope.error, rel=0.1)
    assert slope.slope == pytest.approx(1e-3, abs=3 * slope.error)


def test_diffusion_and_temperatures_are_those_of_the_gas(gas):
    page = page_of(gas)
    einstein, green_kubo, exponent, regime = cells(page, "Ar")
    for text in (einstein, green_kubo):
        value, error = (float(part) for part in text.split(" ± "))
        assert abs(value - DIFFUSION) < 3 * error
        assert error < 0.4 * DIFFUSION
    assert 0.8 < float(exponent) < 1.2
    assert regime == "diffuse"
    assert "96 degrees of freedom" in page
    assert "Langevin" not in page
    assert float(re.search(r"p = ([\d.e-]+);", page)[1]) > 0.01


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"barostat_time": 500.0}, "less than 20 times the run's barostat_time of 0.5 ps: errors are then too small as a rule."),
        ({"barostat_time": 10.0, "thermostat_time": 200.0}, "less than 20 times the run's thermostat_time of 0.2 ps"),
        ({"ensemble": "nvt", "friction": 5.0}, "less than 20 times the run's 1 / friction of 0.2 ps"),
        ({"barostat_time": 100.0}, ""),
        ({"ensemble": "nvt", "barostat_time": 1e4, "friction": 50.0}, ""),
        ({"ensemble": "nve"}, ""),
    ],
)
def test_a_run_that_is_short_for_its_thermostat_says_so(gas, tmp_path, settings, sentence):
    """3 ps of it count."""
    shutil.copytree(gas, tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"ensemble": "npt", "timestep": 1.0, "temperature": TEMPERATURE} | settings))
    page = page_of(tmp_path / "run", discard=0.196)
    assert ("This sample is 3 ps long, " in page) == bool(sentence)
    assert html.escape(sentence) in page


def test_a_mean_far_from_what_is_kept_is_told(gas, tmp_path):
    shutil.copytree(gas, tmp_path / "run")
    summary, thermo = {"ensemble": "npt", "timestep": 1.0, "temperature": TEMPERATURE}, read_thermo(gas)
    pressure = average(thermo["pressure_gpa"])
    for kept, is_told in ((pressure.mean - 3.5 * pressure.error, False), (pressure.mean + 6 * pressure.error, True)):
        (tmp_path / "run" / "summary.json").write_text(json.dumps(summary | {"pressure": kept}))
        page = page_of(tmp_path / "run", discard=0.0)
        assert cells(page, "pressure, GPa")[1] == f"{kept:g}"
        assert (f"The mean pressure lies 6 errors from the {kept:g} GPa that the run keeps" in page) == is_told
        assert "The mean temperature lies" not in page
    warm = {"ensemble": "nvt", "timestep": 1.0, "temperature": 200.0}
    for method, is_told in (("nose_hoover", True), ("langevin", False)):
        (tmp_path / "run" / "summary.json").write_text(json.dumps(warm | {"method": method}))
        assert ("errors from the 200 K that the run keeps" in page_of(tmp_path / "run", discard=0.0)) == is_told


def test_an_open_structure_in_a_cell_has_neither_pressure_nor_density(tmp_path):
    boxed = ethanol()
    boxed.center(vacuum=5.0)
    potential = load_potential(ROOT / "potentials" / "ethanol" / "potential.safetensors")
    settings = Settings(ensemble="nvt", timestep=0.5, seed=3, interval=2, steps=60)
    for pbc, are_there in ((False, False), ((True, True, False), False), (True, True)):
        boxed.pbc = pbc
        row = Simulation(boxed, potential, settings).thermo()[0]
        assert ({"pressure_gpa", "volume_ang3"} <= row.keys(), "pressure_gpa" in row) == (are_there, are_there)
    boxed.pbc = False
    assert "pressure_gpa" not in Simulation([boxed, molecule("H2O")], potential, settings).thermo()[0]
    start_run(Simulation(boxed, potential, settings), tmp_path / "run").run()
    # As older versions wrote it.
    path = tmp_path / "run" / "thermo.csv"
    first, *rows = path.read_text().splitlines()
    columns = [f"{first},pressure_gpa,volume_ang3", *(f"{row},{0.01 * k},{1000 + k}" for k, row in enumerate(rows))]
    path.write_text("\n".join(columns) + "\n")
    names = {finding.name for finding in report_dynamics(tmp_path / "run", tmp_path / "page.html", 0.0)}
    assert "temperature" in names
    assert not names & {"pressure", "density", "volume"}
    assert "<td>pressure" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_number_that_all_parts_share_has_no_error(tmp_path):
    """Rock salt at rest: every block counts six neighbours."""
    write_gas(tmp_path / "run", n_frames=100)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * 2
    atoms.info = {}
    with (tmp_path / "run" / "trajectory.extxyz").open("w") as file:
        for frame in range(100):
            atoms.info = {"step": frame, "time_fs": frame * INTERVAL}
            write_xyz(file, [atoms], write_results=False)
    findings = report_dynamics(tmp_path / "run", tmp_path / "page.html", 0.0)
    assert "Cl neighbours of Na = 6.000" in [str(finding) for finding in findings]
    assert cells((tmp_path / "page.html").read_text(encoding="utf-8"), "Cl around Na")[-1] == "6.000"


def test_temperatures_that_are_not_canonical_are_seen(tmp_path):
    write_gas(tmp_path / "hot", n_frames=300, width=1.05)
    assert float(re.search(r"p = ([\d.e-]+);", page_of(tmp_path / "hot"))[1]) < 0.01


def test_what_a_remark_depends_on():
    mean = average(np.random.default_rng(0).normal(300, 10, size=100))
    narrow, broad = (CanonicalTest(mean, 300.0, width, 1.0, 20.0, 0.5) for width in (21.0, 24.0))
    assert "broader" not in temperature_remark(narrow, 12, has_thermostat=False)
    assert "broader" in temperature_remark(broad, 12, has_thermostat=False)
    for exponent, regime in ((-0.5, "stay"), (0.5, "do not diffuse yet"), (1.0, "diffuse"), (1.5, "still fly")):
        found = Diffusion(2e-4, 1e-5, (1.0, 2.0), exponent)
        value, other, _, text = diffusion_cells(found, None)
        assert text.startswith(regime)
        assert (value, other) == ("–" if exponent < 0 else "2.00 ± 0.10", "–")
    # 1 Å^2/fs is 0.1 cm^2/s.
    assert diffusion_cells(found, found)[1] == "2.00 ± 0.10"


def test_vibrations_that_frames_cannot_show_are_left_out(tmp_path, model_path):
    settings = Settings(
        interval=10, temperature=300.0, seed=1, steps=400, watchdog={"min_distance": 0.0, "max_temperature": 1e9, "max_drift": 1e9}
    )
    start_run(Simulation(ethanol(), load_potential(model_path), settings), tmp_path / "run").run()
    page = page_of(tmp_path / "run", discard=0.0)
    assert "frames 5 fs apart show vibrations up to 3336 1/cm, and these elements may have some up to 4000 1/cm" in page
    assert "Write frames every 4.2 fs or more often" in page
    # A molecule in the void has no density and goes nowhere.
    assert "Structure" not in page
    assert "Motion" not in page
    # Its two torsions.
    assert page.count("<svg") == 3 + 2 + 2
    assert "p = " not in page
    assert "that at constant energy is narrower" in page


def test_a_run_that_was_killed_early_has_a_page(tmp_path, model_path):
    folder = tmp_path / "young"
    start_run(Simulation(ethanol(), load_potential(model_path), Settings(ensemble="nvt", seed=1, steps=30)), folder).run()
    (folder / "summary.json").unlink()
    page = page_of(folder)
    assert page == page_of(folder)
    assert page.count("<svg") == 3
    assert "the run has not ended" in page
    assert "Averages" not in page


def test_frames_too_far_apart_leave_motion_out(tmp_path):
    write_gas(tmp_path / "coarse", n_frames=40, interval=5000.0)
    page = page_of(tmp_path / "coarse", discard=0.0)
    assert re.search(r"Left out: Atom \d+ moves 0\.\d\d of the cell", page)
    assert "Left out: frames 5000 fs apart" in page


def test_what_cannot_be_reported_is_one_sentence(gas, tmp_path):
    with pytest.raises(ConfigError, match=r"9 ps are to be discarded of 3\.196 ps of constant conditions; discard less"):
        report_dynamics(gas, tmp_path / "page.html", discard=9.0)
    for discard in ("nan", "-1"):
        result = CliRunner().invoke(app, ["report", str(gas), "--discard", discard])
        assert result.exit_code == 1
        assert f"{discard} ps are to be discarded; give 0 or more" in " ".join(result.output.split())
    table = (gas / "thermo.csv").read_bytes()
    result = CliRunner().invoke(app, ["report", str(gas), "-o", str(gas / "thermo.csv")])
    assert result.exit_code == 1
    assert "does not end in .html" in " ".join(result.output.split())
    assert (gas / "thermo.csv").read_bytes() == table
    result = CliRunner().invoke(app, ["report", str(gas), "--data", "x.extxyz"])
    assert result.exit_code != 0
    assert "neither --data nor --potential" in " ".join(result.output.split())
    (tmp_path / "thermo.csv").write_text("step\n")
    with pytest.raises(DataError, match="has no rows"):
        report_dynamics(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_replicas_are_averaged_and_other_systems_stand_beside_them(tmp_path):
    settings = Settings(ensemble="nvt", timestep=1.0, friction=50.0, temperature=[300.0, 500.0, 300.0], seed=3, interval=2, steps=120)
    potential = load_potential(ROOT / "potentials" / "ethanol" / "potential.safetensors")
    start_run(Simulation([ethanol()] * 3, potential, settings), tmp_path / "run").run()
    findings = {str(finding).partition(" = ")[0]: finding for finding in report_dynamics(tmp_path / "run", tmp_path / "page.html", 0.02)}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 replicas of C2H6O, 9 atoms; C2H6O, 9 atoms; NVT" in page
    temperatures = read_thermo(tmp_path / "run")["temperature_k"][:, 10:]
    for kept, systems in ((300, [0, 2]), (500, [1])):
        found = findings[f"temperature at {kept} K"]
        expected = average(temperatures[systems])
        assert (found.value, found.error) == pytest.approx((expected.mean, expected.error))
        assert float(cells(page, f"temperature, K at {kept} K")[0]) == pytest.approx(expected.mean, abs=0.5)
        assert f"Torsions at {kept} K" in page
    assert "<td>300 K</td><td>27</td>" in page
    assert "Langevin dynamics sample positions" in page


def test_isotopes_are_no_replicas(tmp_path):
    heavy = ethanol()
    heavy.set_masses([2.014 if symbol == "H" else None for symbol in heavy.symbols])
    potential = load_potential(ROOT / "potentials" / "ethanol" / "potential.safetensors")
    settings = Settings(ensemble="nvt", timestep=0.5, seed=3, interval=2, steps=40)
    start_run(Simulation([ethanol(), heavy], potential, settings), tmp_path / "run").run()
    groups = read_run(tmp_path / "run").groups
    assert [len(group.trajectories) for group in groups] == [1, 1]


def test_what_a_schedule_keeps_constant_is_a_sample(tmp_path):
    write_gas(tmp_path / "gas", n_frames=300)
    schedule = [{"time": 0.1, "temperature": 300}, {"time": 0.4, "temperature": 300}, {"time": 0.8, "temperature": 600}]
    summary = {"ensemble": "nvt", "timestep": 1.0, "schedule": schedule}
    (tmp_path / "gas" / "summary.json").write_text(json.dumps(summary))
    findings = report_dynamics(tmp_path / "gas", tmp_path / "page.html", 0.04)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    thermo = read_thermo(tmp_path / "gas")
    # Constant before the first point and beyond the last, 0.8 to 1.196 ps.
    for name, first, last in (("300 K", 10, 101), ("600 K", 210, 300)):
        (found,) = (finding for finding in findings if finding.name == "pressure" and finding.sample == name)
        assert found.value == pytest.approx(thermo["pressure_gpa"][first:last].mean())
        assert f"<td>{name}, Ar</td>" in page
    again = [*schedule, {"time": 0.9, "temperature": 300}]
    (tmp_path / "gas" / "summary.json").write_text(json.dumps({**summary, "schedule": again}))
    samples = {finding.sample for finding in report_dynamics(tmp_path / "gas", tmp_path / "page.html")}
    assert samples == {"300 K, 0–0.4 ps", "300 K, 0.9–1.196 ps"}
    # Nothing of a ramp is an average, but the page stands.
    (tmp_path / "gas" / "summary.json").write_text(json.dumps({**summary, "schedule": [{"time": 0, "temperature": 300}, schedule[-1]]}))
    assert {finding.sample for finding in report_dynamics(tmp_path / "gas", tmp_path / "page.html")} == {"600 K"}
    ramp = [{"time": 0, "temperature": 300}, {"time": 2, "temperature": 600}]
    (tmp_path / "gas" / "summary.json").write_text(json.dumps({**summary, "schedule": ramp}))
    assert report_dynamics(tmp_path / "gas", tmp_path / "page.html") == []


@pytest.mark.parametrize(
    ("bond", "height", "caption"),
    [
        (30.0, 3.24, "Radial distribution functions. H-O at 1.05 Å reaches 30, beyond the figure."),
        (6.0, 6.48, "Radial distribution functions."),
    ],
)
def test_a_bond_does_not_flatten_the_other_peaks_of_g_of_r(bond, height, caption):
    edges = np.arange(0, 6.05, 0.1)
    flat = np.where(edges[1:] > 2, 1.0, 0.0)
    intra, inter, other = flat.copy(), flat.copy(), flat.copy()
    intra[10], inter[27], other[30] = bond, 3.0, 2.0
    values = {("H", "H"): other, ("H", "O"): intra, ("O", "H"): intra, ("O", "O"): inter}
    found = RadialDistribution(edges, values, {pair: np.cumsum(each) for pair, each in values.items()}, 1)
    (figure, text), _ = radial_distributions({"": [found]})
    assert figure.axes[0].get_ylim() == pytest.approx((0, height))
    assert text == caption


def test_runs_that_follow_one_another_are_drawn_so():
    thermo = {"time_fs": np.array([0.0, 1000.0]), "temperature_k": np.array([300.0, 310.0]), "conserved_energy_ev": np.array([7.0, 7.1])}
    _, lower = plot_sequence({"first": thermo, "second": thermo}, n_atoms=2).axes
    np.testing.assert_allclose([line.get_xdata() for line in lower.lines], [[0, 1], [1, 2]])
    np.testing.assert_allclose([line.get_ydata() for line in lower.lines], [[0, 50], [0, 50]])


def test_replicas_have_independent_errors():
    mean = _mean_diffusion([Diffusion(1.0, 0.3, (1.0, 2.0), 0.9), Diffusion(3.0, 0.4, (1.0, 2.0), None)])
    assert (mean.coefficient, mean.error, mean.exponent) == pytest.approx((2.0, 0.25, 0.9))


@pytest.mark.parametrize(("minimum", "symmetry", "near"), [(175.0, 1, 180), (290.0, 1, -60), (55.0, 3, 60), (118.0, 3, 0)])
def test_a_well_is_named_by_the_angle_that_it_is_near(minimum, symmetry, near):
    well = Well(minimum, 0.0, 1.0, 0.5, 0.1, (40.0, 30.0), (2.0, 1.0))
    assert [str(finding) for finding in _well_findings("C0-C1-C2-C3", "", well, symmetry)] == [
        f"population of C0-C1-C2-C3 near {near}° = 0.50 ± 0.10",
        f"barrier of C0-C1-C2-C3 near {near}° = 30.0 ± 1.0 meV",
    ]


def test_the_largest_drift_may_be_downwards(tmp_path):
    write_gas(tmp_path / "gas", n_frames=300)
    schedule = [{"time": time, "temperature": kept} for time, kept in ((0.5, 300), (0.6, 600))]
    (tmp_path / "gas" / "summary.json").write_text(json.dumps({"ensemble": "nvt", "timestep": 1.0, "schedule": schedule}))
    with (tmp_path / "gas" / "thermo.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        time = float(row["time_fs"])
        row["conserved_energy_ev"] = 3.2e-6 * time if time < 550 else -3.2e-5 * time
    with (tmp_path / "gas" / "thermo.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    page = page_of(tmp_path / "gas", discard=0.0)
    assert float(re.search(r"<b>([^<]*) <small>meV/atom/ps</small></b><span>largest drift", page)[1].split(" ± ")[0]) == pytest.approx(-1.0)

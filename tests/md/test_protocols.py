"""The protocols of `md/protocols`: their headers, a short form of each, and, as slow tests, whether they find what they promise."""

import itertools
import re

import ase.io
import pytest
import yaml
from typer.testing import CliRunner

from eqpot import EqpotCalculator
from eqpot.cli.main import app
from helpers import ROOT

PROTOCOLS = [pytest.param(path, id=path.stem) for path in sorted((ROOT / "md" / "protocols").glob("*.yaml"))]
SHORT = 300
"""Steps that leave every stage of every schedule the rows of an average."""

EXPECTED = re.compile(r"#   (?P<name>.+?) = (?P<value>-?[\d.]+) ± (?P<tolerance>[\d.]+)(?: (?P<unit>\S.*))?")


def header(path):
    return list(itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()))


def expectations(path):
    """Name with sample -> (value, tolerance, unit) of the lines below "Expect"."""
    lines = header(path)
    below = lines[next(k for k, line in enumerate(lines) if line.startswith("# Expect")) + 1 :]
    found = [EXPECTED.fullmatch(line) for line in below if " = " in line]
    assert found
    assert all(found), "a number below Expect is not of the form `#   name = value ± tolerance unit`"
    return {item["name"]: (float(item["value"]), float(item["tolerance"]), item["unit"] or "") for item in found}


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def printed_numbers(folder, *options):
    """What `eqpot report` prints: name with sample -> (value, unit)."""
    lines = re.findall(r"^(.+?) = (-?[\d.e-]+) ± [\d.e-]+ ?(.*)$", invoke("report", folder, *options), re.MULTILINE)
    assert (folder / "report.html").stat().st_size > 20_000
    return {name: (float(value), unit) for name, value, unit in lines}


@pytest.mark.parametrize("path", PROTOCOLS)
def test_the_header_tells_what_to_expect(path):
    lines = header(path)
    starts = [line.split(":")[0] for line in lines if re.match(r"# \w+:", line)]
    assert starts == ["# Shows", "# Takes", "# Run", "# Expect"]
    output = yaml.safe_load(path.read_text(encoding="utf-8"))["output"]
    assert output == f"runs/{path.stem}"
    assert f"# Run: eqpot md md/protocols/{path.name} && eqpot report {output}" in lines
    assert expectations(path)
    assert f"`protocols/{path.name}`" in (ROOT / "md" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PROTOCOLS)
def test_short_form(tmp_path, monkeypatch, path):
    """All of a protocol in a few hundred steps, its schedule as much shorter."""
    monkeypatch.chdir(ROOT)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    dynamics, replicas = values["dynamics"], min(2, values.get("replicas", 1))
    shorter = SHORT / dynamics["steps"]
    overrides = [f"output={tmp_path / 'run'}", f"dynamics.steps={SHORT}", "dynamics.interval=1", f"replicas={replicas}"]
    if "schedule" in dynamics:
        schedule = [{**point, "time": point["time"] * shorter} for point in dynamics["schedule"]]
        overrides.append(f"dynamics.schedule={yaml.safe_dump(schedule, default_flow_style=True, width=1000).strip()}")
    assert "drifts by" in " ".join(invoke("md", path, *overrides).split())
    found = printed_numbers(tmp_path / "run", "--discard", 0)
    samples = {name.partition(" at ")[2] for name in found}
    for name, (_, _, unit) in expectations(path).items():
        assert name.partition(" at ")[2].split(",")[0] in {sample.split(",")[0] for sample in samples}
        assert name not in found or found[name][1] == unit


@pytest.mark.slow
@pytest.mark.parametrize("path", PROTOCOLS)
def test_a_protocol_finds_what_it_promises(tmp_path, monkeypatch, path):
    monkeypatch.chdir(ROOT)
    invoke("md", path, f"output={tmp_path / 'run'}")
    found = printed_numbers(tmp_path / "run")
    for name, (value, tolerance, unit) in expectations(path).items():
        assert found[name] == (pytest.approx(value, abs=tolerance), unit), name


def test_the_defect_that_is_annealed_is_one():
    perfect, defect = (ase.io.read(ROOT / path) for path in ("potentials/silicon/structure.extxyz", "md/structures/silicon_frenkel.extxyz"))
    for atoms in (perfect, defect):
        atoms.calc = EqpotCalculator(ROOT / "potentials" / "silicon" / "potential.safetensors")
    assert abs(defect.get_forces()).max() < 0.1
    assert 4 < defect.get_potential_energy() - perfect.get_potential_energy() < 7

"""The report of a training run: how it went, how good the potential is, and where it is worst."""

import csv
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import yaml
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqpot.calculator import EqpotCalculator
from eqpot.calibration import reliability
from eqpot.config_file import load_config
from eqpot.data import Frame, read_frames
from eqpot.errors import ConfigError, DataError, short
from eqpot.model_file import ModelHeader, load_potential, read_header
from eqpot.neighbors import neighbor_list
from eqpot.report.page import COLORS, Page, panel
from eqpot.report.predictions import Prediction, predict
from eqpot.report.uncertainty import show_uncertainty
from eqpot.training.config import TrainConfig
from eqpot.training.start import read_split
from eqpot.units import GIGAPASCAL

_WORST = 10
_POINTS = 4000
"""Points of a parity plot at most: more would only hide each other."""


def report_training(folder: str | Path, output: str | Path, data: Sequence[str | Path] = (), potential: str | Path | None = None) -> None:
    """Write the HTML page of a run folder.

    data: test frames; without them the validation frames are shown, which chose the weights. potential: a model file of the run in
    place of its potential.safetensors, such as the calibrated one, of which the page shows how well its uncertainties hold.
    Raises ConfigError where the folder is no training run, and what reading and evaluating its data raise.
    """
    folder = Path(folder)
    missing = [name for name in ("config.yaml", "metrics.csv", "timings.csv", "potential.safetensors") if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"{folder} has no {', '.join(missing)}; name the run folder of `eqpot train`, after its first validation.")
    config = load_config(TrainConfig, folder / "config.yaml", [])
    model = Path(potential) if potential else folder / "potential.safetensors"
    header = read_header(model)
    train, valid = read_split(config)
    # Test files are taken to name their labels as the training files do.
    keys = config.data.train[0].source().keys
    tested, name = (read_frames(list(data), keys), "test") if data else (valid, "validation")
    predictions = predict(load_potential(model), tested)
    metrics, timings = (_read_columns(folder / name) for name in ("metrics.csv", "timings.csv"))

    energies = [item for item in predictions if item.frame.energy is not None]
    forces = [item for item in predictions if item.frame.forces is not None]

    page = Page(folder.name, _subtitle(header, config, metrics, timings))
    _headline(page, energies, forces, _stress_pairs(predictions), name)
    page.heading("Learning curves", "Errors on the validation frames, of the moving average of the weights.")
    page.figures(_learning_curves(metrics))
    page.heading(f"Predicted against DFT, {len(tested)} {name} frames")
    page.figures([*_energy_parity(energies), *_force_parities(forces), *_stress_parity(predictions)])
    page.heading("Where the errors are")
    page.figures([_error_against_force(forces), _error_distribution(forces)])
    if header.uncertainty is not None:
        found = reliability(EqpotCalculator(model, dtype=header.dtype), tested)
        show_uncertainty(page, found, header.uncertainty, f"{len(tested):,} {name} frames")
    _worst(page, forces)
    _data(page, {"training": train, name: tested}, config.network.cutoff)
    page.heading("Settings")
    page.text(yaml.safe_dump({**header.versions, "weights": header.training}, sort_keys=False))
    page.text((folder / "config.yaml").read_text(encoding="utf-8"))
    page.write(output)


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    except (ValueError, TypeError, LookupError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of numbers ({short(error)}); bring back what `eqpot train` wrote.") from error


def _subtitle(header: ModelHeader, config: TrainConfig, metrics: dict[str, np.ndarray], timings: dict[str, np.ndarray]) -> str:
    epochs, steps, seconds = int(metrics["epoch"][-1]), int(timings["step"][-1]), float(timings["seconds"][-1])
    return (
        f"{', '.join(header.elements)}; cutoff {header.cutoff} Å; {epochs:,} of {config.training.epochs:,} epochs, {steps:,} steps in "
        f"{timedelta(seconds=round(seconds))} ({1000 * seconds / steps:.1f} ms a step)."
    )


def _headline(
    page: Page, energies: Sequence[Prediction], forces: Sequence[Prediction], stress: tuple[np.ndarray, np.ndarray] | None, name: str
) -> None:
    """Show the errors of frames that have an energy, of those that have forces, and of labels and predictions of the stress in GPa."""
    components = 1000 * np.concatenate([item.force_errors.ravel() for item in forces])
    tiles = [
        (f"{abs(components).mean():.3g}", "meV/Å", f"force, MAE, {name}"),
        (f"{_rms(components):.3g}", "meV/Å", f"force, RMSE, {name}"),
    ]
    if energies:
        energy = 1000 * np.array([item.energy_error for item in energies])
        whole = energy * np.array([len(item.frame.atoms) for item in energies])
        tiles.append((f"{abs(energy).mean():.3g}", "meV/atom", f"energy, MAE, {name}"))
        tiles.append((f"{abs(whole).mean():.3g}", "meV", f"energy of a structure, MAE, {name}"))
    if stress is not None:
        tiles.append((f"{abs(stress[1] - stress[0]).mean():.3g}", "GPa", f"stress, MAE, {name}"))
    page.tiles(tiles)


def _learning_curves(metrics: dict[str, np.ndarray]) -> list[tuple[Figure, str]]:
    figures = []
    for quantity, unit, key in (("force", "meV/Å", "force_{}_mev_per_ang"), ("energy", "meV/atom", "energy_{}_mev_per_atom")):
        if key.format("mae") not in metrics:
            continue
        figure, axes = panel("epoch", f"{quantity} error ({unit})")
        for color, kind in zip(COLORS, ("mae", "rmse"), strict=False):
            axes.plot(metrics["epoch"], metrics[key.format(kind)], color=color, marker="o", markersize=2.5, label=kind.upper())
        axes.set_yscale("log")
        _mark_stage_two(axes, metrics)
        axes.legend(frameon=False)
        figures.append((figure, f"Validation {quantity} error."))
    figure, axes = panel("epoch", "loss, learning rate")
    axes.plot(metrics["epoch"], metrics["loss"], color=COLORS[0], marker="o", markersize=2.5, label="training loss")
    axes.plot(metrics["epoch"], metrics["learning_rate"], color=COLORS[4], linewidth=1, label="learning rate")
    axes.set_yscale("log")
    _mark_stage_two(axes, metrics)
    axes.legend(frameon=False)
    return [*figures, (figure, "Training loss of an epoch, and the learning rate.")]


def _mark_stage_two(axes: Axes, metrics: dict[str, np.ndarray]) -> None:
    """Draw a line between the last validation of the first stage and the first of the second, if there are both."""
    changes = np.flatnonzero(np.diff(metrics.get("stage", [])))
    for index in changes:
        axes.axvline(metrics["epoch"][index : index + 2].mean(), color="#5c6670", linestyle=":", linewidth=1, label="stage two")


def _parity(labels: np.ndarray, predicted: np.ndarray, quantity: str, unit: str, color: str) -> Figure:
    figure, axes = panel(f"DFT {quantity} ({unit})", f"predicted ({unit})")
    chosen = np.random.default_rng(0).permutation(len(labels))[:_POINTS]
    low, high = min(labels.min(), predicted.min()), max(labels.max(), predicted.max())
    margin = 0.05 * (high - low or 1.0)
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color="#9aa4ae", linewidth=0.8)
    axes.scatter(
        labels[chosen], predicted[chosen], s=5 if len(chosen) > 200 else 16, color=color, alpha=0.35, linewidths=0, rasterized=True
    )
    axes.set(xlim=limits, ylim=limits)
    return figure


def _energy_parity(predictions: Sequence[Prediction]) -> list[tuple[Figure, str]]:
    if not predictions:
        return []
    counts = np.array([len(item.frame.atoms) for item in predictions])
    labels = np.array([item.energy_label for item in predictions]) / counts
    predicted = np.array([item.energy for item in predictions]) / counts
    # Against the mean: absolute DFT energies have no meaning, and their digits hide the spread.
    figure = _parity(labels - labels.mean(), predicted - labels.mean(), "energy", "eV/atom", COLORS[0])
    return [(figure, f"Energy per atom, from {labels.mean():.4f} eV/atom; MAE {1000 * abs(predicted - labels).mean():.3g} meV/atom.")]


def _by_element(predictions: Sequence[Prediction]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return the labels and predictions of forces [n, 3], eV/Å, of each element."""
    numbers = np.concatenate([item.frame.atoms.numbers for item in predictions])
    labels = np.concatenate([item.force_labels for item in predictions])
    predicted = np.concatenate([item.forces for item in predictions])
    return {int(number): (labels[numbers == number], predicted[numbers == number]) for number in np.unique(numbers)}


def _force_parities(predictions: Sequence[Prediction]) -> list[tuple[Figure, str]]:
    figures = []
    for index, (number, (labels, predicted)) in enumerate(_by_element(predictions).items()):
        errors = 1000 * (predicted - labels)
        caption = f"Force components on {chemical_symbols[number]}; MAE {abs(errors).mean():.3g}, RMSE {_rms(errors):.3g} meV/Å."
        figures.append((_parity(labels.ravel(), predicted.ravel(), "force", "eV/Å", COLORS[(index + 1) % len(COLORS)]), caption))
    return figures


def _stress_pairs(predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return labels and predictions of the six stress components in GPa, or None where there are no labels."""
    pairs = [(item.frame.stress, item.stress) for item in predictions if item.frame.stress is not None]
    if not pairs:
        return None
    labels, predicted = (np.ravel([full_3x3_to_voigt_6_stress(stress) for stress in side]) for side in zip(*pairs, strict=True))
    return labels / GIGAPASCAL, predicted / GIGAPASCAL


def _stress_parity(predictions: Sequence[Prediction]) -> list[tuple[Figure, str]]:
    pairs = _stress_pairs(predictions)
    if pairs is None:
        return []
    return [(_parity(*pairs, "stress", "GPa", COLORS[0]), f"Stress components; MAE {abs(pairs[1] - pairs[0]).mean():.3g} GPa.")]


def _error_against_force(predictions: Sequence[Prediction]) -> tuple[Figure, str]:
    figure, axes = panel("DFT force on an atom (eV/Å)", "error of that force (meV/Å)")
    for index, (number, (labels, predicted)) in enumerate(_by_element(predictions).items()):
        sizes, errors = np.linalg.norm(labels, axis=1), 1000 * np.linalg.norm(predicted - labels, axis=1)
        edges = np.quantile(sizes, np.linspace(0, 1, min(13, 1 + max(2, len(sizes) // 20))))
        bins = [(sizes >= low) & (sizes <= high) for low, high in itertools.pairwise(edges)]
        middle, quantiles = zip(*((sizes[b].mean(), np.quantile(errors[b], (0.1, 0.5, 0.9))) for b in bins if b.any()), strict=True)
        low, median, high = np.array(quantiles).T
        color = COLORS[(index + 1) % len(COLORS)]
        axes.fill_between(middle, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(middle, median, color=color, marker="o", markersize=2.5, label=chemical_symbols[number])
    axes.set(yscale="log", ylim=(_floor(predictions), None))
    axes.legend(frameon=False)
    return figure, "Error against the size of the force: median, and the range that holds 80 % of the atoms."


def _error_distribution(predictions: Sequence[Prediction]) -> tuple[Figure, str]:
    figure, axes = panel("error of the force on an atom (meV/Å)", "atoms with a larger error (%)")
    for index, (number, (labels, predicted)) in enumerate(_by_element(predictions).items()):
        errors = np.sort(1000 * np.linalg.norm(predicted - labels, axis=1))
        share = 100 * (1 - np.arange(len(errors)) / len(errors))
        axes.plot(errors, share, color=COLORS[(index + 1) % len(COLORS)], label=chemical_symbols[number])
    axes.set(xscale="log", yscale="log", xlim=(_floor(predictions), None))
    axes.legend(frameon=False)
    return figure, "How many atoms have an error larger than that: the tail is what breaks a simulation."


def _floor(predictions: Sequence[Prediction]) -> float:
    """Return the smallest error worth showing, meV/Å: at sites of symmetry forces are zero, and right to rounding."""
    errors = 1000 * np.linalg.norm(np.concatenate([item.force_errors for item in predictions]), axis=1)
    return float(np.quantile(errors, 0.9)) / 300 or 1e-9


def _worst(page: Page, predictions: Sequence[Prediction]) -> None:
    page.heading("Worst frames", "Those with the largest error of the force on one atom: wrong labels hide here, and what the data lack.")
    largest = [np.linalg.norm(item.force_errors, axis=1) for item in predictions]
    order = sorted(range(len(predictions)), key=lambda index: -largest[index].max())[:_WORST]
    rows = []
    for index in order:
        item, atom = predictions[index], int(largest[index].argmax())
        rows.append(
            (
                item.frame.origin,
                str(item.frame.atoms.symbols),
                f"{1000 * largest[index][atom]:.1f}",
                f"{atom} ({item.frame.atoms.symbols[atom]})",
                f"{np.linalg.norm(item.force_labels[atom]):.2f}",
                "–" if np.isnan(item.energy_label) else f"{1000 * item.energy_error:+.2f}",
            )
        )
    page.table(("frame", "formula", "force error, meV/Å", "on atom", "its DFT force, eV/Å", "energy error, meV/atom"), rows)


def _data(page: Page, sets: dict[str, Sequence[Frame]], cutoff: float | None) -> None:
    page.heading("Data")
    columns = []
    for name, frames in sets.items():
        counts = np.array([len(frame.atoms) for frame in frames])
        energies = np.array([frame.energy / len(frame.atoms) for frame in frames if frame.energy is not None])
        elements = Counter(symbol for frame in frames for symbol in frame.atoms.symbols)
        forces = np.concatenate([np.empty(0), *(frame.forces.ravel() for frame in frames if frame.forces is not None)])
        columns.append(
            {
                "": name,
                "frames": f"{len(frames):,}",
                "of them with energy, forces, stress": ", ".join(
                    f"{sum(getattr(frame, label) is not None for frame in frames):,}" for label in ("energy", "forces", "stress")
                ),
                "atoms of a frame": f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else str(counts[0]),
                "atoms of each element": ", ".join(f"{symbol} {count:,}" for symbol, count in sorted(elements.items())),
                "energy, standard deviation, eV/atom": f"{energies.std():.4f}" if len(energies) else "–",
                "force components, root mean square, eV/Å": f"{_rms(forces):.3f}" if len(forces) else "–",
                "largest force component, eV/Å": f"{abs(forces).max():.2f}" if len(forces) else "–",
                "shortest distance, Å": f"{_shortest(frames, cutoff):.2f}",
            }
        )
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    page.table(rows[0], rows[1:])


def _shortest(frames: Sequence[Frame], cutoff: float | None) -> float:
    shortest = math.inf
    for frame in frames:
        (source, target), shifts = neighbor_list(frame.atoms, cutoff or math.inf)
        vectors = frame.atoms.positions[source] - frame.atoms.positions[target] + shifts @ frame.atoms.cell.array
        shortest = min(shortest, float(np.linalg.norm(vectors, axis=1).min(initial=math.inf)))
    return shortest


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

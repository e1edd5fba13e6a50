"""Figures of how well predicted standard deviations hold."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.special import erfinv

from eqpot.calibration import UNITS, Reliability
from eqpot.report.page import COLORS, Page, panel
from eqpot.uncertainty import Quantity, UncertaintyRecord

_BINS = 12
_NAMES: dict[Quantity, str] = {"energy": "energy", "forces": "force", "stress": "stress"}
_COLORS: dict[Quantity, str] = {"energy": COLORS[0], "forces": COLORS[1], "stress": COLORS[2]}


def show_uncertainty(page: Page, found: Mapping[Quantity, Reliability], record: UncertaintyRecord, frames: str) -> None:
    """Add the section to a page. frames: what the errors are of, such as "1,000 test frames"."""
    page.heading(
        "Uncertainty",
        f"Standard deviations from the last layers, scaled on {record.calibration_frames} validation frames, against the errors of "
        f"{frames}. A Gaussian holds 68 % within one and 95 % within two. Gain: of the log likelihood over one σ for all; surer half: "
        "the RMSE where σ is small, over that of all.",
    )
    page.figures([_coverage(found), *(_reliability(name, pairs) for name, pairs in found.items())])
    rows = []
    for name, pairs in found.items():
        unit, size = UNITS[name]
        baseline = pairs.constant(record.rmse[name])
        rows.append(
            (
                _NAMES[name],
                f"{pairs.rmse() / size:.3g} {unit}",
                *(f"{100 * pairs.coverage(z):.1f} %" for z in (1, 2)),
                f"{pairs.miscalibration_area():.3f}",
                f"{baseline.negative_log_likelihood() - pairs.negative_log_likelihood():+.2f}",
                f"{pairs.rank_correlation():.2f}",
                f"{100 * pairs.rmse_of_most_certain(0.5):.0f} %",
            )
        )
    page.table(
        (
            "quantity",
            "RMSE",
            "within 1 σ",
            "within 2 σ",
            "miscalibration",
            "gain, nats",
            "rank correlation",
            "surer half",
        ),
        rows,
    )


def _coverage(found: Mapping[Quantity, Reliability]) -> tuple[Figure, str]:
    figure, axes = panel("promised by a Gaussian (%)", "errors within the interval (%)")
    promised = np.linspace(0, 1, 101)[1:-1]
    axes.plot([0, 100], [0, 100], color="#9aa4ae", linewidth=0.8)
    for name, pairs in found.items():
        shares = [100 * pairs.coverage(np.sqrt(2) * erfinv(share)) for share in promised]
        axes.plot(100 * promised, shares, color=_COLORS[name], label=_NAMES[name])
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.legend(frameon=False)
    return figure, "Coverage: how many errors lie within the central intervals. Above the line σ is too large, below it too small."


def _reliability(name: Quantity, pairs: Reliability) -> tuple[Figure, str]:
    unit, size = UNITS[name]
    figure, axes = panel(f"predicted σ of the {_NAMES[name]} ({unit})", f"its error ({unit})")
    shown = np.random.default_rng(0).permutation(len(pairs.errors))[:4000]
    deviations, errors = pairs.deviations / size, abs(pairs.errors) / size
    axes.scatter(
        deviations[shown],
        errors[shown],
        s=5 if len(shown) > 200 else 16,
        color=_COLORS[name],
        alpha=0.2 if len(shown) > 1000 else 0.5,
        linewidths=0,
        rasterized=True,
    )
    sigma, rmse = (values / size for values in pairs.bins(min(_BINS, max(2, len(errors) // 20))))
    limits = np.array([np.quantile(deviations, 0.002) / 1.5, max(np.quantile(errors, 0.998), deviations.max()) * 1.5])
    axes.plot(limits, limits, color="#9aa4ae", linewidth=0.8)
    axes.plot(sigma, rmse, color="#1b1f24", marker="o", markersize=4, linewidth=1.2, label="RMSE of a bin")
    axes.set(xscale="log", yscale="log", xlim=(limits[0], deviations.max() * 1.5), ylim=(np.quantile(errors, 0.02), limits[1]))
    for axis in (axes.xaxis, axes.yaxis):
        # Deviations often span less than a decade, where the default labels run into each other.
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False)
    return figure, f"Reliability of the {_NAMES[name]}: bins of equally many; on the line errors are as large as predicted."

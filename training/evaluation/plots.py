"""Score histograms, ROC and PRO curves as PNG. matplotlib's Agg canvas, without pyplot: no window, no global state."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from model_store.manifest import VerdictThresholds
from training.evaluation.rows import Curves, EvaluationRow, defects_of
from training.html_page import as_png
from training.metrics.counts import Curve
from training.metrics.pixel_metrics import PRO_LIMIT

GOOD_COLOUR, DEFECT_COLOUR = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind eyes tell apart; good ones are also hatched."""
INK = "#333333"
ABREAST = 3
BINS = 30
DECADE = 10


def score_histograms(rows: Sequence[EvaluationRow], limits: VerdictThresholds | None) -> bytes:
    """Return good images against each defect, a panel each, with the thresholds, as PNG.

    The scale is logarithmic if scores span a decade.
    """
    kinds = defects_of(rows) or [""]
    lines = -(-len(kinds) // ABREAST)
    figure = Figure(figsize=(11, 0.7 + 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, min(len(kinds), ABREAST), sharex=True, squeeze=False)
    marks = [] if limits is None else [limits.review, limits.fail]
    edges = _edges([*(row.score for row in rows), *marks])
    good = [row.score for row in rows if row.is_good]
    for axis, kind in zip(axes.flat, kinds, strict=False):
        _histogram(axis, good, [row.score for row in rows if row.defect == kind], edges, kind)
        _thresholds(axis, limits)
        if _spans_a_decade(edges):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axis.xaxis.set_minor_formatter(NullFormatter())
    for axis in axes.flat[len(kinds) :]:
        axis.set_visible(False)
    for axis in chain(axes[-1], axes[-2, len(kinds) % ABREAST or ABREAST :] if lines > 1 else ()):
        axis.set_xlabel("score")
        axis.tick_params(labelbottom=True)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return as_png(figure)


def roc_curves(curves: Curves) -> bytes:
    """Return the ROC of images, the ROC of pixels, and the PRO curve up to its limit, side by side, as PNG."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _roc(left, curves.image, "Images (I-AUROC)", "share of defective images found", 1)
    _roc(middle, curves.pixel, "Pixels (P-AUROC)", "share of defective pixels found", 1)
    _roc(right, curves.region, "Regions (PRO)", "mean overlap of defect regions", PRO_LIMIT)
    return as_png(figure)


def _histogram(
    axis: Axes, good: Sequence[float], defective: Sequence[float], edges: NDArray[np.float64], kind: str
) -> None:
    axis.hist(good, edges.tolist(), color=GOOD_COLOUR, alpha=0.45, hatch="///", edgecolor=GOOD_COLOUR, label="good")
    if defective:
        axis.hist(
            defective, edges.tolist(), color=DEFECT_COLOUR, alpha=0.75, edgecolor="white", linewidth=0.5, label="defect"
        )
    axis.set_title(kind.replace("_", " "), fontsize=10)
    axis.set_ylabel("images")
    axis.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.spines[["top", "right"]].set_visible(False)


def _thresholds(axis: Axes, limits: VerdictThresholds | None) -> None:
    if limits is None:
        return
    axis.axvline(limits.review, color=INK, linestyle=":", linewidth=1.4, label="review from")
    axis.axvline(limits.fail, color=INK, linestyle="-", linewidth=1.4, label="fail from")


def _roc(axis: Axes, line: Curve | None, title: str, y_label: str, limit: float) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("false positive rate")
    axis.set_ylabel(y_label)
    axis.set(xlim=(-0.01 * limit, limit), ylim=(0, 1.02))
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
    if line is None:
        axis.text(
            limit / 2, 0.5, "no defect with a mask" if limit < 1 or "Pixel" in title else "no defect", ha="center"
        )
        return
    axis.plot(line.false_positive_rate, line.true_positive_rate, color=GOOD_COLOUR, linewidth=2)
    axis.fill_between(line.false_positive_rate, line.true_positive_rate, color=GOOD_COLOUR, alpha=0.08)


def _edges(scores: Sequence[float]) -> NDArray[np.float64]:
    low, high = float(np.min(scores)), float(np.max(scores))
    if low > 0 and high / low > DECADE:
        return np.geomspace(low, high * 1.01, BINS + 1)
    return np.linspace(low, high + max(1e-6, 0.01 * (high - low)), BINS + 1)


def _spans_a_decade(edges: NDArray[np.float64]) -> bool:
    return bool(edges[0] > 0 and edges[-1] / edges[0] > DECADE)

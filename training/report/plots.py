"""The plots of a report: the scores of good images with both thresholds, and the loss of each stage."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from model_store.manifest import Calibration
from training.evaluation.plots import DEFECT_COLOUR, GOOD_COLOUR, INK
from training.html_page import as_png
from training.report.contents import LossCurve

REVIEW_COLOUR = "#E69F00"
"""Orange of Okabe and Ito's palette."""
MOST_BINS = 30
ROUNDING = 1e-6
"""Of the scores that a calibration keeps; a threshold lies just above one of them."""


def good_scores(calibration: Calibration) -> bytes:
    """Return the histogram of the good images' scores, with the three verdicts as zones, as PNG."""
    scores = np.asarray(calibration.good_scores) - ROUNDING  # so that none lies beyond the threshold that it has set
    low, high = min(float(scores.min()), calibration.review), max(float(scores.max()), calibration.fail)
    room = max(high - low, 1e-6)
    left, right = max(0.0, low - 0.08 * room), high + 0.30 * room
    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    axis = figure.subplots()
    bins = min(MOST_BINS, max(8, len(scores) // 3))
    width = (right - left) / bins
    below = int(np.ceil((calibration.fail - left) / width))
    edges = [calibration.fail + width * place for place in range(-below, bins - below + 2)]
    axis.hist(scores, edges, color=GOOD_COLOUR, alpha=0.75, edgecolor="white", linewidth=0.6)
    _zones(axis, calibration, left, right)
    axis.set(xlim=(left, right), xlabel="score: how unusual the image is")
    axis.set_ylabel("good images")
    axis.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.spines[["top", "right"]].set_visible(False)
    return as_png(figure)


def _zones(axis: Axes, calibration: Calibration, left: float, right: float) -> None:
    review, fail = calibration.review, calibration.fail
    axis.set_ylim(0, 1.28 * axis.get_ylim()[1])
    zones = (
        ("pass", left, review, GOOD_COLOUR),
        ("review", review, fail, REVIEW_COLOUR),
        ("fail", fail, right, DEFECT_COLOUR),
    )
    for name, begin, end, colour in zones:
        axis.axvspan(begin, end, color=colour, alpha=0.10, linewidth=0)
        if end - begin > 0.07 * (right - left):
            style = {"color": colour, "ha": "center", "va": "top", "weight": "bold"}
            axis.text((begin + end) / 2, 0.97, name, transform=axis.get_xaxis_transform(), **style)  # type: ignore[arg-type]
    axis.axvline(review, color=INK, linestyle=":", linewidth=1.4)
    axis.axvline(fail, color=INK, linestyle="-", linewidth=1.4)


def loss_plot(curve: LossCurve) -> bytes:
    """Return the loss of a stage over its steps, with its running mean, as PNG."""
    figure = Figure(figsize=(4.6, 2.7), layout="constrained")
    axis = figure.subplots()
    steps, loss = np.asarray(curve.steps), np.asarray(curve.loss)
    axis.plot(steps, loss, color=GOOD_COLOUR, linewidth=0.8, alpha=0.35)
    axis.plot(steps, running_mean(loss), color=GOOD_COLOUR, linewidth=2)
    if len(loss) and loss.min() > 0 and loss.max() / loss.min() > 10:
        axis.set_yscale("log")
    axis.set(xlabel="step", ylabel="loss")
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.spines[["top", "right"]].set_visible(False)
    return as_png(figure)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each value with its neighbours, a tenth of the curve together."""
    reach = max(1, len(values) // 20)
    return np.array([values[max(0, at - reach) : at + reach + 1].mean() for at in range(len(values))])

"""What is found against the size, a small panel for each kind and a line for each contrast, as PNG."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from training.evaluation.plots import INK
from training.html_page import as_png
from training.sensitivity.choosing import CONTRASTS
from training.sensitivity.measure import CONFIDENCE, SHARE, Sensitivity, SensitivityLine
from training.sensitivity.planting import LINES

ABREAST = 4
LOOKS: dict[str, tuple[str, str, Literal[":", "--", "-"]]] = {
    "faint": ("#56B4E9", "o", ":"),
    "medium": ("#E69F00", "s", "--"),
    "strong": ("#7A1F5C", "^", "-"),
}
"""Colour, marker and line of each contrast: told apart without colour too."""
APART = 1.06
"""Between the bars of two contrasts at the same size, as a factor."""


def sensitivity_plot(found: Sensitivity) -> bytes:
    """Return the share of anomalies found against their size, with its lower bound as a bar, as PNG."""
    kinds = tuple(dict.fromkeys(line.kind for line in found.lines))
    across = min(ABREAST, len(kinds))
    down = -(-len(kinds) // across)
    figure = Figure(figsize=(0.6 + 3.1 * max(across, 2), 1.1 + 2.5 * down), layout="constrained")
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    for axis, kind in zip(axes.flat, kinds, strict=False):
        _panel(axis, kind, found)
    for axis in axes.flat[len(kinds) :]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel("found")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=style, label=f"{name} ({CONTRASTS[name][0]}–"
               f"{CONTRASTS[name][1]} grey levels)")
        for name, (colour, marker, style) in LOOKS.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.supxlabel(
        f"size in pixels of the originals; bars reach down to the {CONFIDENCE:.0%} lower bound; thin line: {SHARE:.0%}",
        fontsize=9,
        color=INK,
    )
    return as_png(figure)


def _panel(axis: Axes, kind: str, found: Sensitivity) -> None:
    new = found.learnt is not None and kind not in found.learnt
    axis.set_title(f"{kind}{' (not trained on)' if new else ''}", fontsize=10)
    middles = np.array(found.size_edges) * np.sqrt(2)
    axis.axhline(SHARE, color=INK, linewidth=0.6)
    for number, contrast in enumerate(CONTRASTS):
        line = next((one for one in found.lines if (one.kind, one.contrast) == (kind, contrast)), None)
        if line is not None:
            _draw(axis, line, middles * APART ** (number - 1))
    axis.set_xscale("log")
    axis.set(xlim=(found.size_edges[0] * 0.95, found.size_edges[-1] * 2.1), ylim=(-0.04, 1.06))
    axis.xaxis.set_major_locator(FixedLocator(list(found.size_edges)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel("length" if kind in LINES else "side of a square of its area", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _draw(axis: Axes, line: SensitivityLine, sizes: np.ndarray) -> None:
    there = [(size, count) for size, count in zip(sizes, line.by_size, strict=True) if count.anomalies]
    if not there:
        return
    colour, marker, style = LOOKS[line.contrast]
    at, shares = [size for size, _ in there], [count.share for _, count in there]
    below = [count.share - count.at_least for _, count in there]
    axis.errorbar(at, shares, yerr=[below, [0.0] * len(below)], color=colour, linewidth=0, elinewidth=0.8, alpha=0.6)
    axis.plot(at, shares, color=colour, marker=marker, linestyle=style, linewidth=1.4, markersize=4.5)

"""A shift in one picture: time to verdict by takt, and over the shift with the loss of a node marked."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from bench.plant.figures import PlantFigures, Times
from bench.plant.simulation import End, Shift, Story
from service.contract import State
from training.evaluation.plots import DEFECT_COLOUR, GOOD_COLOUR, INK, as_png

SLICES = 60


def plant_picture(found: PlantFigures, story: Story, shift: Shift) -> bytes:
    """PNG."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    _by_takt(left, found)
    _over_time(right, [end for end in story.ends if end.state is State.DONE], shift)
    figure.suptitle(f"{found.nodes} nodes, {found.images_per_s:.1f} images/s, device use {found.device_use:.0%}")
    return as_png(figure)


def _by_takt(axis: Axes, found: PlantFigures) -> None:
    names = [f"{takt.takt_s:g} s" for takt in found.takts]
    places = range(len(names))
    for name, marker in (("p50_s", "o"), ("p95_s", "s"), ("p99_s", "^")):
        values = [getattr(takt.times, name) for takt in found.takts]
        axis.plot(places, values, marker, color=GOOD_COLOUR, label=name.removesuffix("_s"), fillstyle="none")
    allowed = [takt.allowed_s for takt in found.takts]
    axis.plot(places, allowed, "_", color=DEFECT_COLOUR, markersize=24, markeredgewidth=2, label="allowed")
    axis.set_xticks(list(places), names)
    _log_seconds(axis)
    axis.set_xlabel("takt of the line")
    axis.set_ylabel("time to verdict, s")
    axis.legend(frameon=False)


def _over_time(axis: Axes, ends: Sequence[End], shift: Shift) -> None:
    width = shift.seconds / SLICES
    slices: list[list[End]] = [[] for _ in range(SLICES)]
    for end in ends:
        slices[min(SLICES - 1, int(end.part.at_s / width))].append(end)
    told = [(number * width, Times.of(own)) for number, own in enumerate(slices) if own]
    for name, style in (("p50_s", "-"), ("p99_s", ":")):
        values = [getattr(times, name) for _, times in told]
        axis.step([at for at, _ in told], values, style, color=GOOD_COLOUR, where="post", label=name.removesuffix("_s"))
    if shift.loss is not None:
        axis.axvspan(shift.loss.at_s, shift.loss.back_s, color=DEFECT_COLOUR, alpha=0.15, label="one node away")
    _log_seconds(axis)
    axis.set_xlabel("when the picture was taken, s")
    axis.set_ylabel("time to verdict, s", color=INK)
    axis.legend(frameon=False)


def _log_seconds(axis: Axes) -> None:
    """Plain numbers on a log scale."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.yaxis.set_minor_formatter(NullFormatter())

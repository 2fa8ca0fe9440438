"""The soak as a picture: how memory changed, and open files, a line per process."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from bench.endurance.soak import Report
from training.evaluation.plots import as_png


def soak_plot(found: Report, warm_up_s: float) -> bytes:
    """Own memory against its median after the warm-up, and open files, over time; PNG."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    levels = {judged.process: judged.trend.first for judged in found.judged if judged.what.startswith("memory")}
    for process in sorted({one.process for one in found.samples}):
        rows = [one for one in found.samples if one.process == process]
        minutes = _minutes([one.at_s for one in rows])
        label = f"{process}, {levels[process]:.0f} MiB"
        upper.plot(minutes, [one.memory_mib - levels[process] for one in rows], label=label, linewidth=1)
        lower.plot(minutes, [one.files for one in rows], label=process, linewidth=1)
    for axis in (upper, lower):
        axis.axvspan(0, warm_up_s / 60, color="0.92", zorder=0)
        axis.grid(color="0.9", linewidth=0.5)
    upper.set_ylim(-15, 30)
    upper.set_ylabel("own memory, change in MiB")
    lower.set_ylabel("open files")
    lower.set_xlabel("minutes; grey: not judged")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return as_png(figure)


def _minutes(seconds: Sequence[float]) -> list[float]:
    return [one / 60 for one in seconds]

"""The soak as a picture: memory over time, a line per process."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from bench.soak import Report
from training.plots import as_png


def soak_plot(found: Report) -> bytes:
    """Change of memory, and open files, since the end of the first minute; PNG."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for process in sorted({one.process for one in found.samples}):
        rows = [one for one in found.samples if one.process == process]
        minutes = [one.at_s / 60 for one in rows]
        upper.plot(minutes, [one.memory_mib for one in rows], label=process, linewidth=1)
        lower.plot(minutes, [one.files for one in rows], label=process, linewidth=1)
    redis = found.redis
    upper.plot(_minutes([one.at_s for one in redis]), [one.used_mib for one in redis], label="Redis, by INFO", ls=":")
    upper.set_yscale("log")
    upper.set_ylabel("own memory, MiB (log)")
    lower.set_ylabel("open files")
    lower.set_xlabel("minutes")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    return as_png(figure)


def _minutes(seconds: Sequence[float]) -> list[float]:
    return [one / 60 for one in seconds]

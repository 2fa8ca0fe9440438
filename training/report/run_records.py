"""What a report takes from a run's folder: the times and the curves of its stages. And the machine that it ran on."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median

import psutil
import torch

from training.finetune.curves import Row, read_curve
from training.report.contents import LossCurve, StageTime
from training.training_run import CURVES, read_records

POINTS = 200
"""A curve is thinned to at most so many."""


def read_stages(run: Path) -> tuple[StageTime, ...]:
    """Return the stages that have begun, in their order; none where nothing was recorded, or it cannot be read."""
    return tuple(StageTime(**asdict(record)) for record in read_records(run).values())


def read_curves(run: Path) -> tuple[LossCurve, ...]:
    """Return the curves of the loops, in the order in which they began."""
    begun = {name: place for place, name in enumerate(read_records(run))}
    files = sorted((run / CURVES).glob("*.csv"), key=lambda file: (begun.get(file.stem, len(begun)), file.name))
    return tuple(_curve(file.stem, rows) for file in files if (rows := read_curve(file)))


def _curve(stage: str, rows: Sequence[Row]) -> LossCurve:
    points = _thinned([(step, loss) for step, loss, *_ in rows])
    speeds = [speed for *_, speed, _ in rows if math.isfinite(speed)]
    return LossCurve(
        stage=stage,
        steps=tuple(step for step, _ in points),
        loss=tuple(loss for _, loss in points),
        images_per_s=median(speeds) if speeds else None,
    )


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the means of as many neighbours as it takes to have at most `POINTS`, each at its last step."""
    each = -(-len(points) // POINTS) or 1
    parts = [points[at : at + each] for at in range(0, len(points), each)]
    return [(part[-1][0], fmean(loss for _, loss in part)) for part in parts]


def machine_in_words() -> str:
    """Return the machine that this runs on, such as "2 cores, 24 GiB, no GPU, Linux x86_64"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cores} core{'' if cores == 1 else 's'}, {memory}, {gpu}, {platform.system()} {platform.machine()}"

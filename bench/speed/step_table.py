"""Step times, the measured seconds of each part of a worker's loop: the file that `glad bench steps` writes.

With them the closed arithmetic: the mean device seconds of an image, and the least number of workers.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from glad.settings import Frozen
from glad.settings.method import MethodSettings


class Clock(StrEnum):
    """The clock that step times were measured with."""

    WALL = "wall"
    THREAD = "thread"
    """The calling thread's time on a core: for a machine that others use as well, with one thread a call. What waits
    for a disk does not count."""


class StepTimes(Frozen):
    """Seconds of each part of a worker's loop, by the number of lanes that take part; all measured on one device."""

    device: str
    """cpu, cuda ..."""
    device_name: str
    """The name of a GPU; empty for a CPU."""
    engine: str
    """The engine that ran the models."""
    threads: int
    clock: Clock
    product: str
    version: str
    settings: MethodSettings
    encode_s: float = Field(gt=0)
    """Seconds to encode one image into a free lane."""
    denoise_s: tuple[float, ...] = Field(min_length=1)
    """Seconds of a step of 1, 2, ... lanes of which none compares."""
    compare_s: tuple[float, ...] = Field(min_length=1)
    """The additional seconds of a step of which all 1, 2, ... lanes compare."""
    finish_s: float = Field(gt=0)
    """Seconds to decode and score one finished lane."""
    decode_s: float = Field(ge=0)
    """Seconds of a codec thread to read an image file and frame it."""
    draw_s: float = Field(ge=0)
    """Seconds of a codec thread to draw and store an inspection's pictures."""
    load_s: float = Field(ge=0)
    """Seconds to load a bundle from the store as a worker does, hashes and choice of engine included."""
    image_bytes: int
    """Bytes of the image that was inspected."""
    artifact_bytes: int
    """Bytes of the pictures that were stored for it, without the image."""
    memory_gb: float | None = None
    """GPU memory of the loaded bundle and its calls, in 10^9 bytes; None on a CPU."""

    @model_validator(mode="after")
    def _every_count_is_there(self) -> Self:
        if len(self.denoise_s) != len(self.compare_s):
            raise ValueError(
                f"{len(self.denoise_s)} counts of denoise_s and {len(self.compare_s)} of compare_s: as many"
            )
        return self

    @property
    def lanes(self) -> int:
        """The most lanes that were measured together."""
        return len(self.denoise_s)

    def step_s(self, walking: int, comparing: int) -> float:
        """Return the seconds of one step of `walking` lanes, of which `comparing` compare.

        Raises:
            ValueError: if so many lanes were not measured.
        """
        if not 1 <= walking <= self.lanes or comparing > walking:
            raise ValueError(
                f"a step of {walking} lanes, {comparing} comparing, was not measured, only up to {self.lanes} lanes: "
                f"measure with `glad bench steps --lanes {walking}`"
            )
        return self.denoise_s[walking - 1] + (self.compare_s[comparing - 1] if comparing else 0.0)

    def slowed(self, factor: float) -> Self:
        """Return the times of a device that takes `factor` times as long for everything."""
        single = {
            name: getattr(self, name) * factor for name in ("encode_s", "finish_s", "decode_s", "draw_s", "load_s")
        }
        by_lanes = {
            name: tuple(seconds * factor for seconds in getattr(self, name)) for name in ("denoise_s", "compare_s")
        }
        return self.model_copy(update={**single, **by_lanes})

    def device_s(self, comparisons: float, together: int = 1) -> float:
        """Return the device seconds of one image with so many comparisons, among `together` lanes all the way."""
        steps = len(self.settings.grid)
        walked = steps * self.denoise_s[together - 1] + comparisons * self.compare_s[together - 1]
        return self.encode_s + walked / together + self.finish_s

    def alone_s(self, comparisons: int) -> float:
        """Return the seconds from claim to result on an idle worker that has the bundle at hand."""
        return self.decode_s + self.device_s(comparisons) + self.draw_s


@dataclass(frozen=True)
class ComparisonCounts:
    """Numbers of comparisons of measured images: at how many of its steps an image compares."""

    good: tuple[int, ...]
    defect: tuple[int, ...]

    @classmethod
    def most(cls, settings: MethodSettings) -> ComparisonCounts:
        """Return what an image without a difference costs, for every image: it compares until it is below t_min."""
        above = sum(step >= settings.t_min for step in settings.grid)
        most = min(above + 1, len(settings.grid)) if settings.trigger.delta > 0 else 0
        return cls((most,), (most,))

    def mean(self, defect_share: float) -> float:
        """Return the mean number of comparisons of an image."""
        return (1 - defect_share) * statistics.fmean(self.good) + defect_share * statistics.fmean(self.defect)

    def draw(self, rng: random.Random, defect_share: float) -> int:
        """Return the number of comparisons of one image."""
        return rng.choice(self.defect if rng.random() < defect_share else self.good)


def read_comparisons(path: Path, settings: MethodSettings) -> ComparisonCounts:
    """Return the counts of the images in a file that `glad evaluate --json` wrote.

    Raises:
        ValueError: if the file is something else, or has no good or no defective image.
        OSError: if it cannot be read.
    """
    counts: dict[bool, list[int]] = {True: [], False: []}
    try:
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            ended_at = row["denoising_step"]  # 0: it did not walk
            compared = sum(step >= ended_at for step in settings.grid) if ended_at else 0
            counts[row["defect"] == "good"].append(compared)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no evaluation ({error!r}): give what `glad evaluate --json` wrote") from error
    if not counts[True] or not counts[False]:
        raise ValueError(f"{path} needs good and defective images; it has {len(counts[True])} and {len(counts[False])}")
    return ComparisonCounts(tuple(counts[True]), tuple(counts[False]))


def mean_device_s(times: StepTimes, counts: ComparisonCounts, defect_share: float, together: int = 1) -> float:
    """Return the device seconds of a mean image that walks among `together` lanes."""
    return times.device_s(counts.mean(defect_share), together)


def least_workers(images_per_s: float, device_s: float, use: float = 1.0) -> int:
    """Return the least number of workers whose devices are busy for at most this share of the time."""
    return max(1, math.ceil(images_per_s * device_s / use - 1e-9))


def read_steps(path: Path) -> StepTimes:
    """Return the step times in a file that `glad bench steps --json` wrote.

    Raises:
        ValueError: if the file is something else.
        OSError: if it cannot be read.
    """
    try:
        return StepTimes.model_validate(json.loads(path.read_text(encoding="utf-8"))["figures"])
    except (KeyError, json.JSONDecodeError, ValidationError) as error:
        raise ValueError(f"{path} is no file of step times ({error}): make one with `glad bench steps`") from error

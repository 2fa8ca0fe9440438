"""What an image costs a worker, in measured seconds: the file that `glad bench steps` writes and the plant runs on."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from glad.settings import Frozen
from glad.settings.method import MethodSettings


class Clock(StrEnum):
    """What counts as time."""

    WALL = "wall"
    THREAD = "thread"
    """The calling thread's time on a core: for a machine that others use as well, with one thread a call. What waits
    for a disk does not count."""


class StepTimes(Frozen):
    """Seconds of each part of a worker's loop, by how many lanes take part. All measured on one device."""

    device: str
    """cpu, cuda ..."""
    device_name: str
    """Of a GPU; empty for a CPU."""
    engine: str
    """What ran the models."""
    threads: int
    clock: Clock
    product: str
    version: str
    settings: MethodSettings
    encode_s: float = Field(gt=0)
    """One image into a free lane."""
    denoise_s: tuple[float, ...] = Field(min_length=1)
    """A step of 1, 2, ... lanes of which none compares."""
    compare_s: tuple[float, ...] = Field(min_length=1)
    """What a step takes longer when all of its 1, 2, ... lanes compare."""
    finish_s: float = Field(gt=0)
    """One finished lane decoded and scored."""
    decode_s: float = Field(ge=0)
    """A codec thread reads an image file and frames it."""
    draw_s: float = Field(ge=0)
    """A codec thread draws and stores an inspection's pictures."""
    load_s: float = Field(ge=0)
    """A bundle from the store to models that are ready, as a worker loads it: hashes and choice of engine included."""
    image_bytes: int
    """Of the image that was inspected."""
    artifact_bytes: int
    """Of the pictures that were stored for it, the image not among them."""
    memory_gb: float | None = None
    """What the loaded bundle and its calls took of a GPU's memory; None on a CPU."""

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
        """One step of so many lanes, of which some compare. ValueError beyond what was measured."""
        if not 1 <= walking <= self.lanes or comparing > walking:
            raise ValueError(
                f"a step of {walking} lanes, {comparing} comparing, was not measured, only up to {self.lanes} lanes: "
                f"measure with `glad bench steps --lanes {walking}`"
            )
        return self.denoise_s[walking - 1] + (self.compare_s[comparing - 1] if comparing else 0.0)

    def device_s(self, comparisons: float, together: int = 1) -> float:
        """Device time of one image that compares so often, among `together` lanes all the way."""
        steps = len(self.settings.grid)
        walked = steps * self.denoise_s[together - 1] + comparisons * self.compare_s[together - 1]
        return self.encode_s + walked / together + self.finish_s

    def alone_s(self, comparisons: int) -> float:
        """From claim to result on an idle worker with the bundle at hand."""
        return self.decode_s + self.device_s(comparisons) + self.draw_s


def read_steps(path: Path) -> StepTimes:
    """Of a file that `glad bench steps --json` wrote. ValueError for another one, OSError."""
    try:
        return StepTimes.model_validate(json.loads(path.read_text(encoding="utf-8"))["figures"])
    except (KeyError, json.JSONDecodeError, ValidationError) as error:
        raise ValueError(f"{path} is no file of step times ({error}): make one with `glad bench steps`") from error

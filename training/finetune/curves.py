"""The course of a stage's training, as a table and, where it is installed, for TensorBoard."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_store.csv_lines import csv_line
from training.peak_memory import in_gib, used_memory_bytes
from training.training_run import CURVES, TENSORBOARD, StageError, TrainingRun

READ_EVERY_S = 0.5
COLUMNS = ("step", "loss", "learning_rate", "images_per_s", "memory_bytes")
Row = tuple[int, float, float, float, int]
"""One step, as `COLUMNS`."""


class CurveFile:
    """A table of steps that only grows, except that steps which are taken again replace those of before."""

    def __init__(self, path: Path, position: int) -> None:
        """Cut a table back to the steps before `position`, if there is one."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_curve(path) if row[0] < position]
        draft = path.with_suffix(".tmp")
        with draft.open("w", encoding="utf-8", newline="") as file:
            file.writelines(map(csv_line, [COLUMNS, *kept]))
        os.replace(draft, path)

    def append(self, rows: Iterable[Row]) -> None:
        """Add steps."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.writelines(map(csv_line, rows))


def read_curve(path: Path) -> list[Row]:
    """Return the steps of a table; a last line that was cut off is left out, and so is a table that is not there."""
    if not path.is_file():
        return []
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]:
        if line.endswith("\n"):
            step, loss, rate, speed, memory = line.strip().split(",")
            rows.append((int(step), float(loss), float(rate), float(speed), int(memory)))
    return rows


def lost_weights(stage: str, sign: str) -> StageError:
    """Return the error of a training that has run away, by the sign of it."""
    return StageError(
        f"stage {stage}: {sign}; the training is lost from there on, and the last checkpoint is from before. Choose a "
        'lower learning_rate, or "bf16" or "no" as training.precision'
    )


class TensorBoard:
    """What TensorBoard shows of a stage: scalars and pictures; nothing where it is not installed."""

    def __init__(self, folder: Path, position: int) -> None:
        """Begin, or go on at a step; what was written of later steps is hidden."""
        self._writer = _summary_writer(folder, position)

    @property
    def installed(self) -> bool:
        """Whether anything is written."""
        return self._writer is not None

    def scalars(self, rows: Sequence[Row]) -> None:
        """Write steps."""
        if self._writer is None:
            return
        for step, *values in rows:
            for name, value in zip(COLUMNS[1:], values, strict=True):
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """Write a picture (3, H, W) in [0, 1]."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step)

    def close(self) -> None:
        """Write what waits."""
        if self._writer is not None:
            self._writer.close()


class Course:
    """How a stage's training goes: each step's loss and speed, for the curve's file, TensorBoard and the bar."""

    def __init__(self, run: TrainingRun, name: str, position: int) -> None:
        """Begin, or go on at a step."""
        self._name = name
        self.average = math.nan
        """The running mean of the loss."""
        self._waiting: list[tuple[int, Tensor, float, int]] = []
        self._since = time.monotonic()
        self._speed, self._memory = math.nan, 0
        self._file = CurveFile(run.folder / CURVES / f"{name}.csv", position) if run.writes else None
        self._board = TensorBoard(run.folder / TENSORBOARD / name, position) if run.writes else None
        if self._board is not None and not self._board.installed:
            run.say_once(f"tensorboard is not installed: the curves are in {run.folder / CURVES} alone, as tables")

    def add(self, step: int, loss: Tensor, learning_rate: float, images: int) -> None:
        """Note a step; what it says is read from the device now and then, for reading waits for the device."""
        self._waiting.append((step, loss, learning_rate, images))
        if loss.device.type == "cpu" or time.monotonic() - self._since > READ_EVERY_S:
            self.flush()

    def pass_over(self, seconds: float) -> None:
        """Let a time since the last step, in which none was taken, count for no step's speed."""
        self._since += seconds

    def flush(self) -> None:
        """Read and write what waits."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        losses = torch.stack([loss for _, loss, _, _ in waiting]).tolist()
        now = time.monotonic()
        speed = sum(images for *_, images in waiting) / max(now - self._since, 1e-9)
        self._speed = speed if math.isnan(self._speed) else 0.9 * self._speed + 0.1 * speed
        self._since, self._memory = now, used_memory_bytes()
        rows = [
            (step, loss, rate, float(f"{speed:.4g}"), self._memory)
            for (step, _, rate, _), loss in zip(waiting, losses, strict=True)
        ]
        for step, loss, *_ in rows:
            self._check(step, loss)
            self.average = loss if math.isnan(self.average) else 0.98 * self.average + 0.02 * loss
        if self._file is not None:
            self._file.append(rows)
        if self._board is not None:
            self._board.scalars(rows)

    def _check(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise lost_weights(self._name, f"loss is {loss} at step {step}")

    @property
    def note(self) -> str:
        """What the bar says: loss, images per second, memory."""
        return f"loss {self.average:.4f}, {self._speed:.3g} images/s, {in_gib(self._memory)}"

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """Show a picture (3, H, W) in [0, 1] in TensorBoard."""
        if self._board is not None:
            self._board.picture(step, name, picture)

    def close(self) -> None:
        """Write what waits, and end."""
        self.flush()
        if self._board is not None:
            self._board.close()


def in_rows(*batches: Tensor, most: int = 4) -> Tensor:
    """Return the first images of batches (B, 3, H, W) in [-1, 1] as one picture in [0, 1], a row for each batch."""
    rows = [torch.cat(list(batch[:most].detach().float()), dim=-1) for batch in batches]
    return ((torch.cat(rows, dim=-2) + 1) / 2).clamp(0, 1).cpu()


def _summary_writer(folder: Path, position: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=position or None)

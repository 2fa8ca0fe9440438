"""The common part of every training loop: resuming, checkpoints, the learning rate's course, progress with time left.

A stage's randomness depends only on (seed, stage, step), so a resumed run draws what an unbroken one would have drawn.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch.optim import Optimizer

from training.progress import progress_bar


class Stateful(Protocol):
    """Anything that can be checkpointed."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@contextmanager
def interrupts_noted() -> Iterator[Event]:
    """Let the first Ctrl-C inside only set the event, so that no step is torn; a second one interrupts at once.

    Outside the main thread, where Python hears no signals, nothing changes.
    """
    noted = Event()
    if current_thread() is not main_thread():
        yield noted
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        noted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


class Stage:
    """Steps of one training loop: `for step in stage:` continues where an interrupted run stopped.

    Ctrl-C ends the loop after the step under way, with a checkpoint. After any other end the last checkpoint stands,
    and the steps since then are taken again, with the same numbers.
    """

    def __init__(
        self, folder: Path, name: str, steps: int, state: Mapping[str, Stateful], *, seed: int, every_s: float = 60.0
    ) -> None:
        """Load the stage's checkpoint, if there is one.

        Args:
            folder: the run's folder; holds `<name>.ckpt`.
            state: everything that a checkpoint holds, by name.
            every_s: seconds between checkpoints.
        """
        self.path = folder / f"{name}.ckpt"
        self.name, self.steps, self.state, self.seed, self.every_s = name, steps, state, seed, every_s
        self.average = math.nan
        self.position = 0
        if self.path.is_file():
            saved = torch.load(self.path, weights_only=True)
            for key, part in state.items():
                part.load_state_dict(saved[key])
            self.position = int(saved["position"])

    def __iter__(self) -> Iterator[int]:
        saved_at = time.monotonic()
        with progress_bar() as bar, interrupts_noted() as interrupted:
            task = bar.add_task(self.name, total=self.steps, completed=self.position, note="")
            while self.position < self.steps:
                yield self.position
                self.position += 1
                bar.update(task, completed=self.position, note=f"loss {self.average:.4f}")
                if interrupted.is_set():
                    self.save()
                    raise KeyboardInterrupt
                if time.monotonic() - saved_at > self.every_s:
                    self.save()
                    saved_at = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the previous one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        parts = {key: part.state_dict() for key, part in self.state.items()}
        torch.save({**parts, "position": self.position}, draft)
        os.replace(draft, self.path)

    def rng(self, step: int) -> np.random.Generator:
        """Return this step's own generator."""
        stream = np.random.SeedSequence([self.seed, int.from_bytes(self.name.encode()[:8], "big"), step])
        return np.random.Generator(np.random.Philox(stream))

    def generator(self, step: int) -> torch.Generator:
        """Return this step's own torch generator (CPU)."""
        return torch.Generator().manual_seed(int(self.rng(step).integers(2**62)))

    def learning_rate(self, step: int, peak: float, warmup: int = 100) -> float:
        """Return the rate at a step: linear warm-up, then a half cosine down to 2 % of the peak."""
        rise = min(1.0, (step + 1) / warmup)
        return peak * rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))

    def set_learning_rate(self, optimizer: Optimizer, step: int, peak: float) -> None:
        """Give the optimizer this step's learning rate."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(step, peak)

    def log(self, loss: float) -> None:
        """Note a step's loss; the bar shows its running mean."""
        self.average = loss if math.isnan(self.average) else 0.98 * self.average + 0.02 * loss

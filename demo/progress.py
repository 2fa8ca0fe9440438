"""What the demo shows while it works."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

EVERY_S = 5.0
"""How often a line is printed where it cannot be rewritten."""


@dataclass
class Stages:
    """A line for each stage, with the seconds since the start."""

    started: float = field(default_factory=time.monotonic)

    def __call__(self, text: str) -> None:
        print(f"[demo {self.seconds:5.0f} s] {text}", flush=True)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started


@dataclass
class DemoProgress:
    """How many results are in, and about how long the rest takes: one line on a terminal, else a line now and then."""

    total: int
    started: float = field(default_factory=time.monotonic)
    _shown: int = -1
    _shown_at: float = 0.0

    def show(self, done: int) -> None:
        """Prints the state, if there is news."""
        now = time.monotonic()
        terminal = sys.stdout.isatty()
        due = terminal or done == self.total or now - self._shown_at >= EVERY_S
        if done == self._shown or not due:
            return
        self._shown, self._shown_at = done, now
        lead = "\r" if terminal else ""
        end = "\n" if done == self.total or not terminal else ""
        print(f"{lead}{self.text(done, now - self.started)}", end=end, flush=True)

    def text(self, done: int, seconds: float) -> str:
        """The line: "   12 of 40 results, about 21 s left"."""
        line = f"{done:5} of {self.total} results"
        if 0 < done < self.total:
            line += f", about {seconds / done * (self.total - done):.0f} s left"
        return f"{line:<48}"

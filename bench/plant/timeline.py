"""Virtual time: what happens when, in order, without waiting."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass


class Timeline:
    """One clock for the whole plant, in seconds from 0. What is due at one moment happens in the order it was set."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._set = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """ValueError for a moment that has passed."""
        if when < self.now:
            raise ValueError(f"{when} s has passed; it is {self.now} s: nothing happens in the past")
        heapq.heappush(self._due, (when, self._set, action))
        self._set += 1

    def run(self, over: Callable[[], bool]) -> None:
        """Until it is over, or nothing is due any more."""
        while self._due and not over():
            self.now, _, action = heapq.heappop(self._due)
            action()


@dataclass
class LocalClock:
    """A node's own time within one round of its engine: ahead of the timeline by what the round has spent so far.

    A round claims at its beginning, so that nodes meet at the queue in the timeline's order; everything later in the
    round is the node's own affair.
    """

    now: float = 0.0

    def __call__(self) -> float:
        """As `time.perf_counter`."""
        return self.now

    def spend(self, seconds: float) -> None:
        """Work that takes so long."""
        self.now += seconds

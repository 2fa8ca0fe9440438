"""Is the worker alive? With lanes occupied: when the last step was completed; idle: when a claim was last answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pulse:
    """Written by the engine, read by the health port."""

    def __init__(
        self,
        stuck_after_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        """`leaving`: whether the worker was asked to stop."""
        self._stuck_after_s, self._clock, self._leaving = stuck_after_s, clock, leaving
        self._lock = threading.Lock()
        self._last = clock()
        self._lanes = 0
        self._ready = False

    def warm(self) -> None:
        """All models were called once: ready for jobs."""
        with self._lock:
            self._ready, self._last = True, self._clock()

    def warming(self) -> None:
        """A part of the warm-up is done."""
        with self._lock:
            self._last = self._clock()

    def claim_answered(self) -> None:
        """Redis answered a claim, with jobs or without."""
        with self._lock:
            if not self._lanes:
                self._last = self._clock()

    def step_completed(self, lanes: int) -> None:
        """The device completed a step of so many lanes."""
        with self._lock:
            self._last, self._lanes = self._clock(), lanes

    def nobody_walks(self) -> None:
        """No lane is occupied."""
        with self._lock:
            if self._lanes:
                self._last, self._lanes = self._clock(), 0

    def ready(self) -> bool:
        """The warm-up is over, and the end has not begun: jobs are taken."""
        with self._lock:
            return self._ready and not self._leaving()

    @property
    def lanes(self) -> int:
        """Lanes of the last step; 0 when idle."""
        with self._lock:
            return self._lanes

    @property
    def stuck_after_s(self) -> float:
        """Beyond this age it is not alive."""
        return self._stuck_after_s

    @property
    def age_s(self) -> float:
        """Seconds since the last sign of life."""
        with self._lock:
            return self._clock() - self._last

    @property
    def status(self) -> str:
        """What the health port says."""
        return f"last sign of life {self.age_s:.1f} s ago, {self.lanes} lanes occupied"

    def alive(self) -> bool:
        """There was a sign of life lately."""
        return self.age_s < self._stuck_after_s

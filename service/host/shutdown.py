"""How a process is asked to stop: once, to finish what it has begun; twice, or too long ago, to leave it at once."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

LOOK_AGAIN_S = 1.0
"""A signal that comes just before a thread begins to sleep does not wake it: it looks again so soon."""


class Shutdown:
    """Counts the requests. Safe to call from signal handlers and threads."""

    def __init__(self, drain_s: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        """`drain_s`: how long finishing may take."""
        self._changed = threading.Condition()  # reentrant: a signal may come while this very thread holds it
        self._asked, self._over_at = 0, math.inf
        self._drain_s, self._clock = drain_s, clock

    def ask(self) -> None:
        """Once: drain. Again: now."""
        with self._changed:
            if not self._asked:
                self._over_at = self._clock() + self._drain_s
            self._asked += 1
            self._changed.notify_all()

    def draining(self) -> bool:
        """Take nothing new; finish."""
        return self._asked > 0

    def at_once(self) -> bool:
        """Hand back."""
        return self._asked > 1 or self._clock() >= self._over_at

    def wait(self, seconds: float) -> None:
        """Sleeps, unless asked to stop."""
        until = time.monotonic() + seconds
        while not self.draining() and (left_s := until - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait(min(left_s, LOOK_AGAIN_S))

    @contextmanager
    def on_signals(self, *more: signal.Signals) -> Iterator[None]:
        """SIGTERM, SIGINT and `more` ask; afterwards they do what they did before."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.ask()

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT, *more)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

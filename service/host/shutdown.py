"""How a process is asked to stop: the first request lets it finish, a second one or the time limit ends it."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

RECHECK_S = 1.0
"""A signal that arrives just before a thread goes to sleep does not wake it: it checks again after this time."""


class Shutdown:
    """Stop requests of one process. Safe to use from signal handlers and from several threads."""

    def __init__(self, drain_s: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without a request.

        Args:
            drain_s: how long finishing may take after the first request, in seconds.
        """
        # A Condition's own lock is reentrant: a signal may arrive while this very thread holds it.
        self._changed = threading.Condition()
        self._requests, self._drain_until = 0, math.inf
        self._drain_s, self._clock = drain_s, clock

    def request(self) -> None:
        """Request a stop: the first call starts the drain, a further call ends it at once."""
        with self._changed:
            if not self._requests:
                self._drain_until = self._clock() + self._drain_s
            self._requests += 1
            self._changed.notify_all()

    def draining(self) -> bool:
        """Return whether a stop was requested: take no new work, finish what has begun."""
        return self._requests > 0

    def must_stop_now(self) -> bool:
        """Return whether unfinished work must be handed back: a second request came, or the drain took too long."""
        return self._requests > 1 or self._clock() >= self._drain_until

    def wait(self, seconds: float) -> None:
        """Sleep for this long, or until a stop is requested."""
        until = time.monotonic() + seconds
        while not self.draining() and (left_s := until - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait(min(left_s, RECHECK_S))

    @contextmanager
    def on_signals(self, *more: signal.Signals) -> Iterator[None]:
        """Request a stop on SIGTERM, SIGINT and the signals in `more`; restore their handlers afterwards."""

        def handle(number: int, frame: FrameType | None) -> None:
            self.request()

        previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT, *more)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

"""How a worker is asked to stop: once, to finish what it has begun; twice, to hand it back at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Counts the requests. Safe to call from signal handlers and threads."""

    def __init__(self) -> None:
        self._drain, self._now = threading.Event(), threading.Event()

    def ask(self) -> None:
        """Once: drain. Again: now."""
        if self._drain.is_set():
            self._now.set()
        self._drain.set()

    def draining(self) -> bool:
        """Take nothing new; finish."""
        return self._drain.is_set()

    def at_once(self) -> bool:
        """Hand back."""
        return self._now.is_set()

    def wait(self, seconds: float) -> None:
        """Sleeps, unless asked to stop."""
        self._drain.wait(seconds)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask; afterwards they do what they did before."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.ask()

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

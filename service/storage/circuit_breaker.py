"""A store that does not answer is asked by one caller at a time: the others would only wait, each with a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REST_S = 5.0
"""How long nobody asks, after one who got no answer."""


class CircuitBreaker:
    """Remembers that calls got no answer in time. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that only grow."""
        self._clock, self._lock = clock, threading.Lock()
        self._silent = self._asking = False
        self._until = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """A call. TimeoutError at once while the last one got no answer, but for one caller after each rest."""
        asks = self._begin()
        try:
            yield
        except TimeoutError:
            self._end(asks, silent=True)
            raise
        except BaseException:
            self._end(asks, silent=False)  # a refusal is an answer
            raise
        self._end(asks, silent=False)

    def _begin(self) -> bool:
        with self._lock:
            if not self._silent:
                return False
            if self._asking or self._clock() < self._until:
                raise TimeoutError("it did not answer lately, and is asked again in a moment")
            self._asking = True
            return True

    def _end(self, asks: bool, *, silent: bool) -> None:
        with self._lock:
            self._asking = self._asking and not asks
            if silent:
                self._silent, self._until = True, self._clock() + REST_S
            elif asks:
                self._silent = False

"""Label values that clients choose, bounded: a typing error per image must not become a time series per image."""

from __future__ import annotations

import threading

MOST_STATIONS = 128
NONE = "none"
"""No value was given."""
OTHER = "other"
"""One more than are told apart."""


class Bounded:
    """The first so many values as they are; every later one is `other`. Safe to use from several threads."""

    def __init__(self, most: int = MOST_STATIONS) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def label(self, value: str | None) -> str:
        """What stands for this value in a label."""
        if value is None:
            return NONE
        with self._lock:
            if value in self._seen or len(self._seen) < self._most:
                self._seen.add(value)
                return value
            return OTHER

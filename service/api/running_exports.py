"""How many exports of reviewed images a process sends at a time. In a file of its own: routes and services need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import TooManyExports

MOST_EXPORTS = 4
"""Each reads images for as long as its client takes them."""


class RunningExports:
    """The exports that are sent now."""

    def __init__(self) -> None:
        self._running = 0

    @contextmanager
    def running(self, retry_after_s: int) -> Iterator[None]:
        """Count as one while the context lasts.

        Raises:
            TooManyExports: if there are `MOST_EXPORTS` already.
        """
        if self._running >= MOST_EXPORTS:
            raise TooManyExports(
                f"{self._running} exports of reviewed images are sent; the limit is {MOST_EXPORTS}: try again when one "
                "has ended",
                retry_after_s=retry_after_s,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

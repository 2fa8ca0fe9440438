"""How many bytes of images this process holds now, of all clients together: they cannot fill its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import TooManyUploads


class Held:
    """The bytes of all bodies that are coming, or whose requests are being answered. For one event loop."""

    def __init__(self, most: int, *, retry_after_s: int) -> None:
        self._most, self._retry_after_s = most, retry_after_s
        self._bytes = 0

    def take(self, count: int) -> None:
        """So many bytes more are held. TooManyUploads: there is no room for them, and they are not counted."""
        if self._bytes + count > self._most:
            raise TooManyUploads(
                f"{self._bytes} bytes of images are being taken now; the limit is {self._most}: send it again later, "
                "or raise GLAD_MAX_HELD_BYTES",
                retry_after_s=self._retry_after_s,
            )
        self._bytes += count

    def give_back(self, count: int) -> None:
        """So many bytes are held no longer."""
        self._bytes -= count

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """So many bytes more are held inside. TooManyUploads."""
        self.take(count)
        try:
            yield
        finally:
            self.give_back(count)

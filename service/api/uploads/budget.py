"""How many bytes of bodies and answers a process holds at a time, of all requests together and of one caller."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from service.errors import TooManyUploads


class UploadBudget:
    """Limits how many bytes of requests and their answers the process holds. For threads.

    Bodies count from their first byte until their request is answered.
    """

    def __init__(self, max_bytes: int, share_bytes: int, *, retry_after_s: int) -> None:
        """Start with nothing held.

        Args:
            max_bytes: limit of all requests together.
            share_bytes: limit of the requests of one API key, so that a key alone cannot stop the others.
            retry_after_s: what a refused caller is told.
        """
        self._max_bytes, self._share_bytes, self._retry_after_s = max_bytes, share_bytes, retry_after_s
        self._lock = threading.Lock()
        self._bytes = 0
        self._bytes_of: Counter[str] = Counter()

    def open(self, key_id: str) -> HeldBytes:
        """Return the account of one request; `key_id` is that of its API key, "" without one."""
        return HeldBytes(self, key_id)

    def add(self, key_id: str, count: int) -> None:
        """Count so many bytes more; fewer if `count` is negative.

        Raises:
            TooManyUploads: if they would exceed a limit; then they are not counted.
        """
        with self._lock:
            if count > 0:
                self._check(key_id, count)
            self._bytes += count
            if key_id:
                self._bytes_of[key_id] += count
                if not self._bytes_of[key_id]:
                    del self._bytes_of[key_id]

    def _check(self, key_id: str, count: int) -> None:
        if self._bytes + count > self._max_bytes:
            raise TooManyUploads(
                f"the service holds {self._bytes} bytes of images and answers now; the limit is {self._max_bytes}: "
                "send it again later, or raise GLAD_MAX_HELD_BYTES",
                retry_after_s=self._retry_after_s,
            )
        if key_id and self._bytes_of[key_id] + count > self._share_bytes:
            raise TooManyUploads(
                f"the service holds {self._bytes_of[key_id]} bytes of images and answers for this API key now; the "
                f"limit of one key is {self._share_bytes}: send it again later, give each camera a key of its own, or "
                "raise GLAD_MAX_HELD_BYTES",
                retry_after_s=self._retry_after_s,
            )


class HeldBytes:
    """A context manager: what is held for one request; all of it is given back at its end."""

    def __init__(self, budget: UploadBudget, key_id: str) -> None:
        self._budget, self._key_id = budget, key_id
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release(self._held)

    def reserve(self, count: int) -> None:
        """Count so many bytes more.

        Raises:
            TooManyUploads: if they would exceed a limit; then they are not counted.
        """
        self._budget.add(self._key_id, count)
        self._held += count

    def release(self, count: int) -> None:
        """Count so many bytes less."""
        self._budget.add(self._key_id, -count)
        self._held -= count

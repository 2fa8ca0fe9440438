"""How many exports of reviewed images a process sends at a time. In a file of its own: routes and services need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import TooManyExports

MOST_EXPORTS = 4
"""Each reads images for as long as its client takes them."""
MOST_EXPORTS_OF_KEY = MOST_EXPORTS // 2


class RunningExports:
    """The exports that are sent now."""

    def __init__(self) -> None:
        self._of_key = Counter[str]()

    @contextmanager
    def running(self, key: str, retry_after_s: int) -> Iterator[None]:
        """Count as one while the context lasts.

        Args:
            key: the id of the caller's API key; empty: calls need none, and share all places.
            retry_after_s: for the caller who is refused.

        Raises:
            TooManyExports: if there are `MOST_EXPORTS` already, or half of them of this key: the others need some, too.
        """
        if key and self._of_key[key] >= MOST_EXPORTS_OF_KEY:
            raise TooManyExports(
                f"{MOST_EXPORTS_OF_KEY} exports of reviewed images are sent to API key {key}, half of the "
                f"{MOST_EXPORTS} that are sent at a time: try again when one has ended, or give the others a key of "
                "their own",
                retry_after_s=retry_after_s,
            )
        if self._of_key.total() >= MOST_EXPORTS:
            raise TooManyExports(
                f"{self._of_key.total()} exports of reviewed images are sent; the limit is {MOST_EXPORTS}: try again "
                "when one has ended",
                retry_after_s=retry_after_s,
            )
        self._of_key[key] += 1
        try:
            yield
        finally:
            self._of_key[key] -= 1
            self._of_key += Counter()  # a key without an export is forgotten

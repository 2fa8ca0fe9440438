"""The accepted images and how they ended: each must end, once, and leave nothing in the queue."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import RedisError

from service.contract import BundleId, Priority, Result
from service.queue import keys

Ends = Mapping[str, Sequence[float]]
"""Inspection -> the times of its events, seconds since 1970."""


class Ledger:
    """The accepted inspections, written by cameras, and their ends, written by a thread."""

    def __init__(self, client: redis.Redis, pool: str = "default") -> None:
        self._client, self._pool = client, keys.PoolKeys(pool)
        self.accepted: dict[str, int] = {}
        """Inspection -> which image."""
        self._pinned: dict[str, BundleId | None] = {}
        self.ends: dict[str, list[float]] = {}
        self._over = threading.Event()

    def accept(self, answer: Result, image: int) -> None:
        """Note that the service has accepted this image."""
        self.accepted[answer.id] = image
        self._pinned[answer.id] = answer.bundle

    @contextmanager
    def following(self) -> Iterator[None]:
        """Note every event while the block lasts."""
        follower = threading.Thread(target=self._follow, name="events", daemon=True)
        follower.start()
        try:
            yield
        finally:
            self._over.set()
            follower.join()

    def _follow(self) -> None:
        """Read events, again and again where Redis does not answer."""
        last = "0"
        while not self._over.is_set():
            try:
                rows: Any = self._client.xread({keys.EVENTS: last}, count=500, block=500)
            except (RedisError, OSError):
                time.sleep(0.1)
                continue
            for _, entries in rows or ():
                for entry, fields in entries:
                    last = entry
                    self.ends.setdefault(fields["id"], []).append(int(entry.split("-")[0]) / 1000)

    @property
    def all_ended(self) -> bool:
        """Whether no accepted inspection is under way."""
        return len(self.ends) >= len(self.accepted)

    @property
    def lost(self) -> int:
        """Number of inspections that were accepted and never ended."""
        return len(self.accepted.keys() - self.ends.keys())

    @property
    def double(self) -> int:
        """Number of inspections that ended more than once, or were never accepted."""
        again = sum(len(times) > 1 for times in self.ends.values())
        return again + len(self.ends.keys() - self.accepted.keys())

    def results(self) -> list[Result]:
        """Return the accepted inspections' results, where they have one."""
        found: list[Result] = []
        for inspection_id in self.accepted:
            text: Any = self._client.hget(keys.inspection(inspection_id), "result")
            if text is not None:
                found.append(Result.model_validate_json(text))
        return found

    def left_in_queue(self) -> int:
        """Return the number of entries, leases, suspects and returned jobs in the queue."""
        pool, client = self._pool, self._client
        streams: Any = [client.xlen(pool.jobs(priority)) for priority in Priority]
        sets: Any = [client.zcard(key) for key in (pool.leases, pool.suspects, *map(pool.returned, Priority))]
        return int(sum(streams) + sum(sets))

    def unfinished(self, serial: str) -> bool:
        """Return whether an inspection of this part is accepted and has not ended."""
        return bool(self._client.scard(keys.unfinished(serial)))

    def suspected(self) -> int:
        """Return the number of accepted inspections whose worker was taken for dead."""
        return sum(bool(self._client.hget(keys.inspection(one), "suspect")) for one in self.accepted)

    def repinned(self, results: Sequence[Result]) -> int:
        """Return the number of inspections by another bundle than the one named at acceptance."""
        return sum(one.bundle != self._pinned[one.id] for one in results)

    def widest_score_spread(self, results: Sequence[Result]) -> float:
        """Return the largest relative difference of two scores of one image by one bundle."""
        scores: dict[tuple[int, BundleId | None], list[float]] = {}
        for one in results:
            if one.score is not None:
                scores.setdefault((self.accepted[one.id], one.bundle), []).append(one.score)
        return max(map(_spread, scores.values()), default=0.0)


def _spread(scores: Sequence[float]) -> float:
    middle = statistics.median(scores)
    return (max(scores) - min(scores)) / abs(middle) if middle else 0.0

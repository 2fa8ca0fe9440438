"""What was accepted and what became of it: each must end, once, and leave nothing in the queue."""

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
    """Cameras write what was accepted, a thread what ended."""

    def __init__(self, client: redis.Redis, pool: str = "default") -> None:
        self._client, self._pool = client, keys.PoolKeys(pool)
        self.accepted: dict[str, int] = {}
        """Inspection -> which image."""
        self._pinned: dict[str, BundleId | None] = {}
        self.ends: dict[str, list[float]] = {}
        self._over = threading.Event()

    def accept(self, answer: Result, image: int) -> None:
        """The service has taken this image, and said so."""
        self.accepted[answer.id] = image
        self._pinned[answer.id] = answer.bundle

    @contextmanager
    def following(self) -> Iterator[None]:
        """While it lasts, every event is noted."""
        follower = threading.Thread(target=self._follow, name="events", daemon=True)
        follower.start()
        try:
            yield
        finally:
            self._over.set()
            follower.join()

    def _follow(self) -> None:
        """What Redis does not answer is asked again."""
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
        """Nothing accepted is under way."""
        return len(self.ends) >= len(self.accepted)

    @property
    def lost(self) -> int:
        """Accepted, and never ended."""
        return len(self.accepted.keys() - self.ends.keys())

    @property
    def double(self) -> int:
        """Ended more than once, or never accepted."""
        again = sum(len(times) > 1 for times in self.ends.values())
        return again + len(self.ends.keys() - self.accepted.keys())

    def results(self) -> list[Result]:
        """The accepted inspections' results, as far as they have one."""
        found: list[Result] = []
        for inspection_id in self.accepted:
            text: Any = self._client.hget(keys.inspection(inspection_id), "result")
            if text is not None:
                found.append(Result.model_validate_json(text))
        return found

    def left_in_queue(self) -> int:
        """Entries, leases, suspects and handed-back jobs."""
        pool, client = self._pool, self._client
        streams: Any = [client.xlen(pool.jobs(priority)) for priority in Priority]
        sets: Any = [client.zcard(key) for key in (pool.leases, pool.suspects, *map(pool.returned, Priority))]
        return int(sum(streams) + sum(sets))

    def unfinished(self, serial: str) -> bool:
        """Something of this part is accepted and has not ended."""
        return bool(self._client.scard(keys.unfinished(serial)))

    def suspected(self) -> int:
        """Accepted inspections whose worker was taken for dead."""
        return sum(bool(self._client.hget(keys.inspection(one), "suspect")) for one in self.accepted)

    def repinned(self, results: Sequence[Result]) -> int:
        """Inspected by another bundle than the one that was told at acceptance."""
        return sum(one.bundle != self._pinned[one.id] for one in results)

    def widest_score_spread(self, results: Sequence[Result]) -> float:
        """The largest relative difference of two scores of one image by one bundle."""
        scores: dict[tuple[int, BundleId | None], list[float]] = {}
        for one in results:
            if one.score is not None:
                scores.setdefault((self.accepted[one.id], one.bundle), []).append(one.score)
        return max(map(_spread, scores.values()), default=0.0)


def _spread(scores: Sequence[float]) -> float:
    middle = statistics.median(scores)
    return (max(scores) - min(scores)) / abs(middle) if middle else 0.0

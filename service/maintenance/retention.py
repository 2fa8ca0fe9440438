"""Which stored files go, and when: the too old, the oldest when there are too many bytes, and orphans.

An orphan is an image that no inspection knows: a submission failed halfway, or its process was killed. What is queued
or running is never touched, nor is what came within the last hour: its submission may still be under way. An image of
more than a day ago is no orphan: its inspection may have ended without pictures, and its result be kept no more. One
process sweeps at a time, whoever comes first; the others pass.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast

import redis
import structlog
from redis.exceptions import LockError

from service.contract import FINAL_STATES, IMAGE
from service.queue import keys
from service.storage.artifacts import ArtifactStore, ArtifactsUnavailable, Kept

LOCK_S = 60.0
"""A sweeper that dies makes room after so long."""
BATCH = 500
MOST_FAILED = 20
"""So many removals that fail, one after the other, are no longer the fault of single files."""
DAY_S = 86_400

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ArtifactLimits:
    """How long, and how much."""

    max_age_s: float
    max_bytes: int | None = None
    young_s: float = 3600.0
    """Never touched: their submission may be under way."""
    known_s: float = DAY_S
    """So long after its acceptance Redis knows every inspection."""


@dataclass(frozen=True)
class Swept:
    """What one sweep removed."""

    too_old: int = 0
    too_many: int = 0
    orphans: int = 0
    bytes: int = 0


@dataclass
class _Sweep:
    """One sweep under way."""

    now_ms: float
    born_ms: float
    letters: frozenset[str]
    lock: Any
    held_at: float
    """When the lock was prolonged, by the sweeper's clock."""
    removed: Counter[str] = field(default_factory=Counter)
    """Inspections by reason, and bytes in all."""
    failed: int = 0
    """Removals that failed since the last one that did not."""


class Sweeper:
    """Sweeps one artifact store. Blocks: call it in a thread."""

    def __init__(
        self,
        client: redis.Redis,
        artifacts: ArtifactStore,
        limits: ArtifactLimits,
        *,
        every_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`every_s`: for so long after a sweep nobody begins another. `clock`: seconds that only grow."""
        self._redis, self._artifacts, self._limits, self._every_s = client, artifacts, limits, every_s
        self._clock = clock
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends a sweep under way soon; what is left is swept the next time."""
        self._stopping.set()

    def sweep(self) -> Swept | None:
        """Removes what may go; None: somebody else sweeps, or has lately. RedisError, ArtifactsUnavailable: try later;
        nothing is removed of which Redis did not say that it has ended."""
        lock = self._redis.lock(keys.SWEEPER, timeout=LOCK_S, blocking=False, thread_local=False)
        if not lock.acquire():
            return None
        try:
            swept = self._sweep(lock)
            lock.extend(self._every_s, replace_ttl=True)
        except LockError:
            log.warning("sweep ended early: another process sweeps")
            return None
        return swept

    def _sweep(self, lock: Any) -> Swept:
        now_ms = self._now_ms()
        self._redis.set(keys.BORN, round(now_ms), nx=True)
        born_ms = float(cast(str, self._redis.get(keys.BORN)))
        sweep = _Sweep(now_ms, born_ms, self._dead_letters(), lock, self._clock())
        staying = sum(self._sweep_batch(sweep, batch) for batch in self._batches(sweep))
        if self._limits.max_bytes is not None:
            self._remove_oldest(sweep, staying - self._limits.max_bytes)
        return _told(sweep)

    def _batches(self, sweep: _Sweep) -> Iterator[list[Kept]]:
        """Of the days that may hold something to remove."""
        for day in (day for day in self._artifacts.days() if self._concerns(sweep, day)):
            found = self._artifacts.kept(day)
            while batch := list(islice(found, BATCH)):
                if self._stopping.is_set():
                    return
                self._hold(sweep)
                yield batch

    def _concerns(self, sweep: _Sweep, day: str) -> bool:
        """Some of its inspections may be too old, or orphans, or all bytes count."""
        oldest_s = sweep.now_ms / 1000 - datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
        may_be_orphans = oldest_s - DAY_S < self._limits.known_s
        return self._limits.max_bytes is not None or oldest_s > self._limits.max_age_s or may_be_orphans

    def _hold(self, sweep: _Sweep) -> None:
        """LockError: somebody else sweeps by now, or a backup is made."""
        sweep.lock.extend(LOCK_S, replace_ttl=True)
        sweep.held_at = self._clock()

    def _sweep_batch(self, sweep: _Sweep, batch: Sequence[Kept]) -> int:
        """Removes the old and the orphans of these; returns the bytes of what stays for now."""
        stays = 0
        for one, state in zip(batch, self._states(batch), strict=True):
            age_s = (sweep.now_ms - one.at_ms) / 1000
            if age_s < self._limits.young_s or (state is not None and state not in FINAL_STATES):
                stays += one.bytes
            elif age_s > self._limits.max_age_s:
                self._remove(sweep, "old", one)
            elif state is None and age_s < self._limits.known_s and _is_orphan(sweep, one):
                self._remove(sweep, "orphan", one)
            else:
                stays += one.bytes
        return stays

    def _remove_oldest(self, sweep: _Sweep, excess: int) -> None:
        """Looks through all once more, from the oldest: to remember what stayed would take memory by the million."""
        for batch in self._batches(sweep):
            for one, state in zip(batch, self._states(batch), strict=True):
                if excess <= 0 or sweep.now_ms - one.at_ms < self._limits.young_s * 1000:
                    return
                if (state is None or state in FINAL_STATES) and self._remove(sweep, "many", one):
                    excess -= one.bytes

    def _remove(self, sweep: _Sweep, why: str, one: Kept) -> bool:
        """False: it could not be removed now. What concerns single files must not keep all the others."""
        if self._clock() - sweep.held_at > LOCK_S / 3:
            self._hold(sweep)
        try:
            self._artifacts.remove_inspection(one.inspection_id)
        except ArtifactsUnavailable as error:
            sweep.failed += 1
            if sweep.failed >= MOST_FAILED:
                raise
            log.warning("artifacts not removed", inspection_id=one.inspection_id, error=str(error))
            return False
        sweep.removed.update({why: 1, "bytes": one.bytes})
        sweep.failed = 0
        return True

    def _states(self, batch: Sequence[Kept]) -> list[str | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for one in batch:
                pipe.hget(keys.inspection(one.inspection_id), "state")
            return cast("list[str | None]", pipe.execute())

    def _dead_letters(self) -> frozenset[str]:
        streams = list(self._redis.scan_iter(match=f"{keys.DEAD_PREFIX}*"))
        rows: list[Any] = [row for stream in streams for row in cast("Any", self._redis.xrange(stream))]
        return frozenset(fields.get("id", "") for _, fields in rows)

    def _now_ms(self) -> float:
        seconds, micros = cast("Any", self._redis.time())
        return float(seconds * 1000 + micros / 1000)


def _is_orphan(sweep: _Sweep, one: Kept) -> bool:
    """Nothing but an image, and no letter names it. Not if it is older than this Redis: one that was set up anew, or
    restored from a backup, must not take the images of its predecessor for orphans."""
    whole = {name for name in one.names if name[0] != "."}  # the others are half written
    return whole <= {IMAGE} and one.at_ms > sweep.born_ms and one.inspection_id not in sweep.letters


def _told(sweep: _Sweep) -> Swept:
    removed = sweep.removed
    return Swept(too_old=removed["old"], too_many=removed["many"], orphans=removed["orphan"], bytes=removed["bytes"])

"""Retention of stored images and pictures: a sweep removes the too old, the oldest beyond the byte limit, and orphans.

Ages are by Redis's clock: of an inspection since its acceptance, and of what no inspection knows since its id was made.
An orphan is an image that no inspection knows: a submission failed halfway, or its process was killed. Images of queued
or running inspections are never touched, nor are those of the last hour: their submission may still be under way. An
image of more than a day ago is no orphan: its inspection may have ended without pictures, and its result may have
expired. Every API process runs the background task; a lock in Redis lets one of them sweep at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast

import redis
import structlog
from redis.exceptions import LockError, RedisError

from service.contract import FINAL_STATES, IMAGE
from service.queue import keys
from service.queue.connection import connect
from service.queue.results import ACCEPTANCE_FIELDS, acceptance
from service.settings import Settings
from service.storage.artifacts import ArtifactStore, ArtifactsUnavailable, StoredInspection
from service.storage.bounded import ask_in_thread

LOCK_S = 60.0
"""The lock of a sweeper that dies expires after this time."""
BATCH = 500
LAST_BATCH_S = 15.0
"""What a sweep may take to end at a stop; one that takes longer hangs, and ends with its process."""
MOST_FAILED = 20
"""After this many failed removals in a row the store is to blame, not single files."""
DAY_S = 86_400

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ArtifactLimits:
    """Limits of age and size of what is stored."""

    max_age_s: float
    max_bytes: int | None = None
    young_s: float = 3600.0
    """Younger ones are never touched: their submission may be under way."""
    known_s: float = DAY_S
    """For this long after its acceptance Redis knows every inspection."""


@dataclass(frozen=True)
class Swept:
    """Inspections that one sweep removed, by reason, and their bytes."""

    too_old: int = 0
    too_many: int = 0
    orphans: int = 0
    bytes: int = 0


@dataclass
class _Sweep:
    """State of a sweep under way."""

    now_ms: float
    redis_since_ms: float
    dead_letters: frozenset[str]
    lock: Any
    extended_at: float
    """Time at which the lock was last extended, by the sweeper's clock."""
    removed: Counter[str] = field(default_factory=Counter)
    """Inspections by reason, and bytes in all."""
    failed: int = 0
    """Removals that failed since the last successful one."""


class Sweeper:
    """Sweeps an artifact store. Blocks: call it in a thread."""

    def __init__(
        self,
        client: redis.Redis,
        artifacts: ArtifactStore,
        limits: ArtifactLimits,
        *,
        every_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        every_s: no process begins another sweep for this long after one.
        clock: seconds that only grow.
        """
        self._redis, self._artifacts, self._limits, self._every_s = client, artifacts, limits, every_s
        self._clock = clock
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End a sweep under way soon; the next sweep removes the rest."""
        self._stopping.set()

    def sweep(self) -> Swept | None:
        """Remove what may go; return None if another process sweeps now, or did lately.

        Nothing is removed unless Redis says that its inspection has ended.

        Raises:
            RedisError, ArtifactsUnavailable: try again later.
        """
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
        redis_since_ms = float(cast(str, self._redis.get(keys.BORN)))
        sweep = _Sweep(now_ms, redis_since_ms, self._dead_letters(), lock, self._clock())
        staying = sum(self._sweep_batch(sweep, batch) for batch in self._batches(sweep))
        if self._limits.max_bytes is not None:
            self._remove_oldest(sweep, staying - self._limits.max_bytes)
        return _report(sweep)

    def _batches(self, sweep: _Sweep) -> Iterator[list[StoredInspection]]:
        """Yield batches of the days that may have something to remove."""
        for day in (day for day in self._artifacts.days() if self._may_remove_from(sweep, day)):
            inspections = self._artifacts.inspections(day)
            while batch := list(islice(inspections, BATCH)):
                if self._stopping.is_set():
                    return
                self._extend_lock(sweep)
                yield batch

    def _may_remove_from(self, sweep: _Sweep, day: str) -> bool:
        """Return whether inspections of the day may be too old or orphans, or a byte limit counts them all."""
        oldest_s = sweep.now_ms / 1000 - datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
        may_be_orphans = oldest_s - DAY_S < self._limits.known_s
        return self._limits.max_bytes is not None or oldest_s > self._limits.max_age_s or may_be_orphans

    def _extend_lock(self, sweep: _Sweep) -> None:
        """Keep the lock.

        Raises:
            LockError: if another process sweeps by now, or a backup is made.
        """
        sweep.lock.extend(LOCK_S, replace_ttl=True)
        sweep.extended_at = self._clock()

    def _sweep_batch(self, sweep: _Sweep, batch: Sequence[StoredInspection]) -> int:
        """Remove the old ones and the orphans of a batch; return the bytes of what stays for now."""
        stays = 0
        for one, (state, at_ms) in zip(batch, self._known(batch), strict=True):
            age_s = (sweep.now_ms - at_ms) / 1000
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
        """Remove the oldest until `excess` bytes are gone.

        All are read once more: to remember what stayed would take the memory of a million entries.
        """
        for batch in self._batches(sweep):
            for one, (state, at_ms) in zip(batch, self._known(batch), strict=True):
                if excess <= 0:
                    return
                if sweep.now_ms - at_ms < self._limits.young_s * 1000:
                    continue
                if (state is None or state in FINAL_STATES) and self._remove(sweep, "many", one):
                    excess -= one.bytes

    def _remove(self, sweep: _Sweep, why: str, one: StoredInspection) -> bool:
        """Remove one inspection's files; return False if that failed. A single bad file must not stop the sweep."""
        if self._clock() - sweep.extended_at > LOCK_S / 3:
            self._extend_lock(sweep)
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

    def _known(self, batch: Sequence[StoredInspection]) -> list[tuple[str | None, int]]:
        """Return the state of each inspection, None if Redis knows it not, and when it was accepted, in ms since 1970.

        Its id is only asked where Redis knows no better: a version before this one made ids by its machine's clock.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            for one in batch:
                pipe.hmget(keys.inspection(one.inspection_id), ["state", *ACCEPTANCE_FIELDS])
            rows = cast("list[list[str | None]]", pipe.execute())
        return [
            (state, acceptance(*accepted)[0] or one.at_ms) for one, (state, *accepted) in zip(batch, rows, strict=True)
        ]

    def _dead_letters(self) -> frozenset[str]:
        streams = list(self._redis.scan_iter(match=f"{keys.DEAD_PREFIX}*"))
        rows: list[Any] = [row for stream in streams for row in cast("Any", self._redis.xrange(stream))]
        return frozenset(fields.get("id", "") for _, fields in rows)

    def _now_ms(self) -> float:
        seconds, micros = cast("Any", self._redis.time())
        return float(seconds * 1000 + micros / 1000)


def _is_orphan(sweep: _Sweep, one: StoredInspection) -> bool:
    """Return whether only an image is stored and no dead letter names it.

    An image older than this Redis is none: a Redis that was set up anew, or restored from a backup, must not take the
    images of its predecessor for orphans.
    """
    whole = {name for name in one.names if name[0] != "."}  # the others are half written
    return whole <= {IMAGE} and one.at_ms > sweep.redis_since_ms and one.inspection_id not in sweep.dead_letters


def _report(sweep: _Sweep) -> Swept:
    removed = sweep.removed
    return Swept(too_old=removed["old"], too_many=removed["many"], orphans=removed["orphan"], bytes=removed["bytes"])


@asynccontextmanager
async def sweeping(settings: Settings, redis_url: str, artifacts: ArtifactStore) -> AsyncIterator[None]:
    """Sweep every `sweep_every_s` while the context lasts. An error is logged, and the next sweep tries again."""
    known_s = min(DAY_S, settings.result_ttl_s)
    limits = ArtifactLimits(settings.artifacts_max_age_s, settings.artifacts_max_bytes, known_s=known_s)
    with connect(redis_url) as client:
        sweeper = Sweeper(client, artifacts, limits, every_s=settings.sweep_every_s)
        task = asyncio.create_task(_keep_sweeping(sweeper, settings.sweep_every_s), name="glad-sweeper")
        try:
            yield
        finally:
            sweeper.stop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _keep_sweeping(sweeper: Sweeper, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        # Shielded: a sweep under way ends by its own flag, not halfway through a removal.
        sweep = asyncio.wrap_future(ask_in_thread(sweeper.sweep, "sweeper"))
        try:
            swept = await asyncio.shield(sweep)
        except asyncio.CancelledError:
            await asyncio.wait({sweep}, timeout=LAST_BATCH_S)
            raise
        except (RedisError, OSError) as error:
            log.warning("artifacts not swept", error=str(error))
            continue
        except Exception:  # a bug in one sweep must not end all later ones
            log.exception("artifacts not swept")
            continue
        if swept is not None:
            log.info("artifacts swept", **asdict(swept))

"""The way of a job through a worker: claim, renew, hand back, complete. Each is one script, atomic, repeatable."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import redis
import structlog
from redis.exceptions import RedisError, ResponseError

from service.contract import Failure, Priority, Result, State
from service.queue import keys, schema
from service.queue.claims import DEFAULT_LEASE_MS, ClaimedJob, UnreadableJob, read_row
from service.queue.connection import LONGEST_BLOCK_MS
from service.queue.results import Completer, Retention
from service.queue.scripts import load
from service.queue.takeover import DEFAULT_MAX_DEATHS, Reclaimed, Takeover

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Look:
    """What one look into the queue gave."""

    claimed: list[ClaimedJob]
    buried: bool
    """Something unreadable was cleared away: there may be more behind it."""
    last_ids: dict[str, str]
    """Stream -> its last entry at that moment."""


class JobQueue:
    """The worker's side of the queue. Safe to use from several threads.

    It remembers what it holds, so that a claim whose reply was lost is given again rather than forgotten. Every process
    is its own owner: one that restarts under the same `worker_id` does not inherit, and its old jobs become suspects.
    """

    def __init__(
        self,
        client: redis.Redis,
        pool: str = "default",
        worker_id: str | None = None,
        *,
        lease_ms: int = DEFAULT_LEASE_MS,
        max_deaths: int = DEFAULT_MAX_DEATHS,
        retention: Retention | None = None,
    ) -> None:
        self._redis = client
        self.pool = pool
        self.owner = f"{worker_id or f'{socket.gethostname()}-{os.getpid()}'}/{uuid.uuid4().hex[:8]}"
        self.lease_ms = lease_ms
        self._keys = keys.PoolKeys(pool)
        self._completer = Completer(client, pool, retention or Retention())
        self._takeover = Takeover(
            client, self._keys, self._completer, self.owner, lease_ms=lease_ms, max_deaths=max_deaths
        )
        self._claim, self._renew, self._hand_back = (
            client.register_script(load(name)) for name in ("claim", "renew", "hand_back")
        )
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._held: dict[str, ClaimedJob] = {}
        self._schema_known = False

    @property
    def held(self) -> tuple[ClaimedJob, ...]:
        """The claims that this process believes to hold."""
        with self._lock:
            return tuple(self._held.values())

    def claim(
        self, count: int, block_ms: int = 0, *, idle: bool = True, wanted: Callable[[], bool] = lambda: True
    ) -> list[ClaimedJob]:
        """Up to `count` jobs, `high` first; waits at most `block_ms` for the first one, and takes none that came when
        they were no longer `wanted`.

        A suspect comes alone, and only to a worker that holds nothing and says that it is `idle`; while it is held,
        nothing else comes. What cannot be read ends here as a dead letter. RedisError if Redis is away: call again.
        """
        if count < 1:
            raise ValueError(f"count is {count}: claim at least 1")
        deadline = time.monotonic() + block_ms / 1000
        while True:
            with self._claiming:  # else one claim would take the other's jobs for lost replies
                look = self._look(count, idle=idle)
            if look.buried and not look.claimed:
                continue
            left_ms = int((deadline - time.monotonic()) * 1000)
            if look.claimed or left_ms <= 0:
                return look.claimed
            # Returns at once if anything came after the look that found nothing.
            self._redis.xread(cast("Any", look.last_ids), count=1, block=min(left_ms, LONGEST_BLOCK_MS))
            if not wanted():
                return []

    def _look(self, count: int, *, idle: bool) -> _Look:
        high, normal = (self._keys.jobs(priority) for priority in (Priority.HIGH, Priority.NORMAL))
        script_keys = [
            high,
            normal,
            self._keys.returned(Priority.HIGH),
            self._keys.returned(Priority.NORMAL),
            self._keys.suspects,
            self._keys.leases,
            keys.held(self.owner),
            self._keys.workers,
            self._keys.wake,
            self._keys.draining,
            self._keys.turns,
        ]
        known = [claimed.entry_id for claimed in self.held]
        args: list[str | int] = [
            keys.INSPECTION_PREFIX,
            keys.GROUP,
            keys.CONSUMER,
            self.owner,
            count,
            self.lease_ms,
            int(idle),
            *known,
        ]
        self._know_schema()
        try:
            reply = self._claim(keys=script_keys, args=args)
        except ResponseError as error:
            if not _group_is_missing(error):
                raise
            self.ensure_groups()
            reply = self._claim(keys=script_keys, args=args)
        last_high, last_normal, last_wake, *rows = cast("list[Any]", reply)
        read = [read_row(row, self.owner) for row in rows]
        claimed = [one for one in read if isinstance(one, ClaimedJob)]
        with self._lock:
            self._held.update({one.entry_id: one for one in claimed})
        buried = [self._bury(one) for one in read if isinstance(one, UnreadableJob)]
        return _Look(claimed, any(buried), {high: last_high, normal: last_normal, self._keys.wake: last_wake})

    def _know_schema(self) -> None:
        if not self._schema_known:
            schema.check(self._redis)
            self._schema_known = True

    def _bury(self, job: UnreadableJob) -> bool:
        """Ends what nobody can read. False: Redis did not answer; the next claim gives it again."""
        log.error("job cannot be read: it becomes a dead letter", inspection_id=job.id, why=job.why)
        try:
            self._completer.bury(job)
        except (RedisError, OSError) as error:
            log.warning("dead letter not written", inspection_id=job.id, error=str(error))
            return False
        return True

    def ensure_groups(self) -> None:
        """Makes the streams and their group, from the first entry on. `claim` does so where they are missing."""
        for priority in Priority:
            try:
                self._redis.xgroup_create(self._keys.jobs(priority), keys.GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def renew(self, claims: Iterable[ClaimedJob] | None = None) -> list[ClaimedJob]:
        """Prolongs the leases of these claims, by default of all held; returns those that are lost: drop their work.

        Call it each third of `lease_ms`, from a thread that does not depend on the device. Also says that the worker
        lives, with no claims too.
        """
        asked = self.held if claims is None else tuple(claims)
        pairs = [value for claimed in asked for value in (claimed.id, claimed.attempt)]
        lost_ids = self._renew(
            keys=[self._keys.leases, self._keys.workers],
            args=[keys.INSPECTION_PREFIX, self.owner, self.lease_ms, *pairs],
        )
        lost = [claimed for claimed in asked if claimed.id in set(cast("list[str]", lost_ids))]
        # One that another thread has just completed is not lost: it is no longer held.
        return [claimed for claimed in lost if self._forget(claimed)]

    def complete(self, claimed: ClaimedJob, result: Result) -> bool:
        """Result, event and acknowledgement in one step. True: this result is the visible one, also when it is repeated
        after a lost reply. False: the claim is stale; nothing changed."""
        recorded = self._completer.complete(claimed, result)
        self._forget(claimed)
        return recorded

    def fail(self, claimed: ClaimedJob, error: Failure, *, state: State = State.FAILED) -> bool:
        """Ends the inspection without a verdict (`failed` or `expired`); returns as `complete` does."""
        recorded = self._completer.fail(claimed, error, state=state)
        self._forget(claimed)
        return recorded

    def hand_back(self, claimed: ClaimedJob, *, delay_ms: int = 0) -> bool:
        """Gives a job back unfinished: at a drain, or with a delay to be tried later. Never counts as a death.

        False: the claim was stale. RedisError: drop the job all the same; a later claim gives it again, to this process
        or, once it is dead, to another."""
        try:
            done = self._hand_back(
                keys=[
                    keys.inspection(claimed.id),
                    self._keys.leases,
                    keys.held(claimed.owner),
                    self._keys.returned(claimed.job.priority),
                    self._keys.suspects,
                    self._keys.wake,
                ],
                args=[claimed.id, claimed.owner, claimed.attempt, delay_ms],
            )
        finally:
            self._forget(claimed)
        return bool(done)

    def reclaim(self) -> Reclaimed:
        """Takes over jobs whose lease has ended: each becomes a suspect; after `max_deaths` deaths alone, given up.

        Every worker calls it each third of `lease_ms`; any may, at any time."""
        return self._takeover.reclaim()

    def recently_served(self) -> tuple[str, ...]:
        """The products of which this pool inspected images, the last one first; at most a hundred."""
        self._know_schema()
        return tuple(cast("list[str]", self._redis.zrevrange(self._keys.served, 0, -1)))

    def retire(self) -> None:
        """Says goodbye: this process no longer counts as a living worker. Hand back or complete everything before."""
        self._redis.zrem(self._keys.workers, self.owner)

    def _forget(self, claimed: ClaimedJob) -> bool:
        with self._lock:
            return self._held.pop(claimed.entry_id, None) is not None


def _group_is_missing(error: ResponseError) -> bool:
    # XREADGROUP without the group, or XINFO before the stream exists; inside a script the code comes with more words.
    return "NOGROUP" in str(error) or "no such key" in str(error)

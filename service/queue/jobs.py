"""The worker's side of the queue: claim, renew, hand back, complete. Each is one Lua script: atomic, and repeatable.

Every call may lose its reply. So each script finds out that it ran before: a claim whose reply was lost is given again
as a new attempt, and what is done with an older attempt is refused.
"""

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
from service.queue import keys
from service.queue.claims import (
    DEFAULT_LEASE_MS,
    UNSERVED_PATIENCE_MS,
    ClaimedJob,
    UnreadableJob,
    UnusableBundles,
    read_row,
)
from service.queue.connection import LONGEST_BLOCK_MS, check_schema
from service.queue.picture_requests import PictureClaims
from service.queue.results import Completer, Retention
from service.queue.scripts import load
from service.queue.takeover import DEFAULT_MAX_DEATHS, Reclaimed, Takeover

NONE_UNUSABLE = UnusableBundles()

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _ClaimReply:
    """The reply of one run of claim.lua."""

    claimed: list[ClaimedJob]
    dead_lettered: bool
    """An unreadable job was cleared away: there may be more jobs behind it."""
    last_ids: dict[str, str]
    """Stream -> its last entry at that moment, to wait for a newer one."""


class JobQueue:
    """The worker's side of the queue. Safe to use from several threads.

    It remembers the claims that it holds and sends them with every claim: what Redis knows beyond them was given by a
    reply that was lost, and is given again. Every process is an owner of its own: one that restarts under the same
    `worker_id` does not inherit, and the jobs of its predecessor become suspects.
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
        self._pool_keys = keys.PoolKeys(pool)
        self._streams = [self._pool_keys.jobs(priority) for priority in (Priority.HIGH, Priority.NORMAL)]
        self._claim_keys = [
            *self._streams,
            self._pool_keys.returned(Priority.HIGH),
            self._pool_keys.returned(Priority.NORMAL),
            self._pool_keys.suspects,
            self._pool_keys.leases,
            keys.held(self.owner),
            self._pool_keys.workers,
            self._pool_keys.wake,
            self._pool_keys.draining,
            self._pool_keys.turns,
        ]
        self._completer = Completer(client, pool, retention or Retention())
        self._takeover = Takeover(
            client, self._pool_keys, self._completer, self.owner, lease_ms=lease_ms, max_deaths=max_deaths
        )
        self._pictures = PictureClaims(client, self._pool_keys, self.owner, lease_ms=lease_ms)
        self._claim_script, self._renew_script, self._hand_back_script = (
            client.register_script(load(*names)) for names in (("unusable", "claim"), ("renew",), ("hand_back",))
        )
        self._lock = threading.Lock()
        """Guards `_held`."""
        self._claiming = threading.Lock()
        self._held: dict[str, ClaimedJob] = {}
        self._schema_checked = False

    @property
    def held(self) -> tuple[ClaimedJob, ...]:
        """The claims that this process believes to hold."""
        with self._lock:
            return tuple(self._held.values())

    def claim(
        self,
        count: int,
        block_ms: int = 0,
        *,
        idle: bool = True,
        unusable: UnusableBundles = NONE_UNUSABLE,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[ClaimedJob]:
        """Claim up to `count` jobs, those of high priority first, and wait at most `block_ms` for the first one.

        A suspect comes alone, and only to a worker that holds nothing and says that it is `idle`; while it is held,
        nothing else comes. An unreadable job ends here as a dead letter. A request for a picture comes alone too, to a
        worker that is `idle` where no job waits.

        Args:
            unusable: jobs of these bundles, and requests for their pictures, are left to other workers, but for those
                to be ended: their deadline has passed, or they are `unserved`.
            should_stop: asked after a wait; if it says True, nothing that came meanwhile is claimed.

        Raises:
            ValueError: if `count` is less than 1.
            RedisError: if Redis is away; call again.
        """
        if count < 1:
            raise ValueError(f"count is {count}: claim at least 1")
        deadline = time.monotonic() + block_ms / 1000
        while True:
            # One at a time: a second claim would not know the first one's jobs yet, and take them for lost replies.
            with self._claiming:
                reply = self._claim_now(count, unusable, idle=idle)
            if reply.dead_lettered and not reply.claimed:
                continue
            if idle and not reply.claimed and (request := self._pictures.take(unusable)) is not None:
                return [request]
            left_ms = int((deadline - time.monotonic()) * 1000)
            if reply.claimed or left_ms <= 0:
                return reply.claimed
            # The script cannot block, so the wait is a plain read behind the last entries that the script saw: it
            # returns at once if anything came after that, and no new job is missed between the two.
            self._redis.xread(cast("Any", reply.last_ids), count=1, block=min(left_ms, LONGEST_BLOCK_MS))
            if should_stop():
                return []

    def _claim_now(self, count: int, unusable: UnusableBundles, *, idle: bool) -> _ClaimReply:
        with self._lock:
            known_claims = list(self._held)
        args: list[str | int] = [
            keys.INSPECTION_PREFIX,
            keys.GROUP,
            keys.CONSUMER,
            self.owner,
            count,
            self.lease_ms,
            int(idle),
            keys.LACKING_PREFIX,
            self._pool_keys.unserved_prefix,
            UNSERVED_PATIENCE_MS,
            len(unusable.missing),
            len(unusable.away),
            *unusable.missing,
            *unusable.away,
            *known_claims,
        ]
        self._check_schema()
        try:
            reply = self._claim_script(keys=self._claim_keys, args=args)
        except ResponseError as error:
            if not _group_is_missing(error):
                raise
            self.ensure_groups()
            reply = self._claim_script(keys=self._claim_keys, args=args)
        last_high, last_normal, last_wake, *rows = cast("list[Any]", reply)
        jobs = [read_row(row, self.owner) for row in rows]
        claimed = [job for job in jobs if isinstance(job, ClaimedJob)]
        with self._lock:
            self._held.update({job.entry_id: job for job in claimed})
        dead_lettered = [self._dead_letter(job) for job in jobs if isinstance(job, UnreadableJob)]
        last_ids = dict(zip((*self._streams, self._pool_keys.wake), (last_high, last_normal, last_wake), strict=True))
        return _ClaimReply(claimed, any(dead_lettered), last_ids)

    def _check_schema(self) -> None:
        if not self._schema_checked:
            check_schema(self._redis)
            self._schema_checked = True

    def _dead_letter(self, job: UnreadableJob) -> bool:
        """End an unreadable job. False if Redis did not answer: the next claim gives the job again."""
        log.error("job cannot be read: it becomes a dead letter", inspection_id=job.id, why=job.why)
        try:
            self._completer.dead_letter(job)
        except (RedisError, OSError) as error:
            log.warning("dead letter not written", inspection_id=job.id, error=str(error))
            return False
        return True

    def ensure_groups(self) -> None:
        """Create the streams and their group, from the first entry on. `claim` does so where they are missing."""
        for priority in Priority:
            try:
                self._redis.xgroup_create(self._pool_keys.jobs(priority), keys.GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def renew(self, claims: Iterable[ClaimedJob] | None = None) -> list[ClaimedJob]:
        """Prolong the leases of these claims, by default of all held ones, and return those that are lost.

        Another worker has a lost claim's job by now: drop the work on it. Call this each third of `lease_ms`, from a
        thread that does not depend on the device: a long model call must not look like a death. The call also notes
        that the worker is alive, with no claims too.

        Raises:
            RedisError: if Redis is away; the leases may still last.
        """
        checked = self.held if claims is None else tuple(claims)
        pairs = [value for claimed in checked for value in (claimed.id, claimed.attempt)]
        lost_ids = self._renew_script(
            keys=[self._pool_keys.leases, self._pool_keys.workers],
            args=[keys.INSPECTION_PREFIX, self.owner, self.lease_ms, *pairs],
        )
        lost = [claimed for claimed in checked if claimed.id in set(cast("list[str]", lost_ids))]
        # A claim that another thread has just completed is not lost: it is no longer held.
        return [claimed for claimed in lost if self._forget(claimed)]

    def still_holds(self, claimed: ClaimedJob) -> bool:
        """Return whether the claim is still the job's latest one. It may end right after: `complete` decides.

        Raises:
            RedisError: if Redis is away; call again.
        """
        fields = self._redis.hmget(keys.inspection(claimed.id), ["owner", "attempt"])
        return cast("list[str | None]", fields) == [claimed.owner, str(claimed.attempt)]

    def record(self, claimed: ClaimedJob, result: Result) -> Result | None:
        """Record result, event and acknowledgement in one step; return the result as it stands now.

        Once the takt of the job's station is over, what would pass is recorded for review. None if the claim is stale;
        nothing changed then. The call may be repeated after a lost reply.

        Raises:
            RedisError: if Redis is away. The claim is still held: call again, or let a later claim give it again.
        """
        _refuse_picture(claimed)
        recorded = self._completer.record(claimed, result)
        self._forget(claimed)
        return recorded

    def complete(self, claimed: ClaimedJob, result: Result) -> bool:
        """Record a result as `record` does; return whether it is the visible one."""
        return self.record(claimed, result) is not None

    def fail(self, claimed: ClaimedJob, error: Failure, *, state: State = State.FAILED) -> bool:
        """End the inspection without a verdict (`failed` or `expired`); return as `complete` does."""
        _refuse_picture(claimed)
        recorded = self._completer.fail(claimed, error, state=state)
        self._forget(claimed)
        return recorded

    def end_picture(self, claimed: ClaimedJob, failure: Failure | None = None) -> None:
        """Answer a request for a picture: it is stored, or it cannot be drawn.

        Raises:
            RedisError: if Redis is away; call again.
        """
        if failure is None:
            self._pictures.drawn(claimed)
        else:
            self._pictures.failed(claimed, failure.detail)

    def hand_back(self, claimed: ClaimedJob, *, delay_ms: int = 0) -> bool:
        """Give a job back unfinished, at a drain or to be tried again after `delay_ms`; return False if it was stale.

        Handing back never counts as a death.

        Raises:
            RedisError: if Redis is away. Drop the job all the same: a later claim gives it again, to this process or,
                once this process is dead, to another.
        """
        if claimed.picture_only:
            self._pictures.hand_back(claimed)
            return True
        try:
            done = self._hand_back_script(
                keys=[
                    keys.inspection(claimed.id),
                    self._pool_keys.leases,
                    keys.held(claimed.owner),
                    self._pool_keys.returned(claimed.job.priority),
                    self._pool_keys.suspects,
                    self._pool_keys.wake,
                ],
                args=[claimed.id, claimed.owner, claimed.attempt, delay_ms],
            )
        finally:
            self._forget(claimed)
        return bool(done)

    def reclaim(self) -> Reclaimed:
        """Take over jobs whose lease has ended: each becomes a suspect, or is given up after `max_deaths` deaths alone.

        Every worker calls this each third of `lease_ms`.
        """
        return self._takeover.reclaim()

    def recently_served(self) -> tuple[str, ...]:
        """Return the products that this pool inspected, the latest first; at most a hundred."""
        self._check_schema()
        return tuple(cast("list[str]", self._redis.zrevrange(self._pool_keys.served, 0, -1)))

    def retire(self) -> None:
        """Take this process off the list of living workers. Hand back or complete everything before."""
        self._redis.zrem(self._pool_keys.workers, self.owner)
        self._redis.delete(keys.lacking(self.owner))

    def _forget(self, claimed: ClaimedJob) -> bool:
        with self._lock:
            return self._held.pop(claimed.entry_id, None) is not None


def _refuse_picture(claimed: ClaimedJob) -> None:
    if claimed.picture_only:
        raise ValueError(f"the claim of {claimed.id} is of a picture: end it by end_picture")


def _group_is_missing(error: ResponseError) -> bool:
    # XREADGROUP without the group, or XINFO before the stream exists; inside a script the code comes with more words.
    return "NOGROUP" in str(error) or "no such key" in str(error)

"""The way of a job: submit (API), claim, renew, hand back, reclaim (worker). Each is one script, atomic, repeatable."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import redis
import redis.asyncio
import structlog
from redis.exceptions import RedisError, ResponseError

from service.contract import Failure, Job, Priority, Result, State
from service.queue import keys, schema
from service.queue.admission import Limits, Outlook, Room
from service.queue.claims import ClaimedJob, UnreadableJob
from service.queue.connection import LONGEST_BLOCK_MS
from service.queue.results import Completer, Retention
from service.queue.rows import read_row
from service.queue.scripts import load

DEFAULT_LEASE_MS = 30_000
DEFAULT_MAX_DEATHS = 3
MOST_PER_RECLAIM = 100

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What became of a submission."""

    ACCEPTED = "accepted"
    SAME = "same"
    """This Idempotency-Key was used before, with the same request: the first inspection stands."""
    CONFLICT = "conflict"
    """This Idempotency-Key was used before, with another request."""
    FULL = "full"
    """Refused: the backlog has reached its limit."""
    SLOW = "slow"
    """Refused: it would wait longer than is allowed."""
    LATE = "late"
    """Refused: its deadline would pass before its turn."""


@dataclass(frozen=True)
class Submission:
    """The answer to a submission."""

    outcome: Outcome
    inspection_id: str
    """The inspection that stands: the job's own, or the first one with its key."""
    outlook: Outlook
    """The queue as it was found."""


@dataclass(frozen=True)
class QueueStats:
    """The queue at one moment."""

    backlog: int
    """Queued and running: never zero while a job runs. Autoscalers use this."""
    running: int
    suspects: int
    dead: int
    oldest_age_s: float
    """Age of the oldest job that has not ended; 0 if there is none."""
    workers: int
    """Worker processes that claimed or renewed lately."""


@dataclass(frozen=True)
class Reclaimed:
    """What a takeover found: ids whose workers died."""

    suspects: tuple[str, ...] = ()
    """To be retried, alone."""
    dead: tuple[str, ...] = ()
    """Given up: failed, with a dead letter."""


@dataclass(frozen=True)
class _Look:
    """What one look into the queue gave."""

    claimed: list[ClaimedJob]
    buried: bool
    """Something unreadable was cleared away: there may be more behind it."""
    last_ids: dict[str, str]
    """Stream -> its last entry at that moment."""


class JobSubmitter:
    """The API's side of the queue."""

    def __init__(
        self, client: redis.asyncio.Redis, *, pool: str = "default", max_backlog: int = 1000, max_wait_s: float = 3600
    ) -> None:
        """`max_backlog` and `max_wait_s` (expected, by the measured pace): beyond either, jobs are refused."""
        self._redis = client
        self._keys = keys.PoolKeys(pool)
        self._streams = [self._keys.jobs(priority) for priority in Priority]
        self.limits = Limits(max_backlog, max_wait_s)
        self._submit, self._ask = (client.register_script(load("admission", name)) for name in ("submit", "ask"))
        self._schema_known = False

    async def submit(
        self,
        job: Job,
        *,
        fingerprint: str = "",
        idempotency_key: str | None = None,
        client_name: str = "",
        scope: str | None = None,
    ) -> Submission:
        """Queues the job, once however often it is called. `fingerprint` tells requests with one key apart; `scope` is
        where the key is one, by default the product.

        RedisError: Redis is away, or refused. After a lost connection or a timeout the job may have been accepted.
        """
        await self._know_schema()
        reply = await cast(
            "Any",
            self._submit(
                keys=[
                    keys.inspection(job.id),
                    self._keys.jobs(job.priority),
                    keys.idempotency(client_name, scope or job.product, idempotency_key or ""),
                    *self._admission_keys(),
                ],
                args=[
                    job.id,
                    job.to_json(),
                    fingerprint,
                    int(idempotency_key is not None),
                    *self._admission_args(job.priority, job.deadline_ms),
                    "" if job.serial is None else keys.unfinished(job.serial),
                ],
            ),
        )
        outcome, inspection_id, *found = reply
        room = Room(outcome) if outcome in set(Room) else Room.OPEN
        return Submission(Outcome(outcome), inspection_id, Outlook.read(room, found))

    async def ask(self, priority: Priority = Priority.NORMAL, deadline_ms: int | None = None) -> Outlook:
        """What a submission would find now. RedisError if Redis is away."""
        await self._know_schema()
        args = self._admission_args(priority, deadline_ms)
        room, *found = await cast("Any", self._ask(keys=self._admission_keys(), args=args))
        return Outlook.read(Room(room), found)

    async def _know_schema(self) -> None:
        if not self._schema_known:
            await schema.check_async(self._redis)
            self._schema_known = True

    def _admission_keys(self) -> list[str]:
        return [
            self._keys.jobs(Priority.HIGH),
            self._keys.jobs(Priority.NORMAL),
            self._keys.leases,
            self._keys.pace,
        ]

    def _admission_args(self, priority: Priority, deadline_ms: int | None) -> list[str | int | float]:
        max_wait_ms, deadline = self.limits.max_wait_s * 1000, "" if deadline_ms is None else deadline_ms
        return [priority.value, self.limits.max_backlog, max_wait_ms, deadline]

    async def ping(self) -> None:
        """RedisError if Redis is away."""
        await cast("Any", self._redis.ping())

    async def stats(self, *, worker_seen_s: float = DEFAULT_LEASE_MS / 1000) -> QueueStats:
        """The queue now. A worker counts as alive if it was heard of in the last `worker_seen_s`."""
        seconds, micros = await cast("Any", self._redis.time())
        now_ms = seconds * 1000 + micros // 1000
        async with self._redis.pipeline(transaction=False) as pipe:
            for stream in self._streams:
                pipe.xlen(stream)
                pipe.xrange(stream, count=1)
            pipe.zcard(self._keys.leases)
            pipe.zcard(self._keys.suspects)
            pipe.xlen(self._keys.dead)
            pipe.zcount(self._keys.workers, now_ms - worker_seen_s * 1000, "+inf")
            reply = await pipe.execute()
        streams = len(self._streams)
        lengths, firsts = reply[0 : 2 * streams : 2], reply[1 : 2 * streams : 2]
        running, suspects, dead, workers = reply[2 * streams :]
        oldest = [int(first[0][0].split("-")[0]) for first in firsts if first]
        return QueueStats(
            backlog=sum(lengths),
            running=running,
            suspects=suspects,
            dead=dead,
            oldest_age_s=max(0.0, (now_ms - min(oldest)) / 1000) if oldest else 0.0,
            workers=workers,
        )


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
        self._max_deaths = max_deaths
        self._keys = keys.PoolKeys(pool)
        self._completer = Completer(client, pool, retention or Retention())
        self._claim, self._renew, self._hand_back, self._reclaim = (
            client.register_script(load(name)) for name in ("claim", "renew", "hand_back", "reclaim")
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

    def claim(self, count: int, block_ms: int = 0, *, idle: bool = True) -> list[ClaimedJob]:
        """Up to `count` jobs, `high` first; waits at most `block_ms` for the first one.

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
        undertaker = f"{self.owner}/reclaim"
        suspects, *exhausted = cast(
            "list[Any]",
            self._reclaim(
                keys=[self._keys.leases, self._keys.suspects, self._keys.wake, self._keys.workers],
                args=[
                    keys.INSPECTION_PREFIX,
                    keys.HELD_PREFIX,
                    undertaker,
                    self.lease_ms,
                    self._max_deaths,
                    MOST_PER_RECLAIM,
                ],
            ),
        )
        return Reclaimed(tuple(suspects), tuple(self._give_up(undertaker, row) for row in exhausted))

    def _give_up(self, undertaker: str, row: list[str | None]) -> str:
        claimed = read_row(row, undertaker)
        if isinstance(claimed, UnreadableJob):
            self._completer.bury(claimed)
            return claimed.id
        died = f"{claimed.deaths} workers died while they held this image alone"
        detail = f"{died}; it was given up and left as a dead letter"
        self._completer.fail(claimed, Failure(code="worker_died", detail=detail), dead_reason=detail)
        return claimed.id

    def retire(self) -> None:
        """Says goodbye: this process no longer counts as a living worker. Hand back or complete everything before."""
        self._redis.zrem(self._keys.workers, self.owner)

    def _forget(self, claimed: ClaimedJob) -> bool:
        with self._lock:
            return self._held.pop(claimed.entry_id, None) is not None


def _group_is_missing(error: ResponseError) -> bool:
    # XREADGROUP without the group, or XINFO before the stream exists; inside a script the code comes with more words.
    return "NOGROUP" in str(error) or "no such key" in str(error)

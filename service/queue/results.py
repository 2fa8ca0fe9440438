"""The end of an inspection and what is known of it: `Completer` for workers, `Results` for the API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

import redis
import redis.asyncio
import structlog
from pydantic import ValidationError

from service.cancelling import cancel_and_wait
from service.contract import (
    Event,
    Failure,
    Job,
    Priority,
    Result,
    Review,
    State,
    ended_result,
    overtime_result,
    waiting_result,
)
from service.queue import keys
from service.queue.claims import ClaimedJob, UnreadableJob, failed_result, partial_result
from service.queue.connection import LONGEST_BLOCK_MS
from service.queue.scripts import load

PAUSE_S = 0.2
"""Between an error and the next attempt to read the event stream."""
RESULT_FIELDS = ["job", "state", "result", "attempt", "started_ms", "submitted_ms", "reviews", "overtime"]
"""Fields of an inspection's hash, in the order that `read_result` expects."""
ACCEPTANCE_FIELDS = ["submitted_ms", "entry"]
"""Fields of an inspection's hash, in the order that `acceptance` expects."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Retention:
    """How long ended inspections are kept, how many of them, and how long the event stream may grow."""

    result_ttl_s: int = 7 * 86_400
    max_events: int = 1_000_000
    """Length of the event stream; up to twice as many events are kept while a consumer group has not read them."""
    max_results: int = 1_000_000


class Completer:
    """Ends inspections: result, event, history and acknowledgement in one script, fenced by owner and attempt.

    One script, because a crash between two steps would either lose the result of an acknowledged job or show a result
    whose job runs again. The fence, because a worker that hung longer than its lease may come back and send a result
    after another worker took the job over: complete.lua answers `stale` to it, and nothing changes.
    """

    def __init__(self, client: redis.Redis, pool: str, retention: Retention) -> None:
        self._pool_keys = keys.PoolKeys(pool)
        self._retention = retention
        self._complete_script = client.register_script(
            load("pace", "reviewed", "history", "events", "summary", "complete")
        )

    def record(self, claimed: ClaimedJob, result: Result, *, dead_reason: str = "") -> Result | None:
        """Record the result of a claimed job, and return it as it stands; after the job's takt nothing passes.

        Also if an earlier call recorded it and only its reply was lost: the call may be repeated. None if the claim is
        stale; nothing changed then.

        Args:
            dead_reason: if given, the job is also left as a dead letter with this reason.

        Raises:
            ValueError: if the result is of another inspection, or not final.
            RedisError: if Redis is away.
        """
        if result.id != claimed.id or not result.state.final:
            raise ValueError(f"result is of {result.id} in state {result.state}; the claim is of {claimed.id}")
        return self._end(
            claimed.owner,
            claimed.attempt,
            claimed.job.priority,
            result,
            dead_reason=dead_reason,
            due_at=claimed.job.due_at,
        )

    def fail(self, claimed: ClaimedJob, error: Failure, *, state: State = State.FAILED, dead_reason: str = "") -> bool:
        """End the inspection without a verdict; return whether this end is the visible one."""
        result = ended_result(claimed.job, state, error, **claimed.result_fields)
        return self.record(claimed, result, dead_reason=dead_reason) is not None

    def dead_letter(self, job: UnreadableJob) -> bool:
        """End an unreadable job as a `failed` inspection with a dead letter; return as `fail` does."""
        result = failed_result(job)
        assert result.error is not None
        reason = result.error.detail
        return self._end(job.owner, job.attempt, job.priority, result, dead_reason=reason) is not None

    def _end(
        self,
        owner: str,
        attempt: int,
        priority: Priority,
        result: Result,
        *,
        dead_reason: str,
        due_at: datetime | None = None,
    ) -> Result | None:
        text, event, shown_outcome = _shown(result)
        late = None if due_at is None else overtime_result(result)
        outcome = self._complete_script(
            keys=[
                keys.inspection(result.id),
                self._pool_keys.jobs(priority),
                self._pool_keys.leases,
                keys.held(owner),
                keys.EVENTS,
                self._pool_keys.dead,
                keys.HISTORY,
                self._pool_keys.pace,
                self._pool_keys.served,
                keys.TAKTS,
                keys.LIMIT_ENDED,
            ],
            args=[
                result.id,
                owner,
                attempt,
                keys.GROUP,
                result.state.value,
                text,
                event,
                self._retention.result_ttl_s * 1000,
                self._retention.max_events,
                dead_reason,
                shown_outcome,
                self._retention.max_results,
                keys.INSPECTION_PREFIX,
                keys.UNFINISHED_PREFIX,
                *(("",) * 4 if late is None or due_at is None else (*_shown(late), _overtime_event(late, due_at))),
            ],
        )
        if outcome == "stale":
            return None
        return late if late is not None and str(outcome).endswith("_late") else result


def _shown(result: Result) -> tuple[str, str, str]:
    """Return an ended inspection, its event, and its outcome in the history, as complete.lua takes them."""
    event = Event.from_result(result).model_dump_json(exclude_none=True)
    return result.to_json(), event, (result.verdict or result.state).value


def _overtime_event(result: Result, due_at: datetime) -> str:
    return Event.from_overtime(result, due_at).to_json()


class Results:
    """Reads inspections and waits for their end. Use as an async context manager.

    One task follows the event stream for all waiting requests, so that a hundred of them need one Redis connection. A
    waiter registers first and reads the state afterwards: an inspection that ends in between is seen by one of the two.
    After a lost connection events may have been missed, so the state of every waiting inspection is read again.
    """

    def __init__(self, client: redis.asyncio.Redis, *, block_ms: int = LONGEST_BLOCK_MS) -> None:
        self._redis = client
        self._block_ms = block_ms
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._has_waiters = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._follow(), name="glad-results")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        if self._reader is not None:
            await cancel_and_wait(self._reader)

    async def get(self, inspection_id: str) -> Result | None:
        """Return the inspection as it is now; None if it is unknown, or no longer kept.

        Raises:
            RedisError: if Redis is away.
        """
        fields = await cast("Any", self._redis.hmget(keys.inspection(inspection_id), RESULT_FIELDS))
        return read_result(inspection_id, fields)

    async def wait(self, inspection_id: str, seconds: float) -> Result | None:
        """Return the inspection once it has ended, or as it is when `seconds` are over.

        Raises:
            RedisError: if Redis is away.
        """
        ended = asyncio.Event()
        self._waiters.setdefault(inspection_id, set()).add(ended)
        self._has_waiters.set()
        try:
            result = await self.get(inspection_id)
            if result is None or result.state.final:
                return result
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), seconds)
            return await self.get(inspection_id)
        finally:
            self._leave(inspection_id, ended)

    def _leave(self, inspection_id: str, ended: asyncio.Event) -> None:
        waiting = self._waiters[inspection_id]
        waiting.discard(ended)
        if not waiting:
            del self._waiters[inspection_id]
        if not self._waiters:
            self._has_waiters.clear()

    async def _follow(self) -> None:
        """Read the event stream while a request waits; go on after every error."""
        last: str | None = None
        while not self._closing:
            if not self._has_waiters.is_set():
                last = None
                await self._has_waiters.wait()
            try:
                if last is None:
                    last = await self._last_event()
                    await self._notify_ended()
                for entry, fields in await self._read_after(last):
                    last = entry
                    self._notify(fields["id"])
            except Exception as error:
                log.warning("event stream not read", error=str(error), kind=type(error).__name__)
                last = None
                await asyncio.sleep(PAUSE_S)

    async def _last_event(self) -> str:
        newest = await cast("Any", self._redis.xrevrange(keys.EVENTS, count=1))
        return cast(str, newest[0][0]) if newest else "0-0"

    async def _read_after(self, last: str) -> list[tuple[str, dict[str, str]]]:
        reply = await cast("Any", self._redis.xread({keys.EVENTS: last}, count=500, block=self._block_ms))
        return cast("list[tuple[str, dict[str, str]]]", reply[0][1]) if reply else []

    async def _notify_ended(self) -> None:
        """Notify the waiters whose inspections ended before the first event that will be read."""
        for inspection_id in list(self._waiters):
            state = await cast("Any", self._redis.hget(keys.inspection(inspection_id), "state"))
            if state is None or State(state).final:
                self._notify(inspection_id)

    def _notify(self, inspection_id: str) -> None:
        for ended in self._waiters.get(inspection_id, ()):
            ended.set()


def read_result(inspection_id: str, fields: Sequence[str | None]) -> Result | None:
    """Return the inspection from the `RESULT_FIELDS` of its hash; None if it is unknown, or no longer kept."""
    text, state, result, attempt, started_ms, submitted_ms, reviews, overtime = fields
    if state is None:
        return None
    if result is not None:
        lines = [line for line in (reviews or "").split("\n") if line]
        ended = Result.model_validate_json(result)
        return ended.model_copy(update={"reviews": tuple(Review.model_validate_json(line) for line in lines)})
    started_at = datetime.fromtimestamp(int(started_ms) / 1000, UTC) if started_ms else None
    attempts = int(attempt or 0)
    try:
        job = Job.model_validate_json(text or "")
    except ValidationError:  # the next worker that claims the job ends it
        submitted = int(submitted_ms or 0)
        return partial_result(inspection_id, text, State(state), submitted, started_at=started_at, attempts=attempts)
    return waiting_result(job, State(state), started_at=started_at, attempts=attempts, overtime=overtime is not None)


def acceptance(submitted_ms: str | None, entry: str | None) -> tuple[int, int]:
    """Return when Redis took a job, in ms since 1970, and its number within this millisecond; 0: not known.

    It is the id of the job's entry in its stream, which never goes back, even if Redis's clock does.

    Args:
        submitted_ms: Redis's clock at the submission, where there is no entry.
        entry: id of the entry: `ms-number`.
    """
    moment_ms, _, number = (entry or submitted_ms or "0").partition("-")
    return int(moment_ms), int(number or 0)

"""The end of a job and what is known of it: complete and fail for workers, get and wait for the API."""

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

from service.contract import Event, Failure, Job, Priority, Result, Review, State
from service.queue import keys
from service.queue.claims import ClaimedJob, UnreadableJob, buried, remains
from service.queue.connection import LONGEST_BLOCK_MS
from service.queue.scripts import load

PAUSE_S = 0.2
"""Between an error and the next attempt to read the event stream."""
RESULT_FIELDS = ["job", "state", "result", "attempt", "started_ms", "submitted_ms", "reviews"]
"""Of an inspection's hash, in the order of `read_result`."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Retention:
    """How long ended inspections stay and how many, and how long the event stream may grow."""

    result_ttl_s: int = 7 * 86_400
    max_events: int = 1_000_000
    """The event stream keeps so many; and up to twice as many while a consumer group has not read them."""
    max_results: int = 1_000_000


class Completer:
    """Ends inspections: result, event, history and acknowledgement in one script, fenced by owner and attempt."""

    def __init__(self, client: redis.Redis, pool: str, retention: Retention) -> None:
        self._keys = keys.PoolKeys(pool)
        self._retention = retention
        self._script = client.register_script(load("pace", "history", "events", "complete"))

    def complete(self, claimed: ClaimedJob, result: Result, *, dead_reason: str = "") -> bool:
        """True: this result is the visible one (also when an earlier call's reply was lost). False: the claim is stale
        and nothing changed. `dead_reason`: also leaves a dead letter."""
        if result.id != claimed.id or not result.state.final:
            raise ValueError(f"result is of {result.id} in state {result.state}; the claim is of {claimed.id}")
        return self._end(claimed.owner, claimed.attempt, claimed.job.priority, result, dead_reason)

    def bury(self, job: UnreadableJob) -> bool:
        """Ends what nobody can read: a `failed` inspection and a dead letter; returns as `complete` does."""
        result = buried(job)
        assert result.error is not None
        return self._end(job.owner, job.attempt, job.priority, result, result.error.detail)

    def _end(self, owner: str, attempt: int, priority: Priority, result: Result, dead_reason: str) -> bool:
        outcome = self._script(
            keys=[
                keys.inspection(result.id),
                self._keys.jobs(priority),
                self._keys.leases,
                keys.held(owner),
                keys.EVENTS,
                self._keys.dead,
                keys.HISTORY,
                self._keys.pace,
                self._keys.served,
            ],
            args=[
                result.id,
                owner,
                attempt,
                keys.GROUP,
                result.state.value,
                result.to_json(),
                Event.of(result).model_dump_json(exclude_none=True),
                self._retention.result_ttl_s * 1000,
                self._retention.max_events,
                dead_reason,
                (result.verdict or result.state).value,
                self._retention.max_results,
                keys.INSPECTION_PREFIX,
                keys.UNFINISHED_PREFIX,
            ],
        )
        return cast(str, outcome) != "stale"

    def fail(self, claimed: ClaimedJob, error: Failure, *, state: State = State.FAILED, dead_reason: str = "") -> bool:
        """Ends without a verdict; returns as `complete` does."""
        result = Result.ended(claimed.job, state, error, started_at=claimed.started_at, attempts=claimed.attempt)
        return self.complete(claimed, result, dead_reason=dead_reason)


class Results:
    """Reads inspections and waits for their end. One reader follows the event stream for all who wait.

    Use as an async context manager. A waiter registers first and reads the state then, so no end falls between; after a
    lost connection every waiter's state is read again.
    """

    def __init__(self, client: redis.asyncio.Redis, *, block_ms: int = LONGEST_BLOCK_MS) -> None:
        self._redis = client
        self._block_ms = block_ms
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._someone_waits = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._follow(), name="glad-results")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        # Again and again: asyncio and the client may swallow a cancellation that meets the end of an await.
        while self._reader is not None and not self._reader.done():
            self._reader.cancel()
            await asyncio.wait({self._reader}, timeout=0.1)

    async def get(self, inspection_id: str) -> Result | None:
        """The inspection as it stands; None if it is unknown, or was kept long enough. RedisError if Redis is away."""
        fields = await cast("Any", self._redis.hmget(keys.inspection(inspection_id), RESULT_FIELDS))
        return read_result(inspection_id, fields)

    async def wait(self, inspection_id: str, seconds: float) -> Result | None:
        """The inspection at its end, or as it stands when the time is over. RedisError if Redis is away."""
        ended = asyncio.Event()
        self._waiters.setdefault(inspection_id, set()).add(ended)
        self._someone_waits.set()
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
            self._someone_waits.clear()

    async def _follow(self) -> None:
        """Reads the event stream while somebody waits; goes on after every error."""
        last: str | None = None
        while not self._closing:
            if not self._someone_waits.is_set():
                last = None
                await self._someone_waits.wait()
            try:
                if last is None:
                    last = await self._last_event()
                    await self._look_at_all()
                for entry, fields in await self._read_after(last):
                    last = entry
                    self._tell(fields["id"])
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

    async def _look_at_all(self) -> None:
        """What ended before the first event that will be read."""
        for inspection_id in list(self._waiters):
            state = await cast("Any", self._redis.hget(keys.inspection(inspection_id), "state"))
            if state is None or State(state).final:
                self._tell(inspection_id)

    def _tell(self, inspection_id: str) -> None:
        for ended in self._waiters.get(inspection_id, ()):
            ended.set()


def read_result(inspection_id: str, fields: Sequence[str | None]) -> Result | None:
    """The inspection as `RESULT_FIELDS` of its hash tell; None if it is unknown, or was kept long enough."""
    text, state, result, attempt, started_ms, submitted_ms, reviews = fields
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
    except ValidationError:  # the next worker that claims it ends it
        more = {"started_at": started_at, "attempts": attempts}
        return remains(inspection_id, text, State(state), int(submitted_ms or 0), **more)
    return Result.waiting(job, State(state), started_at=started_at, attempts=attempts)

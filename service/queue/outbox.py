"""A sink's progress in the event stream: pending events, retries and dead letters.

All of it is kept in Redis and read again for every turn, so that a restart, a lost reply or another process goes on
where the last one stopped. An event that is not delivered stays pending in the sink's consumer group, and the stream is
not trimmed below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from redis.exceptions import ResponseError

from service.contract import Message
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.scripts import load

MOST_PENDING = 10_000
"""Far more events than any sink takes at a time."""
MOST_DEAD = 100_000
"""Number of dead letters that are kept; beyond it the oldest go."""


class Retry(Message):
    """Failed attempts to deliver one event. Times in ms of Redis's clock."""

    attempts: int
    since_ms: int
    """Time of the first failure."""
    due_ms: int
    """Time of the next attempt."""
    reason: str
    """Reason of the last failure."""
    refusals: int = 0
    """Those attempts at which the receiver refused this very event."""


@dataclass(frozen=True)
class Pending:
    """An event that was taken and is not delivered yet."""

    id: str
    idle_ms: int
    """Time since it was taken."""
    retry: Retry | None
    """None: it was never tried, or the process that tried it died."""


@dataclass(frozen=True)
class SinkProgress:
    """A sink's progress at one moment."""

    now_ms: int
    pending: tuple[Pending, ...]
    """Pending events in the stream's order."""
    events_kept: int
    """Length of the whole stream."""

    @property
    def lag_s(self) -> float:
        """Age of the oldest event that was taken and not delivered, in s."""
        return max(0.0, (self.now_ms - added_ms(self.pending[0].id)) / 1000) if self.pending else 0.0


def added_ms(event_id: str) -> int:
    """Return when an event was added, in ms of Redis's clock."""
    return int(event_id.partition("-")[0])


class Subscription:
    """A sink's consumer group. Methods raise RedisError if Redis is away: call again."""

    def __init__(self, client: redis.Redis, sink: str) -> None:
        self.sink = sink
        self._redis = client
        self._group, self._retries = keys.outbox_group(sink), keys.outbox_retries(sink)
        self._dead_letter = client.register_script(load("dead_letter"))

    def ensure(self) -> bool:
        """Create the group if there is none, for events from now on; return whether it was created."""
        try:
            self._redis.xgroup_create(keys.EVENTS, self._group, id="$", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
            return False
        return True

    def progress(self) -> SinkProgress:
        """Return the sink's progress; remove retries of events that are no longer pending."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.xpending_range(keys.EVENTS, self._group, min="-", max="+", count=MOST_PENDING)
            pipe.hgetall(self._retries)
            pipe.xlen(keys.EVENTS)
            (seconds, micros), rows, retries, length = pipe.execute()
        pending = tuple(
            Pending(row["message_id"], row["time_since_delivered"], _retry(retries, row["message_id"])) for row in rows
        )
        if orphans := set(retries) - {one.id for one in pending}:
            self._redis.hdel(self._retries, *orphans)
        return SinkProgress(seconds * 1000 + micros // 1000, pending, length)

    def take_new(self, count: int, block_ms: int) -> int:
        """Take up to `count` further events, pending from now on; wait at most `block_ms` for the first one."""
        reply = cast(
            "Any",
            self._redis.xreadgroup(self._group, keys.CONSUMER, {keys.EVENTS: ">"}, count=count, block=max(1, block_ms)),
        )
        return len(reply[0][1]) if reply else 0

    def fetch(self, ids: Sequence[str]) -> list[StoredEvent]:
        """Return the events of these ids, without those that the stream no longer has."""
        with self._redis.pipeline(transaction=False) as pipe:
            for event_id in ids:
                pipe.xrange(keys.EVENTS, min=event_id, max=event_id)
            found = pipe.execute()
        return [StoredEvent(rows[0][0], rows[0][1]["event"]) for rows in found if rows]

    def settle(self, done: Iterable[str], later: Mapping[str, Retry]) -> None:
        """Acknowledge events that were delivered or lost for good, and note the retries of others."""
        finished = list(done)
        with self._redis.pipeline(transaction=True) as pipe:
            if finished:
                pipe.xack(keys.EVENTS, self._group, *finished)
                pipe.hdel(self._retries, *finished)
            if later:
                pipe.hset(self._retries, mapping={name: retry.model_dump_json() for name, retry in later.items()})
            pipe.execute()

    def dead_letter(self, event: StoredEvent, retry: Retry) -> bool:
        """Give up an event: it becomes a dead letter. Return False if it was no longer pending."""
        return bool(
            self._dead_letter(
                keys=[keys.EVENTS, self._retries, keys.OUTBOX_DEAD],
                args=[self._group, self.sink, event.id, event.text, retry.reason, retry.attempts, MOST_DEAD],
            )
        )


def _retry(retries: Mapping[str, str], event_id: str) -> Retry | None:
    text = retries.get(event_id)
    return None if text is None else Retry.model_validate_json(text)


@dataclass(frozen=True)
class DeadEvent:
    """An event that was given up."""

    entry: str
    """Id of its entry among the dead letters."""
    sink: str
    event: StoredEvent
    reason: str
    attempts: int


class DeadEvents:
    """The events that were given up, of all sinks."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def all(self, sink: str | None = None) -> list[DeadEvent]:
        """Return the dead letters of one sink, or of all, the oldest first."""
        rows = cast("Any", self._redis.xrange(keys.OUTBOX_DEAD))
        letters = (
            DeadEvent(entry, row["sink"], StoredEvent(row["id"], row["event"]), row["reason"], int(row["attempts"]))
            for entry, row in rows
        )
        return [letter for letter in letters if sink in {None, letter.sink}]

    def remove(self, letter: DeadEvent) -> None:
        """Remove a dead letter that was delivered or discarded."""
        self._redis.xdel(keys.OUTBOX_DEAD, letter.entry)


@dataclass(frozen=True)
class Subscriber:
    """A sink that has a consumer group on the event stream, whether or not it is configured now."""

    sink: str
    pending: int
    last_taken: str
    """Id of the newest event that it took."""


class Subscribers:
    """All sinks that have a consumer group on the event stream."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def all(self) -> list[Subscriber]:
        """Return them, sorted by name."""
        if not self._redis.exists(keys.EVENTS):
            return []
        groups = cast("list[Any]", self._redis.xinfo_groups(keys.EVENTS))
        return sorted(
            (
                Subscriber(
                    group["name"].removeprefix(keys.OUTBOX_GROUP_PREFIX), group["pending"], group["last-delivered-id"]
                )
                for group in groups
                if group["name"].startswith(keys.OUTBOX_GROUP_PREFIX)
            ),
            key=lambda subscriber: subscriber.sink,
        )

    def remove(self, sink: str) -> bool:
        """Remove a sink's consumer group with its undelivered events; return False if there was none."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xgroup_destroy(keys.EVENTS, keys.outbox_group(sink))
            pipe.delete(keys.outbox_retries(sink), keys.outbox_writer(sink))
            return bool(pipe.execute()[0])


class SinkLeases:
    """Leases on sinks: one process at a time delivers to a sink, the others stand by."""

    def __init__(self, client: redis.Redis, owner: str, lease_ms: int) -> None:
        self._owner, self._lease_ms = owner, lease_ms
        self._acquire, self._release = (client.register_script(load(name)) for name in ("acquire", "release"))

    def acquire(self, sinks: Sequence[str]) -> frozenset[str]:
        """Take or prolong the leases on these sinks; return the sinks that this process now delivers to."""
        held = self._acquire(keys=[keys.outbox_holder(sink) for sink in sinks], args=[self._owner, self._lease_ms])
        return frozenset(sink for sink, got in zip(sinks, cast("list[int]", held), strict=True) if got)

    def release(self, sinks: Sequence[str]) -> None:
        """Give up the leases on these sinks, so that another process may take over at once."""
        self._release(keys=[keys.outbox_holder(sink) for sink in sinks], args=[self._owner])

"""The loop that all sinks share: look, deliver what is due, settle; else take further events, or wait.

    taken ──deliver──> delivered: acknowledged
                 └───> failed: tried again later, each time a little later ──given up──> dead letter

Each turn reads from Redis where the sink stands, so a turn that is cut off anywhere is begun again by the next one, in
this process or another. What was delivered but not yet acknowledged then goes out twice: at least once.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from redis.exceptions import RedisError

from service.host.child_process import Backoff
from service.host.shutdown import Shutdown
from service.outbox.metrics import OutboxMetrics
from service.queue.connection import LONGEST_BLOCK_MS
from service.queue.events import StoredEvent
from service.queue.outbox import Pending, Retry, Standing, Subscription

PAUSE_S = 1.0
"""Between an error of Redis, or a look at who holds the sink, and the next."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Policy:
    """How a sink wants its events."""

    batch: int
    """Events of one delivery, at most."""
    most_failed: int = 1
    """With so many events to be tried again, no further one is taken. 1 keeps the order."""
    linger_s: float = 0.0
    """How long an event waits for others, so that they are delivered together."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, most_s=60.0))
    give_up_after_s: float | None = None
    """From the first failure to the dead letter; None: never."""


@dataclass(frozen=True)
class Undelivered:
    """Why an event was not delivered."""

    event_id: str
    reason: str
    wait_s: float = 0.0
    """The receiver asks not to be called before."""


class Sink(Protocol):
    """Where events go."""

    @property
    def name(self) -> str:
        """Names its place in the event stream, and its metrics. Stays the same over restarts."""
        ...

    @property
    def policy(self) -> Policy:
        """How it wants its events."""
        ...

    def deliver(self, events: Sequence[StoredEvent]) -> Sequence[Undelivered]:
        """Delivers these, in the stream's order; returns those that failed."""
        ...

    def idle(self, now_ms: int) -> None:
        """All events up to this moment of Redis's clock are delivered: time for what can wait."""
        ...

    def close(self) -> None:
        """Lets connections go."""
        ...


def message(event: StoredEvent) -> str:
    """What every sink sends: the event's JSON, with its `event_id` first."""
    return json.dumps({"event_id": event.id, **event.fields}, ensure_ascii=False, separators=(",", ":"))


class Relay:
    """Delivers the event stream to one sink."""

    def __init__(
        self, sink: Sink, subscription: Subscription, metrics: OutboxMetrics, stop: Shutdown, holds: Callable[[], bool]
    ) -> None:
        """`holds`: whether this process is the one that delivers to the sink now."""
        self.sink = sink
        self._subscription, self._metrics, self._stop, self._holds = subscription, metrics, stop, holds
        self.last_turn = time.monotonic()

    def run(self) -> None:
        """Delivers until told to stop. An error of Redis, or of the sink, delays; any other ends it."""
        self.last_turn = time.monotonic()
        while not self._stop.draining():
            try:
                if self._holds():
                    self.turn()
                else:
                    self._metrics.stands_by(self.sink.name)
                    self._stop.wait(PAUSE_S)
            except (RedisError, OSError) as error:
                self._recover(error)
            self.last_turn = time.monotonic()
        self.sink.close()

    def _recover(self, error: Exception) -> None:
        if "NOGROUP" in str(error):  # removed by hand, or with all else in this Redis
            log.warning("place in the event stream is gone: begun again from now on", sink=self.sink.name)
            with suppress(RedisError):  # away again: the next turn finds the same
                self._subscription.ensure()
                return
        log.warning("event stream not read", sink=self.sink.name, error=str(error), kind=type(error).__name__)
        self._stop.wait(PAUSE_S)

    def turn(self) -> None:
        """Delivers what is due; where nothing is, takes what comes next."""
        policy, standing = self.sink.policy, self._subscription.look()
        self._metrics.stands(self.sink.name, standing)
        if due := due_now(standing, policy):
            self._deliver(standing, due)
            return
        wait_ms = wait_ms_of(standing, policy)
        if room := room_of(standing, policy):
            taken = self._subscription.take(room, wait_ms)
            if not taken and not standing.pending:
                self._idle(standing.now_ms)
        else:
            self._stop.wait(wait_ms / 1000)

    def _deliver(self, standing: Standing, due: Sequence[Pending]) -> None:
        began = time.monotonic()
        events = self._subscription.fetch([one.id for one in due])
        self._forget({one.id for one in due} - {event.id for event in events})
        failed = {one.event_id: one for one in self._try(events)} if events else {}
        now_ms = standing.now_ms + int((time.monotonic() - began) * 1000)
        earlier = {one.id: one.retry for one in due}
        factor = random.uniform(0.8, 1.2)  # one for all: events that failed together come again together, in order
        later = {
            name: after(earlier[name], one, self.sink.policy, now_ms, factor=factor) for name, one in failed.items()
        }
        given_up = [event for event in events if event.id in later and self._gives_up(later[event.id], now_ms)]
        for event in given_up:
            self._give_up(event, later.pop(event.id))
        delivered = [event.id for event in events if event.id not in failed]
        self._subscription.settle(delivered, later)
        self._metrics.delivered(self.sink.name, len(delivered))

    def _idle(self, now_ms: int) -> None:
        try:
            self.sink.idle(now_ms)
        except RedisError:
            raise
        except Exception:  # a fault in one sink must not end the process that serves the others
            log.exception("sink failed", sink=self.sink.name)
            self._stop.wait(PAUSE_S)

    def _try(self, events: Sequence[StoredEvent]) -> Sequence[Undelivered]:
        try:
            failed = self.sink.deliver(events)
        except Exception as error:  # a fault in a sink must not lose its events, nor stop the others
            log.exception("sink failed", sink=self.sink.name)
            failed = [Undelivered(event.id, f"{type(error).__name__} in the outbox") for event in events]
        if failed:
            self._metrics.failed(self.sink.name, len(failed))
            log.warning(
                "events not delivered", sink=self.sink.name, count=len(failed), first=failed[0].event_id,
                reason=failed[0].reason,
            )  # fmt: skip
        return failed

    def _gives_up(self, retry: Retry, now_ms: int) -> bool:
        limit = self.sink.policy.give_up_after_s
        return limit is not None and now_ms - retry.since_ms >= limit * 1000

    def _give_up(self, event: StoredEvent, retry: Retry) -> None:
        if self._subscription.bury(event, retry):
            self._metrics.gave_up(self.sink.name)
            log.error(
                "event given up", sink=self.sink.name, event_id=event.id, attempts=retry.attempts, reason=retry.reason
            )

    def _forget(self, lost: set[str]) -> None:
        """The stream reached twice its length, and let go of what was pending."""
        if lost:
            self._metrics.lost(self.sink.name, len(lost))
            log.error("events were trimmed before they were delivered", sink=self.sink.name, count=len(lost))
            self._subscription.settle(lost, {})


def is_held_up(standing: Standing, policy: Policy) -> bool:
    """So many have failed that no new one is tried."""
    return sum(one.retry is not None for one in standing.pending) >= policy.most_failed


def due_now(standing: Standing, policy: Policy) -> list[Pending]:
    """What is to be delivered now, in order: failed events whose time has come; and new ones, unless too many have
    failed, once there are enough or the oldest has waited long enough."""
    held_up = is_held_up(standing, policy)
    ready = [one for one in standing.pending if (one.retry.due_ms <= standing.now_ms if one.retry else not held_up)]
    waited_ms = max((one.idle_ms for one in ready), default=0)
    if len(ready) >= policy.batch or waited_ms >= policy.linger_s * 1000 or any(one.retry for one in ready):
        return ready[: policy.batch]
    return []


def room_of(standing: Standing, policy: Policy) -> int:
    """How many further events may be taken."""
    failed = sum(one.retry is not None for one in standing.pending)
    return max(0, policy.batch - (len(standing.pending) - failed)) if failed < policy.most_failed else 0


def wait_ms_of(standing: Standing, policy: Policy) -> int:
    """How long until something pending is due, at most as long as a blocking read may take."""
    held_up = is_held_up(standing, policy)
    waits = [
        one.retry.due_ms - standing.now_ms if one.retry else int(policy.linger_s * 1000) - one.idle_ms
        for one in standing.pending
        if one.retry or not held_up
    ]
    return max(1, min([*waits, LONGEST_BLOCK_MS]))


def after(earlier: Retry | None, failed: Undelivered, policy: Policy, now_ms: int, *, factor: float) -> Retry:
    """The record of one more failure: the wait doubles each time, times a random factor."""
    attempts = 1 + (earlier.attempts if earlier else 0)
    wait_s = max(policy.backoff.delay_s(attempts) * factor, min(failed.wait_s, policy.backoff.most_s))
    return Retry(
        attempts=attempts,
        since_ms=earlier.since_ms if earlier else now_ms,
        due_ms=now_ms + int(wait_s * 1000),
        reason=failed.reason,
    )

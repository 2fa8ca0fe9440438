"""The loop that all sinks share: read the sink's state, deliver what is due, settle; else take further events, or wait.

    taken ──deliver──> delivered: acknowledged
                 └───> failed: tried again after a delay that grows ──given up──> dead letter
                       (given up: for too long, or refused by itself too often)

One event must not hold up all others for ever. An event that no attempt can deliver, for it cannot be read or written,
is found alone, and counts as refused. Where the order does not matter, further events are tried beside many that fail.

Each turn reads the sink's state from Redis, so a turn that is interrupted anywhere is repeated by the next one, in this
process or another. An event that was delivered but not yet acknowledged is then delivered twice: delivery is at least
once.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog
from redis.exceptions import RedisError

from service.host.child_process import Backoff
from service.host.shutdown import Shutdown
from service.outbox.metrics import OutboxMetrics
from service.queue.connection import LONGEST_BLOCK_MS
from service.queue.events import StoredEvent
from service.queue.outbox import Pending, Retry, SinkProgress, Subscription

PAUSE_S = 1.0
"""Seconds to wait after an error of Redis, and while another process delivers to the sink."""

MOST_REFUSALS = 8
"""Of one event by itself: with the usual delays between the attempts, some minutes."""
PROBE_S = 60.0
"""While too many have failed, so often a further event is tried."""
FAULTS_OF_EVENTS = (ValueError, LookupError, TypeError, AttributeError)
"""What a sink raises at an event that is not as it should be; all else may pass by itself."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DeliveryPolicy:
    """How a sink's events are grouped and repeated."""

    batch: int
    """The largest number of events in one delivery."""
    most_failed: int = 1
    """With so many failed events no further one is taken, until one of them is delivered. 1 keeps the order."""
    most_failed_alone: int | None = None
    """So many may fail while others are delivered: then it is not the receiver that fails. None: no more than that."""
    linger_s: float = 0.0
    """How long an event waits for others, in seconds, so that they are delivered together."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, most_s=60.0))
    give_up_after_s: float | None = None
    """Seconds from the first failure to the dead letter; None: never."""
    most_refusals: int = MOST_REFUSALS
    """So many refusals of an event by itself make it a dead letter."""


@dataclass(frozen=True)
class Undelivered:
    """An event that was not delivered, and why."""

    event_id: str
    reason: str
    wait_s: float = 0.0
    """How long the receiver asks not to be called, in seconds."""
    refused: bool = False
    """The receiver is there, and refused this very event, or would not hear of it alone."""


class Sink(Protocol):
    """A destination of events: a webhook, an MQTT broker, the archive."""

    @property
    def name(self) -> str:
        """Name of its position in the event stream and of its metrics; it stays the same over restarts."""
        ...

    @property
    def policy(self) -> DeliveryPolicy:
        """How its events are grouped and repeated."""
        ...

    def deliver(self, events: Sequence[StoredEvent]) -> Sequence[Undelivered]:
        """Deliver these events, in the stream's order; return those that failed."""
        ...

    def idle(self, now_ms: int) -> None:
        """Do work that can wait: all events before `now_ms` (Redis's clock, ms since 1970) are delivered."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def event_message(event: StoredEvent) -> str:
    """Return what every sink sends: the event's JSON, with its `event_id` first."""
    return json.dumps({"event_id": event.id, **event.fields}, ensure_ascii=False, separators=(",", ":"))


class Relay:
    """Delivers the event stream to one sink, one turn after the other."""

    def __init__(
        self,
        sink: Sink,
        subscription: Subscription,
        metrics: OutboxMetrics,
        stop: Shutdown,
        is_holder: Callable[[], bool],
    ) -> None:
        """Make a relay.

        Args:
            is_holder: returns whether this process is the one that delivers to the sink now.
        """
        self.sink = sink
        self._subscription, self._metrics, self._stop, self._is_holder = subscription, metrics, stop, is_holder
        self.last_turn = time.monotonic()
        self._probe_at = self.last_turn
        """When a further event may be tried although too many have failed."""

    def run(self) -> None:
        """Deliver until a stop is requested. Errors of Redis and of the sink only delay; any other ends the loop."""
        self.last_turn = time.monotonic()
        while not self._stop.draining():
            try:
                if self._is_holder():
                    self.turn()
                else:
                    self._metrics.set_standby(self.sink.name)
                    self._stop.wait(PAUSE_S)
            except (RedisError, OSError) as error:
                self._recover(error)
            self.last_turn = time.monotonic()
        self.sink.close()

    def _recover(self, error: Exception) -> None:
        if "NOGROUP" in str(error):  # removed by hand, or because Redis was emptied
            log.warning("position in the event stream is gone: starting again with new events", sink=self.sink.name)
            with suppress(RedisError):  # Redis is away again: the next turn gets the same error
                self._subscription.ensure()
                return
        log.warning("event stream not read", sink=self.sink.name, error=str(error), kind=type(error).__name__)
        self._stop.wait(PAUSE_S)

    def turn(self) -> None:
        """Deliver the events that are due; if there are none, take the next ones, or wait."""
        standing = self._subscription.progress()
        policy = self._policy(standing)
        self._metrics.set_standing(self.sink.name, standing)
        if due := due_now(standing, policy):
            self._deliver(standing, due)
            return
        wait_ms = ms_until_due(standing, policy)
        if room := free_capacity(standing, policy):
            # The events that were taken are pending in Redis now, and the next turn delivers them: delivering them here
            # would be a second way to do the same.
            taken = self._subscription.take_new(room, wait_ms)
            if not taken and not standing.pending:
                self._idle(standing.now_ms)
        else:
            self._stop.wait(wait_ms / 1000)

    def _policy(self, standing: SinkProgress) -> DeliveryPolicy:
        """Return the sink's policy; where a further event is to show whether the receiver hears, one that allows it."""
        policy, failed = self.sink.policy, count_failed(standing)
        may_probe = policy.most_failed_alone is not None and time.monotonic() >= self._probe_at
        if not may_probe or failed < policy.most_failed:
            return policy
        return replace(policy, most_failed=min(failed + 1, policy.most_failed_alone or 0))

    def _note_receiver(self, fresh: set[str], failed: set[str]) -> None:
        """Remember whether events that were tried for the first time arrived."""
        if fresh & failed:
            self._probe_at = time.monotonic() + PROBE_S
        elif fresh:
            self._probe_at = time.monotonic()

    def _deliver(self, standing: SinkProgress, due: Sequence[Pending]) -> None:
        began = time.monotonic()
        events = self._subscription.fetch([one.id for one in due])
        self._forget({one.id for one in due} - {event.id for event in events})
        failed = {one.event_id: one for one in self._try(events)} if events else {}
        self._note_receiver({one.id for one in due if one.retry is None}, set(failed))
        now_ms = standing.now_ms + int((time.monotonic() - began) * 1000)
        earlier = {one.id: one.retry for one in due}
        # One factor for all of them: events that failed together are due together again, and so stay in order.
        factor = random.uniform(0.8, 1.2)
        later = {
            name: next_retry(earlier[name], one, self.sink.policy, now_ms, factor=factor)
            for name, one in failed.items()
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
        except Exception:  # an error in one sink must not end the process, which serves the others too
            log.exception("sink failed", sink=self.sink.name)
            self._stop.wait(PAUSE_S)

    def _try(self, events: Sequence[StoredEvent]) -> Sequence[Undelivered]:
        failed = self._attempt(events)
        if failed:
            self._metrics.failed(self.sink.name, len(failed))
            log.warning(
                "events not delivered", sink=self.sink.name, count=len(failed), first=failed[0].event_id,
                reason=failed[0].reason,
            )  # fmt: skip
        return failed

    def _attempt(self, events: Sequence[StoredEvent]) -> Sequence[Undelivered]:
        """Return the events that were not delivered. An error in a sink must neither lose them nor stop other sinks."""
        try:
            return self.sink.deliver(events)
        except Exception as error:
            log.exception("sink failed", sink=self.sink.name)
            at_fault = isinstance(error, FAULTS_OF_EVENTS) and not isinstance(error, RedisError | OSError)
            if at_fault and len(events) > 1:
                return self._attempt_one_by_one(events)
            reason = f"{type(error).__name__} in the outbox: {error}"[:300]
            return [Undelivered(event.id, reason, refused=at_fault) for event in events]

    def _attempt_one_by_one(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Find the event that is at fault; where the order matters, those behind it wait."""
        found: list[Undelivered] = []
        for number, event in enumerate(events):
            found += self._attempt([event])
            if found and self.sink.policy.most_failed == 1:
                return [*found, *(Undelivered(one.id, f"waits for {event.id}") for one in events[number + 1 :])]
        return found

    def _gives_up(self, retry: Retry, now_ms: int) -> bool:
        limit_s = self.sink.policy.give_up_after_s
        too_long = limit_s is not None and now_ms - retry.since_ms >= limit_s * 1000
        return too_long or retry.refusals >= self.sink.policy.most_refusals

    def _give_up(self, event: StoredEvent, retry: Retry) -> None:
        if self._subscription.dead_letter(event, retry):
            self._metrics.gave_up(self.sink.name)
            log.error(
                "event given up", sink=self.sink.name, event_id=event.id, attempts=retry.attempts, reason=retry.reason
            )

    def _forget(self, lost: set[str]) -> None:
        """Settle events that the stream no longer has: it reached twice its length and was trimmed below them."""
        if lost:
            self._metrics.lost(self.sink.name, len(lost))
            log.error("events were trimmed before they were delivered", sink=self.sink.name, count=len(lost))
            self._subscription.settle(lost, {})


def count_failed(standing: SinkProgress) -> int:
    """Return how many of the pending events have failed before."""
    return sum(one.retry is not None for one in standing.pending)


def is_held_up(standing: SinkProgress, policy: DeliveryPolicy) -> bool:
    """Return whether so many events have failed that no new one is tried."""
    return count_failed(standing) >= policy.most_failed


def due_now(standing: SinkProgress, policy: DeliveryPolicy) -> list[Pending]:
    """Return the events to deliver now, in order.

    These are failed events whose delay is over and, unless too many have failed, new events, once they fill a batch or
    the oldest has waited long enough.
    """
    held_up = is_held_up(standing, policy)
    ready = [one for one in standing.pending if (one.retry.due_ms <= standing.now_ms if one.retry else not held_up)]
    # A failed event that is due does not wait for others: it has waited.
    waited_ms = max((one.idle_ms for one in ready), default=0)
    if len(ready) >= policy.batch or waited_ms >= policy.linger_s * 1000 or any(one.retry for one in ready):
        return ready[: policy.batch] if policy.most_failed == 1 else mixed(ready, policy.batch)
    return []


def mixed(ready: Sequence[Pending], count: int) -> list[Pending]:
    """Return some of these events, in order: as many that failed before as others, unless one kind has fewer."""
    again = [one for one in ready if one.retry]
    fresh = [one for one in ready if not one.retry]
    chosen = again[: max(count // 2, count - len(fresh))]
    chosen += fresh[: count - len(chosen)]
    return [one for one in ready if one in chosen]


def free_capacity(standing: SinkProgress, policy: DeliveryPolicy) -> int:
    """Return how many further events may be taken."""
    failed = count_failed(standing)
    return max(0, policy.batch - (len(standing.pending) - failed)) if failed < policy.most_failed else 0


def ms_until_due(standing: SinkProgress, policy: DeliveryPolicy) -> int:
    """Return the ms until a pending event is due, at most as long as a blocking read may take."""
    held_up = is_held_up(standing, policy)
    waits = [
        one.retry.due_ms - standing.now_ms if one.retry else int(policy.linger_s * 1000) - one.idle_ms
        for one in standing.pending
        if one.retry or not held_up
    ]
    return max(1, min([*waits, LONGEST_BLOCK_MS]))


def next_retry(
    earlier: Retry | None, failed: Undelivered, policy: DeliveryPolicy, now_ms: int, *, factor: float
) -> Retry:
    """Return the record of one more failure; the delay doubles each time and is multiplied by `factor`.

    A receiver may ask for a longer delay, up to the longest one of the policy.
    """
    attempts = 1 + (earlier.attempts if earlier else 0)
    wait_s = max(policy.backoff.delay_s(attempts) * factor, min(failed.wait_s, policy.backoff.most_s))
    return Retry(
        attempts=attempts,
        since_ms=earlier.since_ms if earlier else now_ms,
        due_ms=now_ms + int(wait_s * 1000),
        reason=failed.reason,
        refusals=int(failed.refused) + (earlier.refusals if earlier else 0),
    )

"""The loop that all sinks share: at least once, in order where order is asked for, given up after a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry
from redis.exceptions import ResponseError

from service.host.child_process import Backoff
from service.host.shutdown import Shutdown
from service.outbox.metrics import OutboxMetrics
from service.outbox.relay import (
    DeliveryPolicy,
    Relay,
    Undelivered,
    due_now,
    event_message,
    free_capacity,
    ms_until_due,
    next_retry,
)
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.outbox import DeadEvents, Pending, Retry, SinkProgress, Subscribers, Subscription
from service.queue.results import Retention
from tests.service.outbox.conftest import MakeRelay, running, turns
from tests.support.ended import end
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

AT_ONCE = Backoff(first_s=0.0, most_s=0.0)


@dataclass
class Toy:
    """Keeps what it is given, but for what `refuses` says."""

    policy: DeliveryPolicy = field(default_factory=lambda: DeliveryPolicy(batch=4, backoff=AT_ONCE))
    refuses: Callable[[str], bool] = lambda inspection_id: False
    name: str = "toy"
    got: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    idled: int = 0

    def deliver(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        self.batches.append(len(events))
        named = {event.id: str(event.fields["inspection_id"]) for event in events}
        failed = [event_id for event_id, name in named.items() if self.refuses(name)]
        self.got += [name for event_id, name in named.items() if event_id not in failed]
        return [Undelivered(event_id, "refused") for event_id in failed]

    def idle(self, now_ms: int) -> None:
        self.idled += 1

    def close(self) -> None:
        """Nothing to close."""


def pending_of(client: redis.Redis, sink: str = "toy") -> int:
    summary: Any = client.xpending(keys.EVENTS, keys.outbox_group(sink))
    return int(summary["pending"])


def sample(registry: CollectorRegistry, name: str, sink: str = "toy") -> float | None:
    return registry.get_sample_value(f"glad_outbox_{name}", {"sink": sink})


def test_a_sink_is_idle_only_when_nothing_waits_for_it(client: redis.Redis, make_relay: MakeRelay) -> None:
    sink = Toy(
        refuses=lambda inspection_id: True, policy=DeliveryPolicy(batch=4, most_failed=2, backoff=Backoff(60, 60))
    )
    relay = make_relay(sink)
    relay.turn()
    assert sink.idled == 1
    end(client, 1)
    turns(relay, 3)  # takes it, fails, finds no other one: what failed still waits
    assert (len(sink.batches), sink.idled) == (1, 1)


def test_events_arrive_in_order_and_are_acknowledged(
    client: redis.Redis, make_relay: MakeRelay, registry: CollectorRegistry
) -> None:
    end(client, 2)  # before the sink was first set up: not delivered
    sink = Toy()
    relay = make_relay(sink)
    ended = end(client, 6)
    turns(relay, 4)  # 4 taken, delivered; 2 taken, delivered
    assert sink.got == ended
    assert sink.batches == [4, 2]
    assert pending_of(client) == 0
    assert sample(registry, "delivered_total") == 6
    relay.turn()
    assert (sample(registry, "pending"), sample(registry, "lag_seconds")) == (0, 0)


def test_what_was_taken_before_a_crash_is_delivered_after_it(client: redis.Redis, make_relay: MakeRelay) -> None:
    relay = make_relay(Toy())
    ended = end(client, 3)
    relay.turn()  # taken; then the process dies
    assert pending_of(client) == 3
    sink = Toy()
    make_relay(sink).turn()
    assert sink.got == ended


def test_a_crash_between_delivery_and_acknowledgement_delivers_twice(
    client: redis.Redis, make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Toy()
    relay = make_relay(sink)
    ended = end(client, 3)
    relay.turn()
    with monkeypatch.context() as patch:
        patch.setattr(Subscription, "settle", _dies)
        with pytest.raises(KeyboardInterrupt):
            relay.turn()
    make_relay(sink).turn()
    assert sink.got == ended * 2
    assert pending_of(client) == 0


def _dies(*_given: object) -> None:
    raise KeyboardInterrupt


def test_a_sink_that_fails_keeps_its_order_and_loses_nothing(client: redis.Redis, make_relay: MakeRelay) -> None:
    broken = [True]
    sink = Toy(refuses=lambda _: broken[0])
    relay = make_relay(sink)
    ended = end(client, 7)
    turns(relay, 6)
    assert sink.got == []
    assert pending_of(client) == 4  # with one failed event nothing further is taken
    broken[0] = False
    turns(relay, 4)
    assert sink.got == ended


def test_one_that_always_fails_does_not_hold_up_the_others_and_becomes_a_dead_letter(
    client: redis.Redis, make_relay: MakeRelay, registry: CollectorRegistry
) -> None:
    poison: list[str] = []
    policy = DeliveryPolicy(batch=4, most_failed=2, backoff=AT_ONCE, give_up_after_s=60)
    sink = Toy(policy, refuses=lambda name: name in poison)
    relay = make_relay(sink)
    first, *rest = end(client, 6)
    poison.append(first)
    turns(relay, 2)
    assert sink.got == rest[:3]
    assert DeadEvents(client).all() == []
    time.sleep(0.1)
    sink.policy = replace(policy, give_up_after_s=0.1)
    turns(relay, 3)
    [letter] = DeadEvents(client).all()
    assert (letter.sink, letter.event.fields["inspection_id"], letter.reason) == ("toy", first, "refused")
    assert letter.attempts >= 2
    assert sink.got == rest
    assert pending_of(client) == 0
    assert client.hgetall(keys.outbox_retries("toy")) == {}
    assert sample(registry, "dead_lettered_total") == 1


def test_a_fault_in_the_sink_delays_and_loses_nothing(client: redis.Redis, make_relay: MakeRelay) -> None:
    faulty = [True]

    def refuses(_: str) -> bool:
        if faulty[0]:
            raise ZeroDivisionError
        return False

    sink = Toy(refuses=refuses)
    relay = make_relay(sink)
    ended = end(client, 2)
    turns(relay, 3)
    faulty[0] = False
    relay.turn()
    assert sink.got == ended


def test_a_fault_in_what_can_wait_ends_nothing(client: redis.Redis, make_relay: MakeRelay) -> None:
    class Faulty(Toy):
        def idle(self, now_ms: int) -> None:
            self.idled += 1
            raise ZeroDivisionError

    sink, stop = Faulty(), Shutdown()
    with running(make_relay(sink, stop), stop):
        eventually(lambda: sink.idled == 1)
        ended = end(client, 1)
        eventually(lambda: sink.got == ended)


def test_events_wait_for_others_only_as_long_as_they_may(client: redis.Redis, make_relay: MakeRelay) -> None:
    patient = DeliveryPolicy(batch=4, linger_s=60, backoff=AT_ONCE)
    sink = Toy(patient)
    relay = make_relay(sink)
    ended = end(client, 1)
    relay.turn()
    ended += end(client, 1)
    relay.turn()
    assert sink.got == []
    time.sleep(0.1)
    sink.policy = replace(patient, linger_s=0.1)
    relay.turn()
    assert sink.got == ended
    assert sink.batches == [2]
    sink.policy = patient
    ended += end(client, 4)
    turns(relay, 2)  # enough for a batch: at once
    assert sink.batches == [2, 4]


def test_a_lost_stream_entry_is_counted_and_stops_nothing(
    client: redis.Redis, make_relay: MakeRelay, registry: CollectorRegistry
) -> None:
    sink = Toy()
    relay = make_relay(sink)
    gone, kept = end(client, 2)
    relay.turn()
    entries: Any = client.xrange(keys.EVENTS)
    client.xdel(keys.EVENTS, next(entry for entry, fields in entries if fields["id"] == gone))
    relay.turn()
    assert sink.got == [kept]
    assert pending_of(client) == 0
    assert sample(registry, "lost_total") == 1


def test_the_stream_is_kept_for_a_sink_and_no_longer_once_it_is_forgotten(
    client: redis.Redis, make_relay: MakeRelay
) -> None:
    client.config_set("stream-node-max-entries", 1)
    make_relay(Toy())
    retention = Retention(max_events=3)
    end(client, 5, retention)
    assert client.xlen(keys.EVENTS) == 5
    assert [one.sink for one in Subscribers(client).all()] == ["toy"]
    assert Subscribers(client).remove("toy")
    assert not Subscribers(client).remove("toy")
    end(client, 1, retention)
    assert client.xlen(keys.EVENTS) == 3
    client.config_set("stream-node-max-entries", 100)


def test_a_place_that_was_removed_is_taken_anew_from_now_on(client: redis.Redis, make_relay: MakeRelay) -> None:
    sink, stop = Toy(), Shutdown()
    relay = make_relay(sink, stop)
    end(client, 1)
    client.flushall()
    with running(relay, stop):
        eventually(lambda: [one.sink for one in Subscribers(client).all()] == ["toy"])
        ended = end(client, 1)
        eventually(lambda: sink.got == ended)


def test_a_redis_that_dies_before_the_place_is_taken_anew_ends_no_loop(own_redis: RedisServer) -> None:
    stop = Shutdown()
    with own_redis.connect() as client:
        place = Subscription(client, "toy")
        relay = Relay(Toy(), place, OutboxMetrics(CollectorRegistry()), stop, lambda: True)
        own_redis.kill()
        stop.request()  # so that it does not wait
        relay._recover(ResponseError("NOGROUP No such key"))
        own_redis.start()
        relay._recover(ResponseError("NOGROUP No such key"))
        assert [one.sink for one in Subscribers(client).all()] == ["toy"]


def test_a_message_is_the_event_with_its_id_first() -> None:
    event = StoredEvent("17-3", '{"type":"inspection.done","station":"Süd"}')
    assert event_message(event) == '{"event_id":"17-3","type":"inspection.done","station":"Süd"}'


class TestPolicy:
    """By hand: now is 10,000 ms."""

    @staticmethod
    def standing(*pending: Pending) -> SinkProgress:
        return SinkProgress(10_000, pending, len(pending))

    @staticmethod
    def failed(name: str, due_ms: int) -> Pending:
        return Pending(name, 9_000, Retry(attempts=1, since_ms=1_000, due_ms=due_ms, reason=""))

    def test_with_too_many_failed_no_new_one_is_tried_or_taken(self) -> None:
        fresh, waits, due = Pending("3-0", 100, None), self.failed("1-0", 12_500), self.failed("2-0", 9_999)
        patient, strict = DeliveryPolicy(batch=8, most_failed=3), DeliveryPolicy(batch=8)
        assert due_now(self.standing(waits, due, fresh), patient) == [due, fresh]
        assert due_now(self.standing(waits, due, fresh), strict) == [due]
        assert free_capacity(self.standing(waits, due, fresh), patient) == 7
        assert free_capacity(self.standing(waits, due, fresh), strict) == 0

    def test_it_waits_no_longer_than_until_the_next_is_due(self) -> None:
        assert ms_until_due(self.standing(self.failed("1-0", 10_700)), DeliveryPolicy(batch=8)) == 700
        lingering = Pending("1-0", 200, None)
        assert ms_until_due(self.standing(lingering), DeliveryPolicy(batch=8, linger_s=1.0)) == 800
        assert ms_until_due(self.standing(), DeliveryPolicy(batch=8)) == 2000

    def test_a_new_one_that_failed_ones_hold_up_is_not_waited_for(self) -> None:
        held_up = self.standing(self.failed("1-0", 10_700), Pending("2-0", 5_000, None))
        assert due_now(held_up, DeliveryPolicy(batch=8)) == []
        assert ms_until_due(held_up, DeliveryPolicy(batch=8)) == 700
        assert ms_until_due(held_up, DeliveryPolicy(batch=8, most_failed=2)) == 1

    def test_waits_double_up_to_the_most_and_the_first_failure_is_remembered(self) -> None:
        policy = DeliveryPolicy(batch=1, backoff=Backoff(first_s=5.0, most_s=12.0))
        retry, waits = None, []
        for now_ms in (1_000, 100_000, 200_000):
            retry = next_retry(retry, Undelivered("1-0", "refused"), policy, now_ms, factor=1.0)
            waits.append(retry.due_ms - now_ms)
        assert waits == [5_000, 10_000, 12_000]
        assert retry is not None
        assert (retry.attempts, retry.since_ms) == (3, 1_000)

    def test_a_receiver_may_ask_for_more_time_within_the_most(self) -> None:
        policy = DeliveryPolicy(batch=1, backoff=Backoff(first_s=5.0, most_s=60.0))
        for asked_s, waited_ms in ((30.0, 30_000), (1.0, 5_000), (3600.0, 60_000)):
            failed = Undelivered("1-0", "answered 503", wait_s=asked_s)
            assert next_retry(None, failed, policy, 0, factor=1.0).due_ms == waited_ms

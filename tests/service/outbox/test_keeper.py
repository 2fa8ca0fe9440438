"""Who delivers: one process per sink, and after its lease another."""

from __future__ import annotations

import redis

from service.outbox.keeper import Keeper
from service.queue import keys
from service.queue.connection import connect
from service.queue.outbox import Holder

LEASE_S = 60.0


def keeper(client: redis.Redis, owner: str, *sinks: str) -> Keeper:
    return Keeper(Holder(client, owner, int(LEASE_S * 1000)), sinks, LEASE_S)


def test_a_sink_has_one_holder_and_each_may_have_another(client: redis.Redis) -> None:
    one, other = keeper(client, "one", "archive"), keeper(client, "other", "archive", "mqtt")
    for _ in range(2):  # keeping is like taking
        one.ask()
        other.ask()
    assert one.holds("archive")
    assert not other.holds("archive")
    assert other.holds("mqtt")


def test_one_that_lets_go_is_followed_at_once(client: redis.Redis) -> None:
    one, other = keeper(client, "one", "archive"), keeper(client, "other", "archive")
    one.start()
    other.ask()
    assert not other.holds("archive")
    one.stop()
    other.ask()
    assert other.holds("archive")
    one.stop()  # lets go of nothing that is not its own
    assert client.get(keys.outbox_holder("archive")) == "other"


def test_one_that_died_is_followed_after_its_lease(client: redis.Redis) -> None:
    dead, other = keeper(client, "dead", "archive"), keeper(client, "other", "archive")
    dead.ask()
    assert 59_000 < int(client.pttl(keys.outbox_holder("archive"))) <= 60_000
    client.delete(keys.outbox_holder("archive"))  # as its end does
    other.ask()
    assert other.holds("archive")
    dead.ask()
    assert not dead.holds("archive")


def test_one_that_hears_nothing_holds_only_for_its_lease(client: redis.Redis) -> None:
    now = [0.0]
    gone = Keeper(Holder(client, "one", 60_000), ["archive"], LEASE_S, clock=lambda: now[0])
    gone.ask()
    now[0] = 59.9
    assert gone.holds("archive")
    now[0] = 60.1
    assert not gone.holds("archive")


def test_without_redis_nothing_is_held() -> None:
    with connect("redis://127.0.0.1:1/0") as nobody:
        away = keeper(nobody, "one", "archive")
        away.ask()
        assert not away.holds("archive")

"""Who delivers: one process per sink, and after its lease another."""

from __future__ import annotations

import redis

from service.outbox.sink_lease import SinkLeaseKeeper
from service.queue import keys
from service.queue.connection import connect
from service.queue.outbox import SinkLeases

LEASE_S = 60.0


def keeper(client: redis.Redis, owner: str, *sinks: str) -> SinkLeaseKeeper:
    return SinkLeaseKeeper(SinkLeases(client, owner, int(LEASE_S * 1000)), sinks, LEASE_S)


def test_a_sink_has_one_holder_and_each_may_have_another(client: redis.Redis) -> None:
    one, other = keeper(client, "one", "archive"), keeper(client, "other", "archive", "mqtt")
    for _ in range(2):  # keeping is like taking
        one.renew()
        other.renew()
    assert one.is_holder("archive")
    assert not other.is_holder("archive")
    assert other.is_holder("mqtt")


def test_one_that_lets_go_is_followed_at_once(client: redis.Redis) -> None:
    one, other = keeper(client, "one", "archive"), keeper(client, "other", "archive")
    one.start()
    other.renew()
    assert not other.is_holder("archive")
    one.stop()
    other.renew()
    assert other.is_holder("archive")
    one.stop()  # lets go of nothing that is not its own
    assert client.get(keys.outbox_holder("archive")) == "other"


def test_one_that_died_is_followed_after_its_lease(client: redis.Redis) -> None:
    dead, other = keeper(client, "dead", "archive"), keeper(client, "other", "archive")
    dead.renew()
    assert 59_000 < int(client.pttl(keys.outbox_holder("archive"))) <= 60_000
    client.delete(keys.outbox_holder("archive"))  # as its end does
    other.renew()
    assert other.is_holder("archive")
    dead.renew()
    assert not dead.is_holder("archive")


def test_one_that_hears_nothing_holds_only_for_its_lease(client: redis.Redis) -> None:
    now = [0.0]
    gone = SinkLeaseKeeper(SinkLeases(client, "one", 60_000), ["archive"], LEASE_S, clock=lambda: now[0])
    gone.renew()
    now[0] = 59.9
    assert gone.is_holder("archive")
    now[0] = 60.1
    assert not gone.is_holder("archive")


def test_without_redis_nothing_is_held() -> None:
    with connect("redis://127.0.0.1:1/0") as nobody:
        away = keeper(nobody, "one", "archive")
        away.renew()
        assert not away.is_holder("archive")

"""A Redis with a replica, which takes its place when it fails: what was accepted is there, or that is told before."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.service.conftest import Running, StartApp
from tests.support.line import picture
from tests.support.processes import eventually, free_port
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"
KEY = {"Idempotency-Key": "part-1"}


@pytest.fixture
def master(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that replicas can follow."""
    server = RedisServer(tmp_path / "master", "--port", str(free_port()), "--bind", "127.0.0.1")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def replica(tmp_path: Path, master: RedisServer) -> Iterator[RedisServer]:
    """A server that follows the master, and has caught up."""
    with master.connect() as client:
        port = str(client.config_get("port")["port"])
        server = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", port)
        server.start()
        eventually(lambda: "state=online" in str(raw_info(client)))
    yield server
    server.signal(signal.SIGCONT)
    server.kill()


def raw_info(client: redis.Redis) -> Any:
    """INFO replication, as it comes."""
    found: Any = client.info("replication")
    return [f"{name}:state={one['state']}" for name, one in found.items() if isinstance(one, dict)]


async def ready(running: Running) -> tuple[int, str, dict[str, Any]]:
    """Status, word and checks."""
    answer = await running.http.get("/health/ready")
    return answer.status_code, answer.json()["status"], answer.json()["checks"]


async def test_what_was_accepted_is_there_after_a_failover(
    master: RedisServer, replica: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(master.url, redis_wait_replicas=1, redis_wait_ms=4000)
    accepted = await running.http.post(URL, content=picture())
    assert accepted.status_code == 202
    replica.signal(signal.SIGSTOP)
    # The second one is a repeat, which the master knows by now, and its replica does not; it comes by a connection that
    # has written nothing.
    other: Running = await start_app(master.url, redis_wait_replicas=1, redis_wait_ms=1000)
    refused = [await one.http.post(URL, content=picture(), headers=KEY) for one in (running, other)]
    assert [one.status_code for one in refused] == [503, 503]
    assert [one.json()["type"] for one in refused] == ["urn:glad:problem:queue-unavailable"] * 2
    assert "Retry-After" in refused[0].headers
    master.kill()
    replica.signal(signal.SIGCONT)
    with replica.connect() as client:
        client.replicaof("NO", "ONE")
    again: Running = await start_app(replica.url)
    found = await again.http.get(accepted.headers["location"])
    assert (found.status_code, found.json()["state"]) == (200, "queued")
    assert (await again.http.get(f"{accepted.headers['location']}/image")).status_code == 200


async def test_an_image_that_a_replica_had_late_is_accepted_when_it_is_sent_again(
    master: RedisServer, replica: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(master.url, redis_wait_replicas=1, redis_wait_ms=1000)
    replica.signal(signal.SIGSTOP)
    late = await running.http.post(URL, content=picture(), headers=KEY)
    assert late.status_code == 503
    assert len(running.stored()) == 1  # the master has its job, and a worker may inspect it
    replica.signal(signal.SIGCONT)
    statuses: list[int] = []
    while 202 not in statuses and len(statuses) < 60:
        answer = await running.http.post(URL, content=picture(), headers=KEY)
        statuses.append(answer.status_code)
    assert set(statuses) <= {202, 503}
    assert statuses[-1] == 202
    assert len(running.stored()) == 1
    assert (await running.services.jobs.estimate()).backlog == 1


async def test_replicas_that_no_write_waits_for_are_told(
    master: RedisServer, replica: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(master.url)
    status, word, checks = await ready(running)
    assert (status, word, checks["durability"]["ok"]) == (200, "degraded", False)
    assert "min-replicas-to-write" in checks["durability"]["detail"]
    assert "GLAD_REDIS_WAIT_REPLICAS" in checks["durability"]["detail"]
    assert "glad_redis_failover_loses 1.0" in (await running.http.get("/metrics")).text.splitlines()

    waiting: Running = await start_app(master.url, redis_wait_replicas=1)
    assert (await ready(waiting))[2]["durability"]["ok"] is True
    assert "glad_redis_failover_loses 0.0" in (await waiting.http.get("/metrics")).text.splitlines()

    with master.connect() as client:
        client.config_set("min-replicas-to-write", "1")
    assert (await ready(running))[2]["durability"]["ok"] is True


async def test_a_redis_that_would_refuse_every_image_is_not_ready(
    master: RedisServer, replica: RedisServer, start_app: StartApp
) -> None:
    too_few: Running = await start_app(master.url, redis_wait_replicas=2)
    status, word, checks = await ready(too_few)
    assert (status, word, checks["redis"]["ok"]) == (503, "unavailable", False)
    assert "1 of 2" in checks["redis"]["detail"]

    at_the_replica: Running = await start_app(replica.url)
    status, word, checks = await ready(at_the_replica)
    assert (status, word, checks["redis"]["ok"]) == (503, "unavailable", False)
    assert "is a replica" in checks["redis"]["detail"]

"""A Redis that is not set to keep what it is given is told: the queue's promise is no better than its Redis."""

from __future__ import annotations

from typing import Any

import pytest

from service.queue.redis_health import Durability
from tests.service.conftest import Running, StartApp
from tests.support.redis_server import RedisServer

REPLICA = {"ip": "10.0.0.2", "port": 6379, "state": "online", "offset": 14, "lag": 0}
WELL: dict[str, Any] = {"maxmemory": 0, "maxmemory_policy": "noeviction", "aof_enabled": 1}


@pytest.mark.parametrize(
    ("info", "flaw", "drops_jobs"),
    [
        (WELL, "", False),
        ({}, "", False),  # a managed server that does not tell
        (WELL | {"maxmemory_policy": "allkeys-lru"}, "", False),  # never full
        (WELL | {"maxmemory": 1 << 30}, "", False),
        (WELL | {"maxmemory": 1 << 30, "maxmemory_policy": "allkeys-lru"}, "drops accepted images", True),
        (WELL | {"maxmemory": 1 << 30, "maxmemory_policy": "volatile-ttl"}, "drops results, locks", False),
        (WELL | {"aof_enabled": 0}, "a restart loses accepted images", False),
        (WELL | {"role": "master", "slave0": REPLICA}, "a failover to one of its 1 replicas loses images", False),
        (WELL | {"slave0": REPLICA, "slave1": REPLICA}, "a failover to one of its 2 replicas loses images", False),
        (WELL | {"slave0": REPLICA | {"state": "send_bulk"}}, "", False),  # a backup
        (WELL | {"slave0": REPLICA, "min_slaves_good_slaves": 1}, "", False),
    ],
)
def test_what_is_amiss_is_said_with_what_to_set(info: dict[str, Any], flaw: str, drops_jobs: bool) -> None:
    keeping = Durability.read(info)
    assert keeping.drops_jobs is drops_jobs
    assert bool(keeping.problems) is bool(flaw)
    assert flaw in keeping.problems
    assert not flaw or "set " in keeping.problems


async def ready(running: Running) -> tuple[int, str, dict[str, Any]]:
    """Status, word and checks."""
    answer = await running.http.get("/health/ready")
    return answer.status_code, answer.json()["status"], answer.json()["checks"]


async def test_readiness_and_metrics_tell_it(own_redis: RedisServer, start_app: StartApp) -> None:
    running: Running = await start_app(own_redis.url)
    _, _, checks = await ready(running)
    assert checks["durability"] == {"ok": True, "required": False, "detail": "keeps what it is given"}
    text = (await running.http.get("/metrics")).text.splitlines()
    assert {"glad_redis_append_only 1.0", "glad_redis_evicts 0.0"} <= set(text)

    with own_redis.connect() as client:
        client.config_set("appendonly", "no")
        status, word, checks = await ready(running)
        assert (status, word, checks["durability"]["ok"]) == (200, "degraded", False)
        assert "set appendonly yes" in checks["durability"]["detail"]

        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        status, word, checks = await ready(running)
        assert (status, word, checks["redis"]["ok"]) == (503, "unavailable", False)
        assert "set noeviction" in checks["redis"]["detail"]
    text = (await running.http.get("/metrics")).text.splitlines()
    assert {"glad_redis_append_only 0.0", "glad_redis_evicts 1.0"} <= set(text)

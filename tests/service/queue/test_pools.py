"""Pools: a product's images go to the workers of its pool, and to nobody else's; what one suffers, others do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from service.cli.queue import app
from service.contract import DEFAULT_POOL
from service.queue import keys
from service.queue.jobs import JobQueue
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.line import picture, result_of
from tests.support.redis_server import RedisServer

PRODUCTS = ("toy", "casting", "lid")
POOLS = {"slow": ["casting"], "fast": ["lid"]}
Start = Callable[[Mapping[str, Sequence[str]]], Awaitable[Running]]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Three products."""
    for product in PRODUCTS:
        write_toy(tmp_path / "store" / product / "1")
    return str(tmp_path / "store")


@pytest.fixture
def start(start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, store: str) -> Start:
    """Starts a service with these pools; all share one Redis, which was emptied before."""

    def started(pools: Mapping[str, Sequence[str]]) -> Awaitable[Running]:
        running: Awaitable[Running] = start_app(shared_redis.url, store=store, pools=pools, max_backlog=2)
        return running

    return started


@pytest.fixture
async def pooled(start: Start) -> Running:
    """A service whose casting has a pool of its own, and lid another; toy is in the pool of the rest."""
    return await start(POOLS)


def url(product: str) -> str:
    """Where its images are posted."""
    return f"/v1/products/{product}/inspections"


async def accepted(running: Running, product: str, **headers: str) -> str:
    """The id of an image of it that was accepted."""
    answer = await running.http.post(url(product), content=picture(), headers=headers)
    assert answer.status_code == 202
    inspection_id: str = answer.json()["id"]
    return inspection_id


def give_up(client: redis.Redis, inspection_id: str, pool: str) -> None:
    """Makes a dead letter of what waits in a pool."""
    keys_of = keys.PoolKeys(pool)
    client.zadd(keys_of.suspects, {inspection_id: 1})
    [claimed] = JobQueue(client, pool=pool).claim(1)
    client.hset(keys.inspection(inspection_id), "deaths", 2)
    client.zadd(keys_of.leases, {inspection_id: 1})
    assert JobQueue(client, pool=pool, lease_ms=0).reclaim().dead == (claimed.id,)


async def test_each_product_is_claimed_by_the_workers_of_its_pool_alone(pooled: Running, client: redis.Redis) -> None:
    ids = {product: await accepted(pooled, product) for product in PRODUCTS}
    for pool, product in ((DEFAULT_POOL, "toy"), ("slow", "casting"), ("fast", "lid")):
        queue = JobQueue(client, pool=pool)
        [claimed] = queue.claim(10)
        assert (claimed.id, claimed.job.pool) == (ids[product], pool)
        assert queue.complete(claimed, result_of(claimed))
        assert (await pooled.http.get(f"/v1/inspections/{claimed.id}")).json()["state"] == "done"


async def test_stations_and_batches_keep_to_them_too(pooled: Running, client: redis.Redis) -> None:
    await pooled.http.put("/v1/stations/line-3", json={"product": "casting"})
    await pooled.http.post("/v1/stations/line-3/inspections", content=picture())
    await pooled.http.post("/v1/products/casting/inspections:batch", files=[("image", ("a.png", picture()))])
    assert [one.job.product for one in JobQueue(client, pool="slow").claim(10)] == ["casting", "casting"]
    assert list(JobQueue(client).claim(10)) == []


async def test_a_pool_that_is_full_refuses_its_own_products_only(pooled: Running) -> None:
    for _ in range(2):
        await accepted(pooled, "casting")
    refused = await pooled.http.post(url("casting"), content=picture())
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:glad:problem:backlog-full")
    await accepted(pooled, "lid")
    await accepted(pooled, "toy")


async def test_a_repeat_after_the_product_moved_is_the_first_inspection(
    pooled: Running, start: Start, client: redis.Redis
) -> None:
    first = await accepted(pooled, "casting", **{"Idempotency-Key": "k-1"})
    moved = await start({"fast": ["casting"]})
    assert await accepted(moved, "casting", **{"Idempotency-Key": "k-1"}) == first
    assert list(JobQueue(client, pool="fast").claim(10)) == []
    assert [one.id for one in JobQueue(client, pool="slow").claim(10)] == [first]


async def test_metrics_tell_pools_apart_and_show_a_pool_that_is_no_longer_set_until_it_is_empty(
    pooled: Running, start: Start, client: redis.Redis
) -> None:
    await accepted(pooled, "casting")
    JobQueue(client, pool="fast").renew()
    shown = (await pooled.http.get("/metrics")).text.splitlines()
    assert {
        'glad_queue_depth{pool="default"} 0.0',
        'glad_queue_depth{pool="slow"} 1.0',
        'glad_queue_depth{pool="fast"} 0.0',
        'glad_workers_seen{pool="slow"} 0.0',
        'glad_workers_seen{pool="fast"} 1.0',
        'glad_redis_stream_length{stream="jobs_normal"} 1.0',
    } <= set(shown)
    later = await start({})
    assert 'glad_queue_depth{pool="slow"} 1.0' in (await later.http.get("/metrics")).text.splitlines()
    queue = JobQueue(client, pool="slow")
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed))
    text = (await later.http.get("/metrics")).text
    assert 'glad_queue_depth{pool="default"} 0.0' in text
    assert 'pool="slow"' not in text


async def test_readiness_names_the_pools_without_a_worker(pooled: Running, client: redis.Redis) -> None:
    JobQueue(client).renew()
    JobQueue(client, pool="fast").renew()
    shown = (await pooled.http.get("/health/ready")).json()
    assert (shown["status"], shown["checks"]["worker"]["ok"]) == ("degraded", False)
    assert "no worker of pool 'slow' was heard of" in shown["checks"]["worker"]["detail"]
    assert "GLAD_POOL=slow" in shown["checks"]["worker"]["detail"]
    JobQueue(client, pool="slow").renew()
    shown = (await pooled.http.get("/health/ready")).json()
    assert (shown["status"], shown["checks"]["worker"]["detail"]) == ("ready", "3 seen in the last 30 s")


async def test_dead_letters_of_all_pools_are_listed_and_replayed_in_the_pool_of_now(
    pooled: Running, start: Start, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {product: await accepted(pooled, product) for product in ("casting", "lid")}
    give_up(client, old["casting"], "slow")
    give_up(client, old["lid"], "fast")
    moved = await start({"fast": ["casting"]})
    assert 'glad_redis_stream_length{stream="dead"} 2.0' in (await moved.http.get("/metrics")).text

    monkeypatch.setenv("GLAD_REDIS_URL", str(moved.settings.redis_url))
    listed = await asyncio.to_thread(CliRunner().invoke, app, ["dead", "--json"])
    lines = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(one["id"], one["pool"]) for one in lines] == [(old["casting"], "slow"), (old["lid"], "fast")]

    assert (await moved.http.post(f"/v1/inspections/{old['casting']}/replay")).status_code == 202
    [claimed] = JobQueue(client, pool="fast").claim(10)
    assert (claimed.job.replay_of, claimed.job.pool) == (old["casting"], "fast")
    assert client.xlen(keys.PoolKeys("slow").dead) == 0
    discarded = await asyncio.to_thread(CliRunner().invoke, app, ["discard", old["lid"]])
    assert discarded.stdout == f"{old['lid']} discarded\n"
    assert client.xlen(keys.PoolKeys("fast").dead) == 0

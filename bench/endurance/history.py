"""The latency of the history and of an inspection's end, with many results kept, in a real Redis of its own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import quantiles
from typing import Any

import redis

from bench.support.servers import own_redis
from service.contract import (
    Findings,
    Job,
    PinnedThresholds,
    Region,
    Result,
    State,
    Timings,
    Verdict,
    done_result,
    new_inspection_id,
)
from service.queue import keys
from service.queue.connection import connect, connect_async
from service.queue.history import History, HistoryFilter
from service.queue.jobs import JobQueue
from service.queue.scripts import load
from service.queue.submitter import JobSubmitter
from training.progress import Count

PRODUCTS, STATIONS, PER_LOT, VIEWS = 10, 20, 1000, 2
PER_PIPELINE = 500
TTL_MS = 7 * 86_400_000
THRESHOLDS = PinnedThresholds(review=0.5, fail=1.0, pixel=1.0)

FILL = """
local history, inspections, ttl_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
local id, outcome, result = ARGV[3], ARGV[4], ARGV[5]
local inspection, ended = inspections .. id, cjson.decode(result)
local summary = summary_of(string.format('%.0f-0', now_ms()), ended, outcome)
redis.call('HSET', inspection, 'state', 'done', 'result', result, 'outcome', outcome, 'summary', summary)
redis.call('PEXPIRE', inspection, ttl_ms)
add_to_history(history, id, ended, outcome, ttl_ms)
update_reviewed(history, inspection, id, ttl_ms)
"""
"""What complete.lua keeps of an inspection, without the queue around it."""


@dataclass(frozen=True)
class CallLatency:
    """The latency of one kind of call."""

    call: str
    p50_ms: float
    p99_ms: float
    found: int
    """Inspections in the last answer."""


@dataclass(frozen=True)
class HistoryFigures:
    """The costs of a history of this size."""

    results: int
    filled_per_s: float
    redis_version: str
    redis_bytes: int
    latencies: tuple[CallLatency, ...]


def measure_history(count: int, repeats: int, progress: Count) -> HistoryFigures:
    """Fill a Redis with `count` results, time `repeats` calls of each kind, and return the figures."""
    with own_redis() as url, connect(url) as client:
        client.config_set("appendfsync", "no")
        began = time.perf_counter()
        _fill(client, count, progress)
        seconds = time.perf_counter() - began
        client.config_set("appendfsync", "always")
        latencies = asyncio.run(_measure(url, count, repeats))
        info: Any = client.info()
        return HistoryFigures(
            results=int(client.zcard(keys.HISTORY)),
            filled_per_s=count / seconds,
            redis_version=info["redis_version"],
            redis_bytes=info["used_memory"],
            latencies=(*latencies, _ending(client, url, repeats)),
        )


def _fill(client: redis.Redis, count: int, progress: Count) -> None:
    sha = client.script_load(load("reviewed", "history", "summary") + FILL)
    template = example_result(example_job(), 0.0)
    rng = random.Random(0)
    for start in range(0, count, PER_PIPELINE):
        with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + PER_PIPELINE, count)):
                one = _like(template, number, rng.expovariate(5.0))  # 8 % review or worse, 0.7 % fail
                outcome = one.verdict.value if one.verdict else one.state.value
                pipe.evalsha(sha, 1, keys.HISTORY, keys.INSPECTION_PREFIX, str(TTL_MS), one.id, outcome, one.to_json())
            pipe.execute()
        progress(min(start + PER_PIPELINE, count), count)


def _like(template: Result, number: int, score: float) -> Result:
    """Return the inspection at this place: lots one after the other, products and stations in turn."""
    return template.model_copy(
        update={
            "id": new_inspection_id(),
            "product": f"product-{number % PRODUCTS}",
            "station": f"station-{number % STATIONS}",
            "lot": f"lot-{number // PER_LOT}",
            "serial": f"serial-{number // VIEWS}",
            "view": f"view-{number % VIEWS}",
            "score": score,
            "verdict": Verdict(THRESHOLDS.verdict(score)),
        }
    )


async def _measure(url: str, count: int, repeats: int) -> list[CallLatency]:
    rng = random.Random(1)

    def place() -> int:
        return rng.randrange(count)

    async with connect_async(url) as client:
        history = History(client)
        first, last = [
            int((await ends(keys.HISTORY, 0, 0, withscores=True))[0][1]) for ends in (client.zrange, client.zrevrange)
        ]

        async def page(limit: int = 50, after: int | None = None, newest: bool = False, **wanted: Any) -> int:
            found = await history.page(HistoryFilter(**wanted), after=after, limit=limit, newest_first=newest)
            return len(found.results)

        calls: dict[str, Callable[[], Awaitable[int]]] = {
            "the newest 50": lambda: page(newest=True),
            "500 from anywhere": lambda: page(500, after=rng.randrange(first, last)),
            "one serial": lambda: page(serial=f"serial-{place() // VIEWS}"),
            "50 of a lot": lambda: page(lot=f"lot-{place() // PER_LOT}"),
            "50 of a product": lambda: page(product=f"product-{place() % PRODUCTS}"),
            "50 that failed": lambda: page(verdict=Verdict.FAIL),
            "50 of a station that failed": lambda: page(station=f"station-{place() % STATIONS}", verdict=Verdict.FAIL),
            "50 of a product that are done": lambda: page(product=f"product-{place() % PRODUCTS}", state=State.DONE),
            "two filters that never meet": lambda: page(product="product-0", station="station-1"),
        }
        return [await _timed(name, call, repeats) for name, call in calls.items()]


async def _timed(name: str, call: Callable[[], Awaitable[int]], repeats: int) -> CallLatency:
    milliseconds, found = [], 0
    for _ in range(repeats):
        began = time.perf_counter()
        found = await call()
        milliseconds.append((time.perf_counter() - began) * 1000)
    return _latency(name, milliseconds, found)


def _ending(client: redis.Redis, url: str, repeats: int) -> CallLatency:
    """Return the latency of the end of an inspection: result, event, history and acknowledgement in one script."""
    queue, milliseconds = JobQueue(client), []
    asyncio.run(submit(url, repeats))
    for claimed in queue.claim(repeats):
        result = example_result(claimed.job, 0.1)
        began = time.perf_counter()
        queue.complete(claimed, result)
        milliseconds.append((time.perf_counter() - began) * 1000)
    return _latency("the end of an inspection", milliseconds, 1)


async def submit(url: str, count: int) -> None:
    """Queues so many jobs."""
    async with connect_async(url) as client:
        submitter = JobSubmitter(client, max_backlog=count)
        for _ in range(count):
            await submitter.submit(example_job())


def _latency(name: str, milliseconds: list[float], found: int) -> CallLatency:
    cuts = quantiles(milliseconds, n=100, method="inclusive")
    return CallLatency(name, p50_ms=cuts[49], p99_ms=cuts[98], found=found)


def example_job() -> Job:
    """Return a job with serial, lot and station."""
    inspection_id = new_inspection_id()
    return Job(
        id=inspection_id,
        product="product-0",
        station="station-0",
        lot="lot-0",
        serial="serial-0",
        bundle_version="1",
        bundle_hash="ab" * 32,
        thresholds=THRESHOLDS,
        image_ref=f"2026-11-23/{inspection_id}/image",
        image_sha256="cd" * 32,
        image_format="JPEG",
        image_bytes=200_000,
        width=1024,
        height=1024,
        accepted_at=datetime.now(UTC),
    )


def example_result(job: Job, score: float) -> Result:
    """Return the result of a job, with one region."""
    findings = Findings(
        score=score,
        regions=(Region(box=(1, 2, 3, 4), area_px=9, peak=1.5),),
        denoising_step=421,
        unet_evaluations=25,
        seed=0,
        timings_ms=Timings(queue=1, decode=2, encode=3, denoise=4, score=5, total=15),
        artifacts=("heatmap.png", "overlay.png", "mask.png"),
    )
    return done_result(job, findings, started_at=job.accepted_at, attempts=1)

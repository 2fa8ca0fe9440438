"""Redis's memory of one inspection: while it waits, and after its end, part by part. On a real Redis of its own."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from bench.endurance.history import example_job, example_result, submit
from bench.support.servers import own_redis
from glad_client.answers import StationChange, StationSettings
from service.queue import keys
from service.queue.connection import connect, connect_async
from service.queue.jobs import JobQueue
from service.queue.stations import Stations
from training.progress import Count

CHANGES = 100


@dataclass(frozen=True)
class MemoryFigures:
    """Bytes of Redis's memory for one item, each from the difference that `count` items made."""

    inspections: int
    queued_bytes: float
    """An accepted image until it ends."""
    ended_bytes: float
    """The same image's result, event and history, once it has ended."""
    event_bytes: float
    """The part that is its entry in the event stream."""
    change_bytes: float
    """One change of a station; at most 1000 are kept of each."""
    job_json_bytes: int
    result_json_bytes: int


def measure_redis_memory(count: int, progress: Count) -> MemoryFigures:
    """Queue `count` inspections, end them, and return what each stage takes."""
    with own_redis() as url, connect(url) as client:
        client.config_set("appendonly", "no")
        empty = _used(client)
        asyncio.run(submit(url, count))
        queued = _used(client)
        _end_all(client, count, progress)
        ended = _used(client)
        events: Any = client.memory_usage(keys.EVENTS, samples=0)
        asyncio.run(_change_station(url))
        job = example_job()
        return MemoryFigures(
            inspections=count,
            queued_bytes=(queued - empty) / count,
            ended_bytes=(ended - empty) / count,
            event_bytes=events / count,
            change_bytes=(_used(client) - ended) / CHANGES,
            job_json_bytes=len(job.to_json()),
            result_json_bytes=len(example_result(job, 0.1).to_json()),
        )


def _end_all(client: redis.Redis, count: int, progress: Count) -> None:
    queue, done = JobQueue(client), 0
    while claimed := queue.claim(100):
        for one in claimed:
            queue.complete(one, example_result(one.job, 0.1))
        done += len(claimed)
        progress(done, count)


async def _change_station(url: str) -> None:
    def change(present: StationSettings | None) -> StationChange:
        settings = StationSettings(product="product-0", lot="lot-0")
        return StationChange(at=datetime.now(UTC), by=f"bench {next(numbers)}", settings=settings)

    numbers = itertools.count()
    async with connect_async(url) as client:
        for _ in range(CHANGES):
            await Stations(client, keep_removed_s=86_400).change("station-0", change)


def _used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])

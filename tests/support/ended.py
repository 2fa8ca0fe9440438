"""Inspections that have ended, with their events: submitted, claimed and completed as in production."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

from glad_client.answers import StationChange, StationSettings
from service.queue.connection import connect_async
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.queue.stations import Stations
from service.queue.submitter import JobSubmitter
from tests.support.line import AT, make_job, result_of


def hold_station(client: redis.Redis, station: str = "line-3", reason: str | None = "lens is dirty") -> None:
    """Put a station of product "toy" on hold as the API does, or release it with None, at one moment by "a.meier"."""

    async def hold() -> None:
        async with connect_async(f"unix://{client.get_connection_kwargs()['path']}") as found:
            change = StationChange(at=AT, by="a.meier", settings=StationSettings(product="toy", hold=reason))
            await Stations(found, keep_removed_s=60).change(station, lambda present: change)

    asyncio.run(hold())


def end(client: redis.Redis, count: int = 1, retention: Retention | None = None, **fields: Any) -> list[str]:
    """So many inspections that ended; their ids in order. `fields`: of their jobs."""
    queue = JobQueue(client, lease_ms=60_000, retention=retention)

    async def submit() -> list[str]:
        jobs = [make_job(**fields) for _ in range(count)]
        async with connect_async(f"unix://{client.get_connection_kwargs()['path']}") as found:
            submitter = JobSubmitter(found, max_backlog=10_000)
            for job in jobs:
                await submitter.submit(job)
        return [job.id for job in jobs]

    ids = asyncio.run(submit())
    for claimed in queue.claim(count):
        queue.complete(claimed, result_of(claimed))
    return ids

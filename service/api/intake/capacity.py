"""Is there room for another inspection, in the queue and on the disk?"""

from __future__ import annotations

import asyncio

from redis.exceptions import RedisError

from service.api.dependencies import Services
from service.api.intake.fields import InspectionFields
from service.api.problems import queue_unavailable
from service.contract import Priority
from service.errors import BacklogFull, DeadlineUnreachable, ServiceError, StorageUnavailable, WaitTooLong
from service.queue.admission import QueueEstimate, Room
from service.storage.artifacts import ArtifactsUnavailable


async def check_capacity(services: Services, pool: str, fields: InspectionFields, *, may_be_a_repeat: bool) -> None:
    """Before anything costs: is Redis there, and has the pool room? The submit script decides again, and finally.

    A repeat of an accepted submission has its place already, so a full queue does not refuse it here.
    """
    try:
        outlook = await services.jobs.ask(Priority(fields.priority), fields.deadline_ms, pool=pool)
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    if outlook.room is not Room.OPEN and not may_be_a_repeat:
        raise capacity_error(services, outlook, fields.deadline_ms)
    await _refuse_without_disk(services)


async def _refuse_without_disk(services: Services) -> None:
    """A disk that is nearly full still has to take results and the queue's log: new images come last."""
    least = services.settings.min_free_bytes
    try:
        free = await asyncio.to_thread(services.artifacts.free_bytes)
    except ArtifactsUnavailable:
        return  # storing will say so
    if free is not None and free < least:
        raise StorageUnavailable(
            f"the image store has {free} bytes free; at least {least} (GLAD_MIN_FREE_BYTES) must be: free space, or "
            "send it again later",
            retry_after_s=services.settings.retry_after_s,
        )


def capacity_error(services: Services, outlook: QueueEstimate, deadline_ms: int | None) -> ServiceError:
    """Why a submission is refused, and when to come back: by the measured pace, or GLAD_RETRY_AFTER_S before any."""
    limits = services.jobs.limits
    retry_after_s = outlook.retry_after_s(limits, deadline_ms=deadline_ms, unmeasured_s=services.settings.retry_after_s)
    wait = f"a new inspection would wait about {outlook.expected_wait_s or 0:.1f} s"
    if outlook.room is Room.LATE:
        return DeadlineUnreachable(
            f"{wait}; its deadline_ms is {deadline_ms}: give it more time, or send it again later",
            retry_after_s=retry_after_s,
        )
    if outlook.room is Room.SLOW:
        return WaitTooLong(
            f"{wait}; the limit is {limits.max_wait_s:g} s (GLAD_MAX_WAIT_S): send it again later",
            retry_after_s=retry_after_s,
        )
    return BacklogFull(
        f"{outlook.backlog} inspections are queued or running; the limit is {limits.max_backlog}: send it again later",
        retry_after_s=retry_after_s,
    )

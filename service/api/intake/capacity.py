"""The room for another inspection, in the queue and on the disk, and the errors for clients where there is none."""

from __future__ import annotations

from redis.exceptions import RedisError

from service.api.dependencies import Services
from service.api.problems import queue_unavailable
from service.contract import Priority
from service.errors import BacklogFull, DeadlineUnreachable, ServiceError, StorageUnavailable, WaitTooLong
from service.queue.admission import Admission, QueueEstimate
from service.storage.artifacts import ArtifactsUnavailable


async def check_capacity(
    services: Services,
    pool: str,
    priority: Priority,
    deadline_ms: int | None,
    *,
    key_id: str,
    may_be_a_repeat: bool,
) -> QueueEstimate:
    """Return the queue as a new inspection finds it, if it would be admitted, before it costs decoding and storing.

    The submit script decides again, and finally.

    Args:
        services: of this process.
        pool: that would inspect the image.
        priority: of the image.
        deadline_ms: of the image, in milliseconds after its acceptance.
        key_id: of the caller's API key; "" without one.
        may_be_a_repeat: an Idempotency-Key came with the image. A repeat of an accepted submission has its place
            already, so a full queue does not refuse it here.

    Raises:
        QueueUnavailable: if Redis is away.
        BacklogFull: if the pool's backlog has reached its limit, or the key its share of it.
        WaitTooLong: if the expected wait is longer than allowed.
        DeadlineUnreachable: if the expected wait is longer than the image's deadline.
        StorageUnavailable: if less disk is free than GLAD_MIN_FREE_BYTES.
    """
    try:
        estimate = await services.jobs.estimate(priority, deadline_ms, pool=pool, key_id=key_id)
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    if estimate.admission is not Admission.ADMITTED and not may_be_a_repeat:
        raise capacity_error(services, estimate, deadline_ms)
    await _check_free_disk(services)
    return estimate


async def _check_free_disk(services: Services) -> None:
    """Raise StorageUnavailable if the disk is nearly full: it still has to take results and the queue's log."""
    min_free_bytes = services.settings.min_free_bytes
    try:
        free_bytes = await services.threads.intake.run(services.artifacts.free_bytes)
    except ArtifactsUnavailable:
        return  # storing the image will fail with the reason
    if free_bytes is not None and free_bytes < min_free_bytes:
        raise StorageUnavailable(
            f"the image store has {free_bytes} bytes free; at least {min_free_bytes} (GLAD_MIN_FREE_BYTES) must be: "
            "free space, or send it again later",
            retry_after_s=services.settings.retry_after_s,
        )


def capacity_error(services: Services, estimate: QueueEstimate, deadline_ms: int | None) -> ServiceError:
    """Return the error for a job that the queue refused.

    Its Retry-After follows from the measured pace, or is GLAD_RETRY_AFTER_S before any was measured.

    Args:
        services: of this process.
        estimate: what the job found, with the reason of its refusal.
        deadline_ms: of the job.
    """
    limits = services.jobs.limits
    retry_after_s = estimate.retry_after_s(
        limits, deadline_ms=deadline_ms, unmeasured_s=services.settings.retry_after_s
    )
    wait = f"a new inspection would wait about {estimate.expected_wait_s or 0:.1f} s"
    match estimate.admission:
        case Admission.DEADLINE:
            return DeadlineUnreachable(
                f"{wait}; its deadline_ms is {deadline_ms}: give it more time, or send it again later",
                retry_after_s=retry_after_s,
            )
        case Admission.WAIT_TOO_LONG:
            return WaitTooLong(
                f"{wait}; the limit is {limits.max_wait_s:g} s (GLAD_MAX_WAIT_S): send it again later",
                retry_after_s=retry_after_s,
            )
        case Admission.SHARE_FULL:
            return BacklogFull(
                f"{estimate.backlog} inspections are queued or running; the limit is {limits.max_backlog} "
                f"(GLAD_MAX_BACKLOG), or {limits.max_wait_s:g} s of waiting (GLAD_MAX_WAIT_S). This API key has nine "
                "times as many as there are places left, and those are for other keys: send it again later, or give "
                "each camera a key of its own",
                retry_after_s=retry_after_s,
            )
        case _:
            return BacklogFull(
                f"{estimate.backlog} inspections are queued or running; the limit is {limits.max_backlog} "
                "(GLAD_MAX_BACKLOG): send it again later",
                retry_after_s=retry_after_s,
            )

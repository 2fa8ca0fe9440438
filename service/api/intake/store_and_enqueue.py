"""Handing a checked image over: its bytes to the store, then its job to the queue."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import NoReturn

import structlog
from redis.exceptions import RedisError, ResponseError

from service.api.dependencies import Services
from service.api.intake.capacity import capacity_error
from service.api.intake.stage_timing import stage
from service.api.problems import queue_unavailable
from service.api.uploads.decoding import Upload
from service.contract import IMAGE, Job
from service.errors import KeyReused, StorageUnavailable
from service.queue.admission import Room
from service.queue.submitter import Outcome, Submission
from service.storage.artifacts import ArtifactsUnavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class IdempotencyKey:
    """An Idempotency-Key, and what it stands for."""

    text: str | None
    fingerprint: str
    """Equal for equal requests."""
    client_name: str
    """Whose it is."""
    scope: str | None
    """Where it is one; None: within the product."""


async def store_and_enqueue(services: Services, job: Job, upload: Upload, key: IdempotencyKey) -> Submission:
    """Stores the bytes, then submits. Whatever is certainly not accepted leaves no bytes behind."""
    with stage(services, "accept_store"):
        await _store_image(services, job, upload.content)
    try:
        with stage(services, "accept_submit"):
            submission = await services.jobs.submit(
                job,
                fingerprint=key.fingerprint,
                idempotency_key=key.text,
                client_name=key.client_name,
                scope=key.scope,
            )
    except RedisError as error:
        await _after_failed_submit(services, job, error)
    if submission.outcome is not Outcome.ACCEPTED:
        await _remove_image(services, job)
    if submission.outcome is Outcome.CONFLICT:
        raise KeyReused(
            f"Idempotency-Key {key.text!r} was used for inspection {submission.inspection_id} with another "
            "image or other fields: use a new key for a new part, and the same request for a retry"
        )
    if submission.outlook.room is not Room.OPEN:
        raise capacity_error(services, submission.outlook, job.deadline_ms)
    return submission


async def _store_image(services: Services, job: Job, content: bytes) -> None:
    try:
        await asyncio.to_thread(services.artifacts.put, job.id, IMAGE, content)
    except ArtifactsUnavailable as error:
        log.error("image not stored", inspection_id=job.id, error=str(error))
        raise StorageUnavailable(
            "the image could not be stored; it was not accepted: send it again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error


async def _after_failed_submit(services: Services, job: Job, error: RedisError) -> NoReturn:
    """Redis refused: nothing was accepted, unless an earlier attempt's reply was lost. Redis did not answer: the job
    may be accepted, so its bytes stay; a retry under the same Idempotency-Key finds out."""
    if isinstance(error, ResponseError):
        with contextlib.suppress(RedisError):
            if await services.results.get(job.id) is None:
                await _remove_image(services, job)
    raise queue_unavailable(services, error) from error


async def _remove_image(services: Services, job: Job) -> None:
    try:
        await asyncio.to_thread(services.artifacts.remove, job.image_ref)
    except ArtifactsUnavailable as error:
        log.warning("image of a refused submission stays", inspection_id=job.id, error=str(error))

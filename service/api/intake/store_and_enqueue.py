"""Handing a checked image over: its bytes to the store, then its job to the queue."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import NoReturn

import structlog
from redis.exceptions import RedisError, ResponseError

from service.api.dependencies import Site
from service.api.intake.capacity import no_room
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
class SubmissionKey:
    """An Idempotency-Key, and what it stands for."""

    text: str | None
    fingerprint: str
    """Equal for equal requests."""
    client_name: str
    """Whose it is."""
    scope: str | None
    """Where it is one; None: within the product."""


async def keep_and_submit(site: Site, job: Job, upload: Upload, key: SubmissionKey) -> Submission:
    """Stores the bytes, then submits. Whatever is certainly not accepted leaves no bytes behind."""
    with stage(site, "accept_store"):
        await _store_image(site, job, upload.content)
    try:
        with stage(site, "accept_submit"):
            submission = await site.jobs.submit(
                job,
                fingerprint=key.fingerprint,
                idempotency_key=key.text,
                client_name=key.client_name,
                scope=key.scope,
            )
    except RedisError as error:
        await _after_failed_submit(site, job, error)
    if submission.outcome is not Outcome.ACCEPTED:
        await _remove_image(site, job)
    if submission.outcome is Outcome.CONFLICT:
        raise KeyReused(
            f"Idempotency-Key {key.text!r} was used for inspection {submission.inspection_id} with another "
            "image or other fields: use a new key for a new part, and the same request for a retry"
        )
    if submission.outlook.room is not Room.OPEN:
        raise no_room(site, submission.outlook, job.deadline_ms)
    return submission


async def _store_image(site: Site, job: Job, content: bytes) -> None:
    try:
        await asyncio.to_thread(site.artifacts.put, job.id, IMAGE, content)
    except ArtifactsUnavailable as error:
        log.error("image not stored", inspection_id=job.id, error=str(error))
        raise StorageUnavailable(
            "the image could not be stored; it was not accepted: send it again later",
            retry_after_s=site.settings.retry_after_s,
        ) from error


async def _after_failed_submit(site: Site, job: Job, error: RedisError) -> NoReturn:
    """Redis refused: nothing was accepted, unless an earlier attempt's reply was lost. Redis did not answer: the job
    may be accepted, so its bytes stay; a retry under the same Idempotency-Key finds out."""
    if isinstance(error, ResponseError):
        with contextlib.suppress(RedisError):
            if await site.results.get(job.id) is None:
                await _remove_image(site, job)
    raise queue_unavailable(site, error) from error


async def _remove_image(site: Site, job: Job) -> None:
    try:
        await asyncio.to_thread(site.artifacts.remove, job.image_ref)
    except ArtifactsUnavailable as error:
        log.warning("image of a refused submission stays", inspection_id=job.id, error=str(error))

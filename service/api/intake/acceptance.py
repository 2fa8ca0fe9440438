"""One image's way from the upload into the queue.

    read → product → fields → decode → store the bytes → submit → wait

What cannot be kept is not accepted: the bytes are durable before the job is, and the job before the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import structlog

from model_store.errors import StoreError
from model_store.store import Store
from service.api.dependencies import Services
from service.api.intake.capacity import check_capacity
from service.api.intake.fields import InspectionFields, Origin, invalid_fields, read_fields, with_defaults
from service.api.intake.stage_timing import stage
from service.api.intake.store_and_enqueue import IdempotencyKey, store_and_enqueue
from service.api.problems import refusal
from service.api.uploads.decoding import Described, Upload
from service.auth.caller import Caller
from service.contract import IMAGE, Job, JobTooLarge, Priority, State, Traceability, new_inspection_id, now
from service.errors import FieldProblem
from service.queue.pinning import Pinned, pin_now
from service.queue.submitter import Outcome, Submission
from service.storage.artifacts import ArtifactStore
from service.telemetry.tracing import current_traceparent

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Accepted:
    """A submission that stands, be it new or a repeat."""

    job: Job
    submission: Submission


async def accept(
    services: Services,
    caller: Caller,
    product: str,
    upload: Upload,
    idempotency_key: str | None,
    *,
    origin: Origin | None = None,
) -> Accepted:
    """One image on its way from the upload into the queue; ServiceError if it is refused."""
    pinned = await asyncio.to_thread(pin, services.store, product)
    given = read_fields(upload.fields)
    fields = given if origin is None else with_defaults(upload.fields, origin)
    pool = services.settings.pool_of(product)
    await check_capacity(services, pool, fields, may_be_a_repeat=idempotency_key is not None)
    with stage(services, "accept_decode"):
        image = await services.decoder.describe(upload.content)
    job = _make_job(pinned, fields, upload, image, pool=pool)
    key = IdempotencyKey(idempotency_key, _fingerprint(job, given), caller.id, None if origin is None else origin.scope)
    submission = await store_and_enqueue(services, job, upload, key)
    if submission.outcome is Outcome.ACCEPTED:
        services.metrics.count_submission(product, job.priority.value, job.station)
        log.info("inspection accepted", **_described(job), backlog=submission.outlook.backlog)
    return Accepted(job, submission)


def pin(store: Store, product: str) -> Pinned:
    """What is in force for a product now. UnknownProduct or ProductUnusable."""
    try:
        return pin_now(store, product)
    except (StoreError, ValueError) as error:
        raise refusal(store, product, error) from error


def _make_job(pinned: Pinned, fields: InspectionFields, upload: Upload, image: Described, *, pool: str) -> Job:
    inspection_id = new_inspection_id()
    job = Job(
        **{name: getattr(fields, name) for name in Traceability.model_fields},
        id=inspection_id,
        product=pinned.bundle.product,
        **pinned.job_fields,
        image_ref=ArtifactStore.ref(inspection_id, IMAGE),
        image_sha256=image.sha256,
        image_format=image.format,
        image_bytes=len(upload.content),
        width=image.width,
        height=image.height,
        accepted_at=now(),
        priority=Priority(fields.priority),
        deadline_ms=fields.deadline_ms,
        pool=pool,
        traceparent=current_traceparent(),
    )
    try:
        job.to_json()
    except JobTooLarge as error:
        raise invalid_fields([FieldProblem(field="metadata", message=str(error))]) from error
    return job


def _fingerprint(job: Job, fields: InspectionFields) -> str:
    """Equal for equal requests: the image's bytes and every field."""
    given = json.dumps(fields.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{job.image_sha256}\n{given}".encode()).hexdigest()


def _described(job: Job) -> dict[str, Any]:
    """What a log line says of a job."""
    return {
        "inspection_id": job.id,
        "product": job.product,
        "bundle": job.bundle_version,
        "pool": job.pool,
        "station": job.station,
        "serial": job.serial,
        "image_bytes": job.image_bytes,
        "size": f"{job.width}x{job.height}",
        "state": State.QUEUED.value,
    }

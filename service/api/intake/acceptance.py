"""The way of one image from its upload into the queue.

    resolve the product → read the fields → check the capacity → decode → store the bytes → enqueue

What cannot be kept is not accepted: the bytes are durable before the job is, and the job before the answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NoReturn

import structlog
from pydantic import ConfigDict, Field, ValidationError, field_validator
from redis.exceptions import RedisError, ResponseError

from model_store.errors import StoreError
from model_store.store import Store
from service.api.dependencies import Services
from service.api.intake.capacity import capacity_error, check_capacity
from service.api.problems import product_error, queue_unavailable, read_bundles
from service.api.uploads.decoding import CheckedImage, Upload
from service.auth.scopes import Caller
from service.contract import (
    IMAGE,
    Job,
    JobTooLarge,
    NotBool,
    Priority,
    Traceability,
    check_serial,
    check_station,
    new_inspection_id,
)
from service.errors import InvalidFields, KeyReused, QueueUnavailable, ServiceError, StorageUnavailable
from service.queue.admission import Admission, Submission
from service.queue.reviews import is_drawn
from service.queue.stations import StationPin
from service.queue.submitter import Pinned, pin_now
from service.storage.artifacts import ArtifactStore, ArtifactsUnavailable
from service.telemetry.tracing import current_traceparent

log = structlog.get_logger(__name__)


class InspectionFields(Traceability):
    """The fields of a submission: query parameters of a raw body, form fields of a multipart one."""

    model_config = ConfigDict(extra="forbid")

    priority: Literal["normal", "high"] = Field("normal", description="claims look at `high` first")
    deadline_ms: Annotated[int | None, NotBool] = Field(
        None, ge=1, le=86_400_000, description="milliseconds after acceptance; after it nobody waits for the result"
    )

    @field_validator("serial")
    @classmethod
    def _check_serial(cls, serial: str | None) -> str | None:
        return None if serial is None else check_serial(serial)

    @field_validator("station")
    @classmethod
    def _check_station(cls, station: str | None) -> str | None:
        return None if station is None else check_station(station)


@dataclass(frozen=True)
class StationOrigin:
    """The station to whose address an image came."""

    station: str
    defaults: Mapping[str, Any]
    """Values of fields that the image does not name."""

    @property
    def key_scope(self) -> str:
        """Return the scope within which an Idempotency-Key counts as one. No product has such a name."""
        return f"station/{self.station}"


@dataclass(frozen=True)
class Accepted:
    """A submission for which an inspection stands: a new one, or the first one with its Idempotency-Key."""

    job: Job
    """As it was made for this request."""
    submission: Submission


async def accept_image(
    services: Services,
    caller: Caller,
    product: str,
    upload: Upload,
    idempotency_key: str | None,
    *,
    origin: StationOrigin | None = None,
) -> Accepted:
    """Take one uploaded image into the queue.

    Args:
        services: of this process.
        caller: whose Idempotency-Key it is.
        product: the product's name, as the caller gave it.
        upload: the image's bytes and fields, not checked yet.
        idempotency_key: None if the caller sent none.
        origin: the station that lends its defaults, if the image came to a station's address.

    Raises:
        ServiceError: if the image is refused. Only after a QueueUnavailable may it have been accepted all the same.
    """
    pinned = await read_bundles(services, product, pin_product, services.store, product)
    given = _read_fields(upload.fields)
    fields = given if origin is None else _with_defaults(upload.fields, origin)
    pool = services.settings.pool_of(product)
    found = await check_capacity(
        services,
        pool,
        Priority(fields.priority),
        fields.deadline_ms,
        key_id=caller.id,
        may_be_a_repeat=idempotency_key is not None,
    )
    with _timed_stage(services, "accept_decode"):
        image = await services.decoder.check_image(upload.content, caller.id)
    station = await services.stations.pin(fields.station, fields.serial)
    plan = await services.review_plans.current(product)
    share = plan.audit_share if station.limit_sample is None else 0.0
    job = _make_job(pinned, fields, upload, image, pool=pool, station=station, audit_share=share, at=found.at)
    with _timed_stage(services, "accept_store"):
        await _store_image(services, job, upload.content)
    submission = await _enqueue(
        services,
        job,
        fingerprint=_fingerprint(job, given),
        idempotency_key=idempotency_key,
        client_name=caller.id,
        scope=None if origin is None else origin.key_scope,
        key_id=caller.id,
    )
    if submission.admission is Admission.ADMITTED:
        services.metrics.count_submission(product, job.priority.value, job.station)
        _log_acceptance(job, submission)
    return Accepted(job, submission)


def pin_product(store: Store, product: str) -> Pinned:
    """Return the bundle and thresholds that are in force for a product now. Blocks.

    Raises:
        UnknownProduct: if the store has no such product.
        ProductUnusable: if the product has no usable bundle.
    """
    try:
        return pin_now(store, product)
    except (StoreError, ValueError) as error:
        raise product_error(store, product, error) from error


def _read_fields(given: Mapping[str, Any]) -> InspectionFields:
    """Return the fields as they were given.

    Raises:
        InvalidFields: if one is unknown, or its value is not allowed.
    """
    try:
        return InspectionFields.model_validate(given)
    except ValidationError as error:
        raise InvalidFields.from_validation(error.errors(), InspectionFields.model_fields) from error


def _with_defaults(given: Mapping[str, Any], origin: StationOrigin) -> InspectionFields:
    """Return the fields given, completed by the station's defaults.

    Raises:
        InvalidFields: if a field is not allowed, or names another station.
    """
    if given.get("station", origin.station) != origin.station:
        message = f"is not the station of this address, {origin.station!r}: leave the field out"
        raise InvalidFields.for_field("station", message)
    return _read_fields({**origin.defaults, **given, "station": origin.station})


def _make_job(
    pinned: Pinned,
    fields: InspectionFields,
    upload: Upload,
    image: CheckedImage,
    *,
    pool: str,
    station: StationPin,
    audit_share: float,
    at: datetime,
) -> Job:
    """Return the job of an image.

    Args:
        pinned, fields, upload, image: what it is made of.
        pool: that inspects the image.
        station: what its station gives it.
        audit_share: share of the product's images that people judge blind.
        at: time by Redis's clock. This machine's may be another, and ids and times are compared with those of others.
    """
    inspection_id = new_inspection_id(at)
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
        accepted_at=at,
        priority=Priority(fields.priority),
        deadline_ms=fields.deadline_ms,
        hold=station.hold,
        hold_sample=station.hold_sample,
        takt_ms=station.takt_ms,
        limit_sample=station.limit_sample,
        audit=audit_share if is_drawn("audit", inspection_id, audit_share) else None,
        pool=pool,
        traceparent=current_traceparent(),
    )
    if station.hold is not None:  # so that workers of an older version let nothing pass either
        job = job.model_copy(update={"thresholds": job.thresholds.on_hold})
    try:
        job.to_json()
    except JobTooLarge as error:
        raise InvalidFields.for_field("metadata", str(error)) from error
    return job


def _fingerprint(job: Job, given: InspectionFields) -> str:
    """Return a hash that is equal for equal requests: of the image's bytes and every field.

    A station's defaults do not count: a retry after a changeover is still the same request.
    """
    text = json.dumps(given.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{job.image_sha256}\n{text}".encode()).hexdigest()


async def _store_image(services: Services, job: Job, content: bytes) -> None:
    def store() -> None:
        services.artifact_home.check(make=True)
        services.artifacts.put(job.id, IMAGE, content)

    try:
        await services.threads.intake.run(store)
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    except ArtifactsUnavailable as error:
        log.error("image not stored", inspection_id=job.id, error=str(error))
        raise StorageUnavailable(
            "the image could not be stored; it was not accepted: send it again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error


async def _enqueue(
    services: Services,
    job: Job,
    *,
    fingerprint: str,
    idempotency_key: str | None,
    client_name: str,
    scope: str | None,
    key_id: str,
) -> Submission:
    """Queue the job of a stored image; if the job is certainly not queued, remove the image.

    The queue decides on the capacity here, finally, and finds a repeated Idempotency-Key. The keyword arguments are
    those of `JobSubmitter.submit`.
    """
    try:
        with _timed_stage(services, "accept_submit"):
            submission = await services.jobs.submit(
                job,
                fingerprint=fingerprint,
                idempotency_key=idempotency_key,
                client_name=client_name,
                scope=scope,
                key_id=key_id,
            )
    except RedisError as error:
        await _clean_up_after_failed_submit(services, job, error)
    if submission.admission is Admission.ADMITTED:
        return submission
    await _remove_image(services, job)
    match submission.admission:
        case Admission.REPEATED:
            return submission
        case Admission.CONFLICT:
            raise KeyReused(
                f"Idempotency-Key {idempotency_key!r} was used for inspection {submission.inspection_id} with another "
                "image or other fields: use a new key for a new part, and the same request for a retry"
            )
        case _:
            raise capacity_error(services, submission, job.deadline_ms)


async def _clean_up_after_failed_submit(services: Services, job: Job, error: RedisError) -> NoReturn:
    """Remove the image if its job was certainly not accepted, and raise QueueUnavailable.

    If Redis refused (ResponseError), the job is queued only if an earlier attempt's reply was lost. If Redis did not
    answer, the job may be queued, so its bytes stay; a retry under the same Idempotency-Key finds out.
    """
    if isinstance(error, ResponseError):
        with contextlib.suppress(RedisError):
            if await services.results.get(job.id) is None:
                await _remove_image(services, job)
    raise queue_unavailable(services, error) from error


async def _remove_image(services: Services, job: Job) -> None:
    try:
        await services.threads.intake.run(services.artifacts.remove, job.image_ref)
    except ArtifactsUnavailable as error:
        log.warning("image of a refused submission stays", inspection_id=job.id, error=str(error))


def _log_acceptance(job: Job, submission: Submission) -> None:
    log.info(
        "inspection accepted",
        inspection_id=job.id,
        product=job.product,
        bundle=job.bundle_version,
        pool=job.pool,
        station=job.station,
        serial=job.serial,
        image_bytes=job.image_bytes,
        size=f"{job.width}x{job.height}",
        state="queued",
        backlog=submission.backlog,
    )


@contextmanager
def count_rejections(services: Services) -> Iterator[None]:
    """Count every error that leaves the block, by its kind."""
    try:
        yield
    except ServiceError as error:
        services.metrics.count_rejection(error.slug)
        raise
    except RedisError:  # the application's handler answers it as QueueUnavailable: service.api.problems
        services.metrics.count_rejection(QueueUnavailable.slug)
        raise


@contextmanager
def _timed_stage(services: Services, name: str) -> Iterator[None]:
    """Record the block as one stage of a submission: a span, and its seconds."""
    began = time.perf_counter()
    try:
        with services.tracing.span(name):
            yield
    finally:
        services.metrics.observe_stage(name, time.perf_counter() - began)

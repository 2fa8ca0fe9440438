"""Submitting an image, asking for its inspection, fetching its pictures.

    read → product → fields → decode → store the bytes → submit → wait

What cannot be kept is not accepted: the bytes are durable before the job is, and the job before the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

import structlog
from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import ConfigDict, Field, StringConstraints, ValidationError
from redis.exceptions import RedisError, ResponseError

from glad import imaging
from model_store.errors import StoreError
from model_store.store import BundleRef, Store
from service.api import documents
from service.api.images import Described, Upload
from service.api.products import refusal
from service.api.site import Site, SiteOf
from service.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from service.contract import (
    ARTIFACT_NAMES,
    IMAGE,
    LONGEST_WAIT_S,
    ArtifactName,
    Job,
    JobTooLarge,
    Priority,
    Result,
    State,
    Thresholds,
    Traceability,
    new_inspection_id,
    now,
    parse_inspection_id,
)
from service.errors import (
    BacklogFull,
    DeadlineUnreachable,
    FieldProblem,
    InvalidFields,
    KeyReused,
    QueueUnavailable,
    ServiceError,
    StorageUnavailable,
    UnknownArtifact,
    UnknownInspection,
    WaitTooLong,
    field_problems,
)
from service.queue.admission import Outlook, Room
from service.queue.jobs import Outcome, Submission
from service.security.caller import Caller, CallerOf
from service.tracing import current_traceparent

POLL_AGAIN_S = 1
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "BMP": "image/bmp", "TIFF": "image/tiff", "WEBP": "image/webp"}

router = APIRouter(tags=["inspections"])
log = structlog.get_logger(__name__)


class InspectionFields(Traceability):
    """The fields of a submission: query parameters of a raw body, form fields of a multipart one."""

    model_config = ConfigDict(extra="forbid")

    priority: Literal["normal", "high"] = Field("normal", description="claims look at `high` first")
    deadline_ms: int | None = Field(
        None, ge=1, le=86_400_000, description="milliseconds after acceptance; after it nobody waits for the result"
    )


InspectionPath = Annotated[str, Path(alias="id", description="the inspection's id, a UUIDv7")]
IdempotencyKeyText = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[\x21-\x7e]+$")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="same key, same inspection, per API key and product; kept as long as the result",
        examples=["line-3-000123-top"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(alias="Prefer", description=f"`wait=N`: hold the answer up to N s, at most {LONGEST_WAIT_S}"),
]


@router.post(
    "/v1/products/{product}/inspections",
    summary="Submit an image",
    status_code=202,
    response_model=Result,
    responses=documents.SUBMIT_RESPONSES,
    openapi_extra=documents.submit_body(InspectionFields),
)
async def submit(
    request: Request,
    site: SiteOf,
    caller: CallerOf,
    *,
    product: Annotated[str, Path(description="the product's name", examples=["bracket"])],
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accepts one image: as the body itself, with the fields as query parameters, or as a multipart form.

    Answers 202 with the waiting inspection, or 200 where it has ended already: within `Prefer: wait=N` seconds, or
    earlier under the same `Idempotency-Key`.
    """
    with rejections_counted(site):
        upload = await site.decoder.upload(request)
        accepted = await accept(site, caller, product, upload, idempotency_key)
    return await answer(site, accepted, wait_seconds(prefer))


@router.get(
    "/v1/inspections/{id}",
    summary="Ask for an inspection",
    response_model=Result,
    responses=documents.INSPECTION_RESPONSES,
)
async def inspection(site: SiteOf, inspection_id: InspectionPath) -> Response:
    """The inspection as it stands; `state` says whether it has ended."""
    result = await find(site, inspection_id)
    headers = {} if result.state.final else {"Retry-After": str(POLL_AGAIN_S)}
    return _json(result, 200, headers)


@router.get(
    "/v1/inspections/{id}/{artifact}",
    summary="Fetch a picture",
    response_class=Response,
    responses=documents.ARTIFACT_RESPONSES,
)
async def artifact(
    site: SiteOf,
    inspection_id: InspectionPath,
    artifact: Annotated[str, Path(description=", ".join(ARTIFACT_NAMES), examples=["heatmap.png"])],
) -> Response:
    """One picture of the inspection: `heatmap.png` (fixed scale), `overlay.png`, `reconstruction.png`, `mask.png`,
    `map.npy` (float32, in the original's aspect), or `image`, the bytes as they came."""
    name = _artifact_name(artifact)
    result = await find(site, inspection_id)
    if name not in result.artifacts:
        raise UnknownArtifact(
            f"inspection {result.id} has no {name}: its state is {result.state.value}, and it has "
            f"{', '.join(result.artifacts)}"
        )
    content = await asyncio.to_thread(load_artifact, site, result.id, name)
    headers = {
        "Content-Disposition": f'inline; filename="{result.id}-{name}"',
        "Cache-Control": "private, max-age=86400, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=_media_type(name, content), headers=headers)


@dataclass(frozen=True)
class Accepted:
    """A submission that stands, be it new or a repeat."""

    job: Job
    submission: Submission


@dataclass(frozen=True)
class Origin:
    """The station whose address an image came to."""

    station: str
    defaults: Mapping[str, Any]
    """Fields of images that do not name them."""

    @property
    def scope(self) -> str:
        """Where an Idempotency-Key is one. No product has this name."""
        return f"station/{self.station}"


async def accept(
    site: Site,
    caller: Caller,
    product: str,
    upload: Upload,
    idempotency_key: str | None,
    *,
    origin: Origin | None = None,
) -> Accepted:
    """One image on its way from the upload into the queue; ServiceError if it is refused."""
    bundle, thresholds = await asyncio.to_thread(pin, site.store, product)
    given = _read_fields(upload.fields)
    fields = given if origin is None else _with_defaults(upload.fields, origin)
    await _refuse_without_room(site, fields, may_be_a_repeat=idempotency_key is not None)
    with _stage(site, "accept_decode"):
        image = await site.decoder.describe(upload.content)
    job = _make_job(bundle, thresholds, fields, upload, image, pool=site.settings.pool)
    key = _Key(idempotency_key, _fingerprint(job, given), caller.id, None if origin is None else origin.scope)
    submission = await _keep_and_submit(site, job, upload, key)
    if submission.outcome is Outcome.ACCEPTED:
        site.metrics.submitted(product, job.priority.value, job.station)
        log.info("inspection accepted", **_described(job), backlog=submission.outlook.backlog)
    return Accepted(job, submission)


def pin(store: Store, product: str) -> tuple[BundleRef, Thresholds]:
    """The bundle and thresholds of a product that are in force now. UnknownProduct or ProductUnusable."""
    try:
        bundle = store.resolve(product)
        limits = store.thresholds(bundle)
    except (StoreError, ValueError) as error:
        raise refusal(store, product, error) from error
    return bundle, Thresholds(review=limits.review, fail=limits.fail, pixel=limits.pixel)


def _with_defaults(given: Mapping[str, Any], origin: Origin) -> InspectionFields:
    if given.get("station", origin.station) != origin.station:
        message = f"is not the station of this address, {origin.station!r}: leave the field out"
        raise _invalid([FieldProblem(field="station", message=message)])
    return _read_fields({**origin.defaults, **given, "station": origin.station})


def _read_fields(given: Mapping[str, Any]) -> InspectionFields:
    try:
        return InspectionFields.model_validate(given)
    except ValidationError as error:
        raise _invalid(field_problems(list(error.errors()))) from error


def _invalid(problems: list[FieldProblem]) -> InvalidFields:
    return InvalidFields("; ".join(f"{one.field}: {one.message}" for one in problems)[:1000], errors=problems)


async def _refuse_without_room(site: Site, fields: InspectionFields, *, may_be_a_repeat: bool) -> None:
    """Before anything costs: is Redis there, and is there room? The submit script decides again, and finally.

    A repeat of an accepted submission has its place already, so a full queue does not refuse it here.
    """
    try:
        outlook = await site.jobs.ask(Priority(fields.priority), fields.deadline_ms)
    except RedisError as error:
        raise queue_unavailable(site, error) from error
    if outlook.room is not Room.OPEN and not may_be_a_repeat:
        raise no_room(site, outlook, fields.deadline_ms)
    await _refuse_without_disk(site)


async def _refuse_without_disk(site: Site) -> None:
    """A disk that is nearly full still has to take results and the queue's log: new images come last."""
    least = site.settings.min_free_bytes
    try:
        free = await asyncio.to_thread(site.artifacts.free_bytes)
    except ArtifactsUnavailable:
        return  # storing will say so
    if free is not None and free < least:
        raise StorageUnavailable(
            f"the image store has {free} bytes free; at least {least} (GLAD_MIN_FREE_BYTES) must be: free space, or "
            "send it again later",
            retry_after_s=site.settings.retry_after_s,
        )


def _make_job(
    bundle: BundleRef, thresholds: Thresholds, fields: InspectionFields, upload: Upload, image: Described, *, pool: str
) -> Job:
    inspection_id = new_inspection_id()
    job = Job(
        **{name: getattr(fields, name) for name in Traceability.model_fields},
        id=inspection_id,
        product=bundle.product,
        bundle_version=bundle.version,
        bundle_hash=bundle.hash,
        thresholds=thresholds,
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
        raise _invalid([FieldProblem(field="metadata", message=str(error))]) from error
    return job


@dataclass(frozen=True)
class _Key:
    """An Idempotency-Key, and what it stands for."""

    text: str | None
    fingerprint: str
    """Equal for equal requests."""
    client_name: str
    """Whose it is."""
    scope: str | None
    """Where it is one; None: within the product."""


async def _keep_and_submit(site: Site, job: Job, upload: Upload, key: _Key) -> Submission:
    """Stores the bytes, then submits. Whatever is certainly not accepted leaves no bytes behind."""
    with _stage(site, "accept_store"):
        await _store_image(site, job, upload.content)
    try:
        with _stage(site, "accept_submit"):
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


def _fingerprint(job: Job, fields: InspectionFields) -> str:
    """Equal for equal requests: the image's bytes and every field."""
    given = json.dumps(fields.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{job.image_sha256}\n{given}".encode()).hexdigest()


async def answer(site: Site, accepted: Accepted, wait_s: int) -> Response:
    """200 with an ended inspection, 202 with one that waits."""
    result = await standing(site, accepted, wait_s)
    headers = {"Location": f"/v1/inspections/{result.id}"}
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
    if not result.state.final:
        headers["Retry-After"] = str(POLL_AGAIN_S)
    return _json(result, 200 if result.state.final else 202, headers)


async def standing(site: Site, accepted: Accepted, wait_s: float = 0) -> Result:
    """The inspection that stands for a submission. What was accepted is never answered with an error."""
    repeated = accepted.submission.outcome is Outcome.SAME
    result: Result | None = Result.waiting(accepted.job)
    if repeated or wait_s:
        try:
            result = await site.results.wait(accepted.submission.inspection_id, wait_s)
        except RedisError as error:
            if repeated:
                raise queue_unavailable(site, error) from error
    if result is None:
        raise unknown_inspection(accepted.submission.inspection_id)
    return result


def wait_seconds(prefer: str | None) -> int:
    """N of `Prefer: wait=N`, at most 30; 0 without one. A preference that is not understood is ignored (RFC 7240)."""
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit() and len(digits) < 10:
            return min(int(digits), LONGEST_WAIT_S)
    return 0


async def find(site: Site, inspection_id: str) -> Result:
    """The inspection as it stands; UnknownInspection, or QueueUnavailable."""
    try:
        found = await site.results.get(parse_inspection_id(inspection_id))
    except ValueError:
        found = None
    except RedisError as error:
        raise queue_unavailable(site, error) from error
    if found is None:
        raise unknown_inspection(inspection_id)
    return found


def unknown_inspection(inspection_id: str) -> UnknownInspection:
    """Nothing is kept under this id."""
    return UnknownInspection(f"no inspection {inspection_id[:100]!r}: it was never accepted here, or is no longer kept")


def _artifact_name(text: str) -> ArtifactName:
    for name in ARTIFACT_NAMES:
        if name == text:
            return name
    raise UnknownArtifact(f"no artifact {text[:100]!r}: ask for {', '.join(ARTIFACT_NAMES)}")


def load_artifact(site: Site, inspection_id: str, name: ArtifactName) -> bytes:
    """The stored bytes; UnknownArtifact, or StorageUnavailable. Blocks."""
    try:
        return site.artifacts.get(site.artifacts.ref(inspection_id, name))
    except ArtifactNotFound as error:
        raise UnknownArtifact(f"{name} of inspection {inspection_id} is no longer kept") from error
    except ArtifactsUnavailable as error:
        log.error("artifact not read", inspection_id=inspection_id, artifact=name, error=str(error))
        raise StorageUnavailable(
            f"{name} of inspection {inspection_id} cannot be read now: try again later",
            retry_after_s=site.settings.retry_after_s,
        ) from error


def _media_type(name: ArtifactName, content: bytes) -> str:
    if name.endswith(".png"):
        return "image/png"
    if name != IMAGE:
        return "application/octet-stream"
    try:
        return MEDIA_TYPES[imaging.sniff_format(content)]
    except imaging.ImageError:
        return "application/octet-stream"


def _json(result: Result, status: int, headers: dict[str, str]) -> Response:
    return Response(result.to_json(), status, headers, media_type="application/json")


def queue_unavailable(site: Site, error: RedisError) -> QueueUnavailable:
    """Redis is away, or refuses: logged, and 503."""
    log.error("queue unavailable", error=str(error), kind=type(error).__name__)
    return QueueUnavailable(
        "the queue does not answer, or refuses writes: try again later, with an Idempotency-Key so that it counts once",
        retry_after_s=site.settings.retry_after_s,
    )


def no_room(site: Site, outlook: Outlook, deadline_ms: int | None) -> ServiceError:
    """Why a submission is refused, and when to come back: by the measured pace, or GLAD_RETRY_AFTER_S before any."""
    limits = site.jobs.limits
    retry_after_s = outlook.retry_after_s(limits, deadline_ms=deadline_ms, unmeasured_s=site.settings.retry_after_s)
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


def _described(job: Job) -> dict[str, Any]:
    """What a log line says of a job."""
    return {
        "inspection_id": job.id,
        "product": job.product,
        "bundle": job.bundle_version,
        "station": job.station,
        "serial": job.serial,
        "image_bytes": job.image_bytes,
        "size": f"{job.width}x{job.height}",
        "state": State.QUEUED.value,
    }


@contextmanager
def rejections_counted(site: Site) -> Iterator[None]:
    """Every refusal inside is counted by its kind."""
    try:
        yield
    except ServiceError as error:
        site.metrics.rejected(error.slug)
        raise


@contextmanager
def _stage(site: Site, name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        with site.tracing.span(name):
            yield
    finally:
        site.metrics.stage(name, time.perf_counter() - began)

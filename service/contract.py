"""Job, Result, Event: what API, queue and worker exchange. No torch, no Redis, no HTTP.

A `Job` is pinned when an image is accepted (bundle and thresholds) and never changes. `Findings` are what the worker
measured. A `Result` is the inspection as the REST contract shows it, in every state. An `Event` says that one ended.
Stored JSON is read leniently (unknown fields are ignored), so that old and new processes can share a queue.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, get_args
from uuid import UUID

import uuid6
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from model_store import thresholds
from model_store.manifest import Name, Sha256

Verdict = thresholds.Verdict
MAX_JOB_BYTES = 2048
MAX_METADATA_BYTES = 1024
LONGEST_WAIT_S = 30
"""Of `Prefer: wait=N`."""
LONGEST_INFER_WAIT_S = 60
"""Of an inference request under /v2: as long as its usual clients wait for an answer."""
MAX_REGIONS = 256
"""A result keeps this many regions, those with the highest peaks; the mask shows the rest."""

ArtifactName = Literal["heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image"]
ARTIFACT_NAMES: tuple[ArtifactName, ...] = get_args(ArtifactName)
IMAGE: ArtifactName = "image"


class JobTooLarge(ValueError):
    """A job's JSON exceeds MAX_JOB_BYTES: its traceability fields are too long together."""


def new_inspection_id() -> str:
    """A fresh UUIDv7: ids sort by the time they were made."""
    return str(uuid6.uuid7())


def parse_inspection_id(text: str) -> str:
    """The id in canonical form, or ValueError: only a UUIDv7 names an inspection."""
    value = UUID(text)
    if value.version != 7 or str(value) != text:
        raise ValueError(f"{text!r} is not a UUIDv7 in lower case with hyphens")
    return text


def now() -> datetime:
    """The time in UTC, to the millisecond."""
    return _to_utc_ms(datetime.now(UTC))


def _to_utc_ms(value: datetime) -> datetime:
    try:
        utc = value.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from error
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def rfc3339(value: datetime) -> str:
    """`2026-11-23T08:15:30.120Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_text(text: str) -> str:
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("holds a control character or half a surrogate pair: use printable text")
    return text


def _parse_metadata(value: object) -> object:
    """JSON text as a form or query carries it becomes an object; an object passes; both are measured."""
    if isinstance(value, str):
        try:
            size = len(value.encode())
            if size > MAX_METADATA_BYTES:
                raise ValueError(f"is {size} bytes; at most {MAX_METADATA_BYTES} are allowed")
            value = json.loads(value, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise ValueError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f'is a JSON {type(value).__name__}: give an object, such as {{"shift": 2}}')
    _check_json_value(value)
    return value


def _refuse_constant(constant: str) -> object:
    raise ValueError(f"holds {constant}, which is not JSON")


def _check_json_value(value: object, depth: int = 0) -> None:
    if depth > 16:
        raise ValueError("is nested deeper than 16 levels")
    match value:
        case dict():
            for key, item in value.items():
                _check_text(str(key))
                _check_json_value(item, depth + 1)
        case list():
            for item in value:
                _check_json_value(item, depth + 1)
        case str():
            _check_text(value)
        case float() if not math.isfinite(value):
            raise ValueError("holds a number that is too large for JSON")
        case _:
            pass


def _metadata_size(value: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"is {size} bytes of JSON; at most {MAX_METADATA_BYTES} are allowed")
    return value


Timestamp = Annotated[AwareDatetime, AfterValidator(_to_utc_ms), PlainSerializer(rfc3339, return_type=str)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_check_text)]
Note = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_check_text)]
Metadata = Annotated[dict[str, Any], BeforeValidator(_parse_metadata), AfterValidator(_metadata_size)]
InspectionId = Annotated[str, AfterValidator(parse_inspection_id)]


class Message(BaseModel):
    """Base of what is stored and exchanged: immutable; unknown fields of a newer version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class State(StrEnum):
    """Where an inspection stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Nothing will change any more."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.DONE, State.FAILED, State.EXPIRED})


class Priority(StrEnum):
    """In which stream a job waits. Claims look at `high` first."""

    HIGH = "high"
    NORMAL = "normal"


class Thresholds(thresholds.Thresholds):
    """The limits that were in force when the image was accepted."""

    model_config = ConfigDict(extra="ignore")  # stored, and read by older processes: as Message


class Traceability(Message):
    """What the line tells about the part; stored and shown, never part of the verdict."""

    serial: Text | None = Field(None, description="the part's serial number", examples=["SN-000123"])
    lot: Text | None = Field(None, description="production lot", examples=["L-42"])
    view: Text | None = Field(None, description="which side or camera position", examples=["top"])
    station: Text | None = Field(None, description="where the image was taken", examples=["line-3"])
    captured_at: Timestamp | None = Field(
        None, description="when the image was taken: RFC 3339 with a time zone", examples=["2026-11-23T08:15:30.120Z"]
    )
    metadata: Metadata | None = Field(
        None, description="free JSON object, at most 1 KB", examples=[{"shift": 2, "operator": "a7"}]
    )


class Job(Traceability):
    """One accepted image, as the worker sees it: at most 2 KB, pointing to the stored bytes."""

    id: InspectionId
    product: Name
    bundle_version: Name
    bundle_hash: Sha256
    thresholds: Thresholds
    image_ref: str = Field(description="key of the original bytes in the artifact store")
    image_sha256: Sha256
    image_format: str = Field(description="format found in the content, such as JPEG")
    image_bytes: int = Field(ge=1)
    width: int = Field(ge=1, description="of the upright image, in pixels")
    height: int = Field(ge=1)
    accepted_at: Timestamp
    priority: Priority = Priority.NORMAL
    deadline_ms: int | None = Field(None, ge=1, description="milliseconds after acceptance; after it nobody waits")
    pool: Name = "default"
    replay_of: InspectionId | None = Field(None, description="the inspection whose image this one inspects again")
    traceparent: str | None = Field(
        None, max_length=64, description="the W3C trace context of the request, where traces are collected"
    )

    def to_json(self) -> str:
        """The JSON that is queued; JobTooLarge beyond MAX_JOB_BYTES."""
        text = self.model_dump_json(exclude_none=True)
        if (size := len(text.encode())) > MAX_JOB_BYTES:
            raise JobTooLarge(
                f"the job is {size} bytes; at most {MAX_JOB_BYTES} are allowed: shorten serial, lot, view, station or "
                "metadata"
            )
        return text

    @property
    def traceability(self) -> dict[str, Any]:
        """The fields of `Traceability`, for a Result."""
        return {name: getattr(self, name) for name in Traceability.model_fields}


class Region(Message):
    """One connected defect area, in pixels of the upright original."""

    box: tuple[int, int, int, int] = Field(description="x, y, width, height")
    area_px: int = Field(ge=1)
    peak: float = Field(description="highest map value inside")


class Timings(Message):
    """Milliseconds spent per stage."""

    queue: float = Field(ge=0)
    decode: float = Field(ge=0)
    encode: float = Field(ge=0)
    denoise: float = Field(ge=0)
    score: float = Field(ge=0)
    total: float = Field(ge=0, description="from acceptance to the result")


class Findings(Message):
    """What the worker measured on one image; the verdict follows from the job's thresholds."""

    score: float = Field(description="raw image score")
    regions: tuple[Region, ...] = ()
    denoising_step: int | None = Field(description="the step at which the trigger fired (Sec. 3.3)")
    unet_evaluations: int = Field(ge=0)
    seed: int = Field(ge=0, description="noise seed of the bundle; the noise itself is seeded by the content")
    timings_ms: Timings
    artifacts: tuple[ArtifactName, ...] = Field((), description="the pictures that were stored")


class Failure(Message):
    """Why an inspection ended without a result."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="stable", examples=["bundle_unavailable"])
    detail: str = Field(max_length=1000, description="for people")


class BundleId(Message):
    """The bundle that inspects the image: pinned at acceptance."""

    version: Name
    hash: Sha256


class Decision(StrEnum):
    """What an operator found."""

    OK = "ok"
    DEFECT = "defect"


class Review(Message):
    """An operator's judgement of an inspected part. Reviews are never changed; the last one counts."""

    decision: Decision
    note: Note | None = Field(None, description="for people", examples=["scratch is on the fixture"])
    by: Text = Field(description="who", examples=["a.meier"])
    at: Timestamp = Field(description="when it was recorded")


class Result(Traceability):
    """An inspection, in any state. `verdict` null is never pass."""

    id: InspectionId = Field(examples=["019abc12-3456-7def-8123-456789abcdef"])
    state: State
    product: Name
    bundle: BundleId | None = Field(description="null only if the stored job could not be read")
    priority: Priority = Priority.NORMAL
    deadline_ms: int | None = None
    score: float | None = Field(None, description="raw image score")
    calibrated_score: float | None = Field(None, description="score / (score + fail threshold): 0.5 at the threshold")
    thresholds: Thresholds | None = Field(description="null only if the stored job could not be read")
    verdict: Verdict | None = Field(
        None, description="`pass`, `review`, `fail`; null while unknown, which is never pass"
    )
    regions: tuple[Region, ...] = Field((), description=f"at most {MAX_REGIONS}, the highest peaks first")
    denoising_step: int | None = None
    unet_evaluations: int | None = None
    seed: int | None = None
    timings_ms: Timings | None = None
    artifacts: dict[ArtifactName, str] = Field(default_factory=dict, description="name -> link")
    image_sha256: Sha256 | None = Field(description="null only if the stored job could not be read")
    width: int | None = Field(description="of the upright image, in pixels; null as above")
    height: int | None
    accepted_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    attempts: int = Field(0, description="how often a worker took it up")
    replay_of: InspectionId | None = Field(None, description="the inspection whose image this one inspects again")
    error: Failure | None = Field(None, description="set when the state is `failed` or `expired`")
    reviews: tuple[Review, ...] = Field((), description="what operators found, oldest first; the last one counts")

    @model_validator(mode="after")
    def _states_mean_what_they_say(self) -> Self:
        if (self.state is State.DONE) != (self.verdict is not None):
            raise ValueError(f"state is {self.state} and verdict is {self.verdict}: exactly `done` has a verdict")
        if (self.error is not None) != (self.state in {State.FAILED, State.EXPIRED}):
            raise ValueError(
                f"state is {self.state} and error is {self.error}: exactly `failed` and `expired` have one"
            )
        return self

    @classmethod
    def waiting(
        cls, job: Job, state: State = State.QUEUED, *, started_at: datetime | None = None, attempts: int = 0
    ) -> Self:
        """The inspection before its end."""
        return cls(**_pinned(job), state=state, started_at=started_at, attempts=attempts)

    @classmethod
    def done(cls, job: Job, findings: Findings, *, started_at: datetime, attempts: int) -> Self:
        """The inspection with its verdict, by the job's pinned thresholds. ValueError if the score is not finite."""
        highest = sorted(findings.regions, key=lambda region: (-region.peak, region.box))[:MAX_REGIONS]
        pinned = {**_pinned(job), "artifacts": artifact_links(job.id, (*findings.artifacts, IMAGE))}
        return cls(
            **pinned,
            state=State.DONE,
            score=findings.score,
            calibrated_score=job.thresholds.calibrate(findings.score),
            verdict=job.thresholds.verdict(findings.score),
            regions=tuple(highest),
            denoising_step=findings.denoising_step,
            unet_evaluations=findings.unet_evaluations,
            seed=findings.seed,
            timings_ms=findings.timings_ms,
            started_at=started_at,
            finished_at=now(),
            attempts=attempts,
        )

    @classmethod
    def ended(cls, job: Job, state: State, error: Failure, *, started_at: datetime | None, attempts: int) -> Self:
        """The inspection that ended without a verdict: `failed` or `expired`."""
        return cls(
            **_pinned(job), state=state, error=error, started_at=started_at, finished_at=now(), attempts=attempts
        )

    def to_json(self) -> str:
        """The JSON that is stored and sent."""
        return self.model_dump_json()


def _pinned(job: Job) -> dict[str, Any]:
    return {
        **job.traceability,
        "id": job.id,
        "product": job.product,
        "bundle": BundleId(version=job.bundle_version, hash=job.bundle_hash),
        "priority": job.priority,
        "deadline_ms": job.deadline_ms,
        "thresholds": job.thresholds,
        "artifacts": artifact_links(job.id, (IMAGE,)),
        "image_sha256": job.image_sha256,
        "width": job.width,
        "height": job.height,
        "accepted_at": job.accepted_at,
        "replay_of": job.replay_of,
    }


def artifact_links(inspection_id: str, names: tuple[ArtifactName, ...]) -> dict[ArtifactName, str]:
    """name -> path on this service, in the order of the contract."""
    return {name: f"/v1/inspections/{inspection_id}/{name}" for name in ARTIFACT_NAMES if name in names}


class Event(Message):
    """One inspection ended, or was reviewed: the line of the event stream that page, MES cursor and outbox read."""

    type: Literal["inspection.done", "inspection.failed", "inspection.expired", "inspection.reviewed"]
    inspection_id: InspectionId
    product: Name
    serial: Text | None = None
    lot: Text | None = None
    station: Text | None = None
    view: Text | None = None
    verdict: Verdict | None = None
    score: float | None = None
    error: Failure | None = None
    review: Review | None = Field(None, description="set when the type is `inspection.reviewed`")
    at: Timestamp

    @classmethod
    def of_review(cls, result: Result, review: Review) -> Self:
        """The event of a review of this ended inspection."""
        return cls.of(result).model_copy(update={"type": "inspection.reviewed", "review": review, "at": review.at})

    @classmethod
    def of(cls, result: Result) -> Self:
        """The event of an ended inspection."""
        return cls.model_validate(
            {
                "type": f"inspection.{result.state.value}",
                "inspection_id": result.id,
                "product": result.product,
                "serial": result.serial,
                "lot": result.lot,
                "station": result.station,
                "view": result.view,
                "verdict": result.verdict,
                "score": result.score,
                "error": result.error,
                "at": result.finished_at,
            }
        )

"""A job: one accepted image, pinned to its bundle, thresholds, gate and pictures; it never changes."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from model_store import manifest as thresholds
from model_store.manifest import Name, Sha256, Verdict
from model_store.product_state import PicturesWhen
from service.contract.types import InspectionId, Message, Text, Timestamp, check_text

MAX_JOB_BYTES = 2048
MAX_METADATA_BYTES = 1024
DEFAULT_POOL = "default"


class JobTooLarge(ValueError):
    """A job's JSON exceeds MAX_JOB_BYTES: its traceability fields are too long together."""


def _parse_metadata(value: object) -> object:
    """Return the object of a JSON text, as a form or query carries it, or the given object; check size and depth."""
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
                check_text(str(key))
                _check_json_value(item, depth + 1)
        case list():
            for item in value:
                _check_json_value(item, depth + 1)
        case str():
            check_text(value)
        case float() if not math.isfinite(value):
            raise ValueError("holds a number that is too large for JSON")
        case _:
            pass


def _metadata_size(value: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"is {size} bytes of JSON; at most {MAX_METADATA_BYTES} are allowed")
    return value


Metadata = Annotated[dict[str, Any], BeforeValidator(_parse_metadata), AfterValidator(_metadata_size)]


class Priority(StrEnum):
    """Names of the two streams in which jobs wait. Claims read `high` first, but each fourth turn is `normal`'s."""

    HIGH = "high"
    NORMAL = "normal"


BELOW_ANY_SCORE = -1.0
"""A review threshold that every score reaches: none is negative, but for rounding."""


class Thresholds(thresholds.VerdictThresholds):
    """The limits that were in force when the image was accepted."""

    model_config = ConfigDict(extra="ignore")  # stored, and read by older processes: as Message

    @classmethod
    def from_limits(cls, limits: thresholds.VerdictThresholds) -> Self:
        """Return a copy of the limits that the store has in force."""
        return cls(review=limits.review, fail=limits.fail, pixel=limits.pixel)

    @property
    def on_hold(self) -> Self:
        """Return limits under which nothing passes: what would, is for review. What fails still fails."""
        return self.model_copy(update={"review": BELOW_ANY_SCORE})


class Traceability(Message):
    """Data about the part, as the line sends it: stored and shown, never part of the verdict."""

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
    gate: bool = Field(False, description="the bundle's quality gate is asked; jobs of older versions ask none")
    pictures: PicturesWhen = Field(
        "always", description="whether those of a part that passes are drawn at once; jobs of older versions: all are"
    )
    image_ref: str = Field(description="key of the original bytes in the artifact store")
    image_sha256: Sha256
    image_format: str = Field(description="format found in the content, such as JPEG")
    image_bytes: int = Field(ge=1)
    width: int = Field(ge=1, description="of the upright image, in pixels")
    height: int = Field(ge=1)
    accepted_at: Timestamp
    priority: Priority = Priority.NORMAL
    deadline_ms: int | None = Field(None, ge=1, description="milliseconds after acceptance; after it nobody waits")
    hold: Text | None = Field(None, description="why its station is on hold: then `thresholds` let nothing pass")
    pool: Name = DEFAULT_POOL
    replay_of: InspectionId | None = Field(None, description="the inspection whose image this one inspects again")
    traceparent: str | None = Field(
        None, max_length=64, description="the W3C trace context of the request, where traces are collected"
    )

    def to_json(self) -> str:
        """Return the JSON that is queued.

        Raises:
            JobTooLarge: if it has more than MAX_JOB_BYTES.
        """
        text = self.model_dump_json(exclude_none=True)
        if (size := len(text.encode())) > MAX_JOB_BYTES:
            raise JobTooLarge(
                f"the job is {size} bytes; at most {MAX_JOB_BYTES} are allowed: shorten serial, lot, view, station or "
                "metadata"
            )
        return text

    def draws_pictures(self, score: float) -> bool:
        """Return whether pictures of an image with this score are drawn at once: always, unless it passes."""
        return self.pictures == "always" or self.thresholds.verdict(score) is not Verdict.PASS

    @property
    def traceability(self) -> dict[str, Any]:
        """The fields of `Traceability`, for a Result."""
        return {name: getattr(self, name) for name in Traceability.model_fields}

"""A job: one accepted image, pinned to its bundle, thresholds, gate and pictures; it never changes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self

from pydantic import ConfigDict, Field

from glad.quality_gate.limits import QualityGate
from glad_client.fields import InspectionId, Name, Sha256, Text, Timestamp
from glad_client.results import FailedSample, LimitSampleKind, Priority, Thresholds, Traceability
from model_store.manifest import Verdict, VerdictThresholds
from model_store.product_state import GateOverrides, PicturesWhen

MAX_JOB_BYTES = 2048
DEFAULT_POOL = "default"


class JobTooLarge(ValueError):
    """A job's JSON exceeds MAX_JOB_BYTES: its traceability fields are too long together."""


BELOW_ANY_SCORE = -1.0
"""A review threshold that every score reaches: none is negative, but for rounding."""


class PinnedThresholds(VerdictThresholds):
    """The limits that were in force when the image was accepted."""

    model_config = ConfigDict(extra="ignore")  # stored, and read by older processes: as Message

    @classmethod
    def from_limits(cls, limits: VerdictThresholds | Thresholds) -> Self:
        """Return a copy of the limits that the store has in force, or of those that a result shows."""
        return cls(review=limits.review, fail=limits.fail, pixel=limits.pixel)

    @property
    def on_hold(self) -> Self:
        """Return limits under which nothing passes: what would, is for review. What fails still fails."""
        return self.model_copy(update={"review": BELOW_ANY_SCORE})


class PinnedGateLimits(GateOverrides):
    """The limits that replaced those of the bundle's gate when the image was accepted."""

    model_config = ConfigDict(extra="ignore")  # as PinnedThresholds


class Job(Traceability):
    """One accepted image, as the worker sees it: at most 2 KB, pointing to the stored bytes."""

    id: InspectionId
    product: Name
    bundle_version: Name
    bundle_hash: Sha256
    thresholds: PinnedThresholds
    gate: bool = Field(False, description="the bundle's quality gate is asked; jobs of older versions ask none")
    gate_limits: PinnedGateLimits | None = Field(
        None, description="in place of those of the bundle's gate; null: all are the bundle's"
    )
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
    hold_sample: FailedSample | None = Field(None, description="the limit sample that put its station on hold")
    audit: float | None = Field(
        None, gt=0, le=1, description="set where it was drawn for the reviews' random audit: the probability of it"
    )
    takt_ms: int | None = Field(
        None, ge=1, description="of its station: without a verdict so many ms after acceptance the part is for review"
    )
    limit_sample: LimitSampleKind | None = Field(None, description="it shows a limit sample of its station, not a part")
    pool: Name = DEFAULT_POOL
    replay_of: InspectionId | None = Field(None, description="the inspection whose image this one inspects again")
    replayed_by: Text | None = Field(None, description="who had it inspected again, as they said")
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

    def gate_in_force(self, bundle_gate: QualityGate | None) -> QualityGate | None:
        """Return the gate that is asked of the image, from that of its bundle; None: no gate is."""
        if not self.gate or bundle_gate is None:
            return None
        return bundle_gate if self.gate_limits is None else self.gate_limits.over(bundle_gate)

    @property
    def due_at(self) -> datetime | None:
        """When the takt of its station is over; None: it has none."""
        return None if self.takt_ms is None else self.accepted_at + timedelta(milliseconds=self.takt_ms)

    @property
    def traceability(self) -> dict[str, Any]:
        """The fields of `Traceability`, for a Result."""
        return {name: getattr(self, name) for name in Traceability.model_fields}

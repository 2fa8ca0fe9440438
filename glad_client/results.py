"""An inspection as the REST contract shows it, in every state.

JSON is read leniently: fields that only a newer service has are ignored.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, computed_field, model_validator

from glad_client.decisions import (
    MAX_DRAWN_REGIONS,
    Decision,
    DefectCode,
    Disposition,
    DrawnRegion,
    PartDisposition,
    PeoplesDecision,
    Review,
    counted_review,
    is_disputed,
)
from glad_client.fields import ArtifactName, InspectionId, Message, Metadata, Name, Sha256, Text, Timestamp

__all__ = [
    "FINAL_STATES", "MAX_DRAWN_REGIONS", "MAX_REGIONS", "BundleId", "Decision", "DefectCode", "Disposition",
    "DrawnRegion", "Failure", "HottestPlace", "LimitSampleKind", "PartDisposition",
    "Priority", "Quality", "QualityCheck", "QualityReason", "Region", "Result", "Review", "ReviewReason", "State",
    "Thresholds", "Timings", "Traceability", "Verdict", "counted_review",
]  # fmt: skip

MAX_REGIONS = 256
"""A result keeps this many regions, those with the highest peaks; the mask shows the rest."""


class Verdict(StrEnum):
    """The decision on a part. The absence of a verdict never means `pass`."""

    PASS = "pass"
    REVIEW = "review"
    FAIL = "fail"


class QualityCheck(StrEnum):
    """The reasons for which an image is not inspected."""

    NO_PART = "no_part"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"


ReviewReason = Literal["station_held", "overtime", "quality", "no_result", "score", "missing", "disputed"]
"""A reason why a person has to look. Of a single image all but the last two; `missing` is a view without an image."""

LimitSampleKind = Literal["good", "bad"]
"""What a limit sample is known to be."""


class Priority(StrEnum):
    """Names of the two streams in which jobs wait. Claims read `high` first, but each fourth turn is `normal`'s."""

    HIGH = "high"
    NORMAL = "normal"


class Thresholds(Message):
    """The limits that were in force when the image was accepted."""

    review: float = Field(description="score from which the verdict is `review`")
    fail: float = Field(gt=0, description="score from which the verdict is `fail`")
    pixel: float = Field(gt=0, description="map value from which a pixel belongs to a defect region")


class FailedSample(Message):
    """The limit sample whose wrong verdict put a station on hold: what a page needs to say it in its own language."""

    serial: Text
    expected: LimitSampleKind
    verdict: Verdict | None = Field(description="null: none")


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


class QualityReason(Message):
    """A reason why the image is not fit for inspection."""

    check: QualityCheck = Field(description="stable; `no_part` means the part that the product's good images show")
    measure: str = Field(description="the limit of the bundle's gate that was passed", examples=["darkest"])
    value: float = Field(description="what was measured")
    limit: float
    detail: str = Field(max_length=300, description="for people: what was found, what was expected, what to check")


class Quality(Message):
    """The quality gate's answer. An image that is unfit for inspection has no score: it is for people to look at."""

    passed: bool
    reasons: tuple[QualityReason, ...] = Field((), description="what to put right first stands first")
    measures: dict[str, float] | None = Field(
        None,
        description="what the gate measured: brightness (0 to 255), black_share, white_share, sharpness, likeness; "
        "null: by an older worker",
    )


class Region(Message):
    """A connected defect area, in pixels of the upright original."""

    box: tuple[int, int, int, int] = Field(description="x, y, width, height")
    area_px: int = Field(ge=1)
    peak: float = Field(description="highest map value inside")


class HottestPlace(Message):
    """The place of the highest map value, whether or not a region is there: a display marks it."""

    x: int = Field(ge=0, description="in pixels of the upright original")
    y: int = Field(ge=0)
    peak: float = Field(description="the map value there; it may lie below the pixel limit")


class Timings(Message):
    """Milliseconds spent per stage."""

    queue: float = Field(ge=0)
    decode: float = Field(ge=0)
    encode: float = Field(ge=0)
    denoise: float = Field(ge=0)
    score: float = Field(ge=0)
    total: float = Field(ge=0, description="from acceptance to the result")


class Failure(Message):
    """The reason why an inspection ended without a result."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="stable", examples=["bundle_unavailable"])
    detail: str = Field(max_length=1000, description="for people")


class State(StrEnum):
    """State of an inspection; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether the state is the last one of an inspection."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.DONE, State.FAILED, State.EXPIRED})


class BundleId(Message):
    """The bundle that inspects the image: pinned at acceptance."""

    version: Name
    hash: Sha256


class Result(Traceability):
    """An inspection, in any state. `verdict` null is never pass."""

    id: InspectionId = Field(examples=["019abc12-3456-7def-8123-456789abcdef"])
    state: State
    product: Name
    bundle: BundleId | None = Field(description="null only if the stored job could not be read")
    priority: Priority = Priority.NORMAL
    deadline_ms: int | None = None
    quality: Quality | None = Field(
        None, description="what the quality gate said; null: it was not asked, or not yet. `passed` false: no score"
    )
    score: float | None = Field(None, description="raw image score; null before the end, and for an unfit image")
    calibrated_score: float | None = Field(None, description="score / (score + fail threshold): 0.5 at the threshold")
    thresholds: Thresholds | None = Field(description="null only if the stored job could not be read")
    verdict: Verdict | None = Field(
        None, description="`pass`, `review`, `fail`; null while unknown, which is never pass"
    )
    hold: Text | None = Field(
        None, description="why the station was on hold when the image came: nothing passed then; null: it was not"
    )
    hold_sample: FailedSample | None = Field(
        None, description="the limit sample that put it on hold; null: a person did, or an older service"
    )
    overtime: bool | None = Field(
        None,
        description="the station's takt was over when the verdict came, or is over without one: nothing passes then; "
        "null: no takt was set",
    )
    limit_sample: LimitSampleKind | None = Field(
        None,
        description="the image shows a limit sample of its station, known to be good or bad, and counts as no part",
    )
    regions: tuple[Region, ...] = Field((), description=f"at most {MAX_REGIONS}, the highest peaks first")
    hottest: HottestPlace | None = Field(
        None, description="where the map is highest; null: not inspected, or by an older version"
    )
    denoising_step: int | None = None
    unet_evaluations: int | None = None
    near_tie: bool | None = Field(
        None,
        description="a decision (the trigger, or the verdict) lay within a ten-thousandth of its threshold: on another "
        "device, or with another number of threads, rounding may decide it the other way; null: not known",
    )
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
    replayed_by: Text | None = Field(None, description="who had it inspected again, as they said")
    error: Failure | None = Field(None, description="set when the state is `failed` or `expired`")
    audit: float | None = Field(
        None,
        gt=0,
        le=1,
        description="set where the image was drawn for the random audit of the reviews: the probability of it",
    )
    reviews: tuple[Review, ...] = Field(
        (),
        description="what operators found, oldest first; the last one counts that was not withdrawn, but for a blind "
        "look at what another person has judged: see `decision`",
    )

    @model_validator(mode="after")
    def _states_mean_what_they_say(self) -> Self:
        if (self.state is State.DONE) != (self.verdict is not None):
            raise ValueError(f"state is {self.state} and verdict is {self.verdict}: exactly `done` has a verdict")
        if (self.error is not None) != (self.state in {State.FAILED, State.EXPIRED}):
            raise ValueError(
                f"state is {self.state} and error is {self.error}: exactly `failed` and `expired` have one"
            )
        return self

    @model_validator(mode="after")
    def _unfit_means_review(self) -> Self:
        if self.unfit and (self.verdict is not Verdict.REVIEW or self.score is not None):
            raise ValueError(
                f"quality is not passed, verdict is {self.verdict} and score is {self.score}: an unfit image is for "
                "review and has no score"
            )
        if self.verdict is not None and self.score is None and not self.unfit:
            raise ValueError(f"verdict is {self.verdict} without a score: only an unfit image has none")
        return self

    @property
    def unfit(self) -> bool:
        """Whether the quality gate found the image unfit for inspection."""
        return self.quality is not None and not self.quality.passed

    @computed_field(  # type: ignore[prop-decorator]
        description="why a person has to look, by what the service found: `station_held`: the station was on "
        "hold, see `hold`; `overtime`: no verdict came within the station's takt; `quality`: the image is unfit for "
        "inspection; `no_result`: the inspection failed or expired; `score`: it reached `thresholds.review`, which is "
        "not asked of a held station. Empty for `pass`, `fail`, and while nothing is known"
    )
    @property
    def review_reasons(self) -> tuple[ReviewReason, ...]:
        """Why a person has to look, by what the service found: computed, so that results of older versions say it."""
        if self.verdict in {Verdict.PASS, Verdict.FAIL}:
            return ()
        has_ended, scored = self.state.final, self.score is not None and self.hold is None
        holds: dict[ReviewReason, bool] = {
            "station_held": has_ended and self.hold is not None,
            "overtime": self.overtime is True,
            "quality": self.unfit,
            "no_result": has_ended and self.verdict is None,
            "score": scored and not self._is_late_pass,
        }
        return tuple(reason for reason, is_one in holds.items() if is_one)

    @property
    def _is_late_pass(self) -> bool:
        """Whether it would be `pass` by its score, had it come within the takt."""
        limits, score = self.thresholds, self.score
        return self.overtime is True and limits is not None and score is not None and score < limits.review

    @computed_field(  # type: ignore[prop-decorator]
        description="what people decided: that of the review that counts; `disputed`: who looked blind after another "
        "person disagrees, so that no decision counts until a third one; null: nobody has decided"
    )
    @property
    def decision(self) -> PeoplesDecision | None:
        """What people decided, all their reviews together."""
        if is_disputed(self.reviews):
            return "disputed"
        review = self.counting_review
        return None if review is None else review.decision.value

    @property
    def counting_review(self) -> Review | None:
        """The review that counts; None: nobody has decided, or two people disagree."""
        return counted_review(self.reviews)

    def to_json(self) -> str:
        """Return the JSON that is stored and sent."""
        return self.model_dump_json()

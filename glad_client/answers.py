"""Answers of the REST interface beside inspections: pages of the history, stations, parts, products, readiness."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from glad_client.decisions import PartDisposition
from glad_client.evaluations import EvaluationView
from glad_client.fields import InspectionId, Message, Name, NotBool, Text, Timestamp
from glad_client.results import FailedSample, Priority, Result, ReviewReason, State, Thresholds, Verdict

PicturesWhen = Literal["always", "on_demand"]
"""When the pictures of a part that passes are drawn: at once, or when somebody asks for one."""


class InspectionPage(Message):
    """A page of the history."""

    model_config = ConfigDict(title="HistoryAnswer")

    inspections: tuple[Result, ...]
    next: str = Field(description="send it as `after`: the page behind this one, now or later")
    more: bool = Field(description="false: nothing more for now; poll again with `next`")


class StationSettings(Message):
    """Settings of a station, as the MES sends them at a changeover."""

    product: Name = Field(description="what is inspected there now", examples=["bracket"])
    lot: Text | None = Field(None, description="of images that name none", examples=["L-42"])
    view: Text | None = Field(None, description="of images that name none", examples=["top"])
    priority: Priority = Field(Priority.NORMAL, description="of images that name none")
    deadline_ms: Annotated[int | None, NotBool] = Field(
        None, ge=1, le=86_400_000, description="of images that name none"
    )
    expected_views: tuple[Text, ...] = Field(
        (), max_length=32, description="a part without one of them is `review`", examples=[["top", "bottom"]]
    )
    hold: Text | None = Field(
        None,
        description="why the station is on hold: while it is, no image that names it passes, what would is `review`; "
        "left out of a change, it stays as it is; null lifts it",
        examples=["images are blurred"],
    )

    takt_ms: Annotated[int | None, NotBool] = Field(
        None,
        ge=1,
        le=86_400_000,
        description="time of a part, in ms after its image was accepted: what has no verdict by then is `review`; left "
        "out of a change, it stays as it is; null: no limit",
        examples=[800],
    )

    @property
    def defaults(self) -> dict[str, Any]:
        """Values for fields that a submission leaves out."""
        return self.model_dump(mode="json", include={"lot", "view", "priority", "deadline_ms"}, exclude_none=True)


class CheckHold(Message):
    """The hold by which a failed check by limit samples stops a station that a person has put on hold already."""

    reason: Text = Field(description="which sample had which verdict", examples=["limit sample BAD-1 (bad) was pass"])
    sample: FailedSample
    at: Timestamp = Field(description="when the check failed")
    by: Text | None = Field(description="who started the check, as they said")


_CHECK_HOLD = "of a failed check, behind a person's hold: in force once that is released; null: there are not two holds"


class StationChange(Message):
    """A change of a station."""

    at: Timestamp
    by: Text | None = Field(None, description="who, as they said")
    settings: StationSettings | None = Field(description="null: the station was removed")
    held_at: Timestamp | None = Field(None, description="since when it is on hold; null: it is not")
    held_by: Text | None = Field(None, description="who put it on hold, as they said")
    held_sample: FailedSample | None = Field(None, description="the limit sample that did; null: a person")
    check_hold: CheckHold | None = Field(None, description=_CHECK_HOLD)


class StationView(StationSettings):
    """A station with its present settings."""

    station: str = Field(examples=["line-3"])
    changed_at: Timestamp
    changed_by: str | None
    held_at: Timestamp | None = Field(None, description="since when it is on hold for this reason; null: it is not")
    held_by: str | None = Field(None, description="who put it on hold, as they said")
    held_sample: FailedSample | None = Field(
        None, description="the limit sample that put it on hold by its wrong verdict; null: a person did"
    )
    check_hold: CheckHold | None = Field(None, description=_CHECK_HOLD)


class StationHistory(StationView):
    """A station with its present settings and all changes of them."""

    changes: list[StationChange] = Field(description="the latest first; at most a thousand")


class StationList(Message):
    """All stations."""

    stations: list[StationView]


VerdictReason = Literal[
    "score", "hold", "overtime", "quality", "operator", "disputed", "no_result", "missing", "unfinished"
]


class PartView(Message):
    """A view of the part, by the last accepted image of it."""

    product: str | None = Field(description="null: a view that only the call expects, and that no image showed")
    view: str | None = Field(description="null: the image named no view")
    state: State | None = Field(description="null: no image has come")
    verdict: Verdict | None = Field(description="null until the inspection ends")
    reason: VerdictReason = Field(
        description="where the verdict is from: the image's score; `hold`: its station was on hold, so that nothing "
        "passed; `overtime`: there was no verdict within the station's takt; `quality`: the image is unfit for "
        "inspection; an operator's review; `disputed`: two people disagree, the second of whom looked blind; "
        "`no_result`: the inspection failed or expired, so a person has to look; `missing`: the view is expected, and "
        "no image has come; `unfinished`: its image waits or runs. One of several; `review_reasons` has all"
    )
    review_reasons: tuple[ReviewReason, ...] = Field(
        (), description="all reasons why the verdict is `review`, as of the inspection, after what people decided"
    )
    inspection_id: InspectionId | None
    hold: Text | None = Field(
        description="why the station was on hold when the image came; null: it was not", examples=["lens is dirty"]
    )


class Part(Message):
    """A part, judged by all its images."""

    serial: str
    verdict: Verdict | None = Field(
        description="the worst of all views; null until all have a verdict, which is never pass"
    )
    review_reasons: tuple[ReviewReason, ...] = Field(
        (),
        description="all reasons why the verdict is `review`: those of the views that are; empty for any other",
        examples=[["station_held"]],
    )
    finished: bool = Field(description="no image of the part waits or runs")
    views: list[PartView]
    disposition: PartDisposition | None = Field(
        None, description="what was decided about the part last; null: nothing, or it was taken back"
    )
    dispositions: list[PartDisposition] = Field(default_factory=list, description="all that was decided, oldest first")


class GateLimits(Message):
    """Limits beyond which an image is unfit for inspection: learned from good images, part of the bundle."""

    darkest: float = Field(description="least mean grey, 0 ... 255")
    brightest: float = Field(description="largest mean grey")
    black_share: float = Field(description="largest share of the image in black, 0 ... 1")
    white_share: float = Field(description="largest share of the image in white")
    sharpness: float = Field(description="least sharpness, in cycles per pixel of the model image")
    likeness: float | None = Field(description="least likeness to good images, up to 1; null: not asked")
    good_images: int = Field(description="that set the limits")


class GateView(Message):
    """The state of a product's quality gate, which checks images before they are inspected, and its limits."""

    on: bool = Field(description="the gate is asked for what is accepted from now on, if the version has limits")
    by: str | None = Field(description="who switched it last; null: it was never switched")
    at: Timestamp | None = Field(description="when")
    note: str | None = Field(description="why")
    limits: GateLimits | None = Field(
        description="in force for the active version; null: it has no gate, and inspects all images"
    )
    learned: GateLimits | None = Field(None, description="that good images set, before anybody changed one")


class ThresholdPromise(Message):
    """What is promised of the share of good parts that fail under the calibrated thresholds."""

    parts: int = Field(description="that set the thresholds")
    images: int = Field(description="of these parts")
    kind: Literal["held_out", "leave_group_out", "estimate"] = Field(
        description="of the scores: of parts that nothing was learnt from; each of a memory without the image's own "
        "part; of other models than the bundle's, which is an estimate and promises nothing"
    )
    proven: bool = Field(description="false: an estimate, whatever the other fields say")
    false_rejects: float = Field(description="the wanted share of good parts that fail, at most", examples=[0.02])
    confidence: float | None = Field(description="with which it holds; null: on average over draws of the parts")
    kept: bool = Field(description="whether so many parts can promise the wanted share")
    least: float = Field(description="the least share that so many parts can promise at all")
    needed: int = Field(description="number of parts that the wanted share takes")
    least_for_one_draw: float | None = Field(
        description="where it holds on average over draws: the least share that could be promised of these very parts, "
        "with 95 % confidence"
    )


class BundleView(Message):
    """A version of a product."""

    version: str = Field(examples=["1"])
    hash: str = Field(description="SHA-256 of the manifest")
    title: str
    created_at: Timestamp
    resolution: int = Field(description="side of the square model image, in pixels")
    thresholds: Thresholds = Field(description="in force")
    calibrated: Thresholds | None = Field(None, description="that calibration found; null: by an older service")
    report: str | None = Field(None, description="link to the report of its training; null: the bundle brings none")
    quality: dict[str, Any] = Field(description="measured figures, as the bundle states them")
    evaluations: list[EvaluationView] = Field(
        default_factory=list, description="recorded of it since, each on one data set; the latest measurement first"
    )
    promise: ThresholdPromise | None = Field(
        None, description="what the calibrated thresholds promise, in numbers; null: by an older service"
    )


class ProductView(Message):
    """A product with a usable bundle."""

    product: str = Field(examples=["bracket"])
    revision: int = Field(
        description="grows with every change of what is active, of thresholds and gate; also the `ETag`"
    )
    active: BundleView = Field(description="inspects what is submitted now")
    versions: list[BundleView] = Field(description="all usable bundles, newest first")
    gate: GateView = Field(description="what is checked of an image before it is inspected")
    pictures: PicturesWhen = Field(description="when pictures are drawn of a part that passes")


class ProductList(Message):
    """All products."""

    products: list[ProductView]


SHOWN_EXAMPLES = 20
MAX_EFFECT_READ = 20_000
"""Of the product's last inspections, if most are of another version: a preview must not read the whole history."""


class Change(Message):
    """A number of inspections that would have had another verdict."""

    before: Verdict
    after: Verdict
    count: int


class Effect(Message):
    """The effect of the new thresholds on the product's last inspections by this version."""

    compared: int = Field(
        description="inspections with a score that are kept, the latest first, at most `last`, found among the "
        f"product's last {MAX_EFFECT_READ}; what the quality gate stopped has none"
    )
    changed: int
    changes: list[Change]
    per_day: float | None = Field(
        None,
        description="about how many a day would change: their share of all that ended in the 24 hours up to the "
        "product's latest inspection; null: nothing was compared",
    )
    per_shift: float | None = Field(
        None, description="the same for a shift of mean length: `per_day` by the number of shifts in GLAD_SHIFTS"
    )
    oldest: Timestamp | None = Field(description="end of the oldest of them")
    examples: list[InspectionId] = Field(description=f"the latest that change, at most {SHOWN_EXAMPLES}")


class ThresholdsView(Message):
    """Thresholds before and after, and the effect of the change."""

    product: str
    version: str
    revision: int = Field(description="of the product, after the change; also the `ETag`")
    applied: bool = Field(description="false: a preview")
    calibrated: Thresholds
    before: Thresholds
    after: Thresholds
    effect: Effect


ScopeName = Literal["submit", "read", "review", "admin"]


class SessionView(Message):
    """Who makes the calls, and what they may do."""

    needs_key: bool = Field(description="calls need an API key or a session; false: anybody who reaches the service")
    signed_in: bool = Field(description="the call came with the cookie of a session")
    person: str | None = Field(description="who signed in, as they said", examples=["A. Meier"])
    key: str | None = Field(description="name of the API key; null where none was needed", examples=["console"])
    scopes: tuple[ScopeName, ...] = Field(description="what the calls may do; empty: nothing without a key")
    expires_at: Timestamp | None = Field(description="when the session ends")
    csrf: str | None = Field(
        description="what the header `X-CSRF-Token` of a call that changes something has to be; null without a session"
    )


class HealthCheck(Message):
    """The outcome of one check."""

    model_config = ConfigDict(title="Check")

    ok: bool
    required: bool = Field(description="false: reported only")
    detail: str


class Readiness(Message):
    """The service's readiness to accept and keep an image that is posted now."""

    status: Literal["ready", "degraded", "unavailable"] = Field(
        description="degraded: accepts, but something is amiss: see checks"
    )
    checks: dict[str, HealthCheck]

"""Answers about what decides verdicts: how scores and measures lie, what a change does, who changed what."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from glad_client.answers import MAX_EFFECT_READ, SHOWN_EXAMPLES, GateLimits
from glad_client.evaluations import EvaluationView
from glad_client.fields import InspectionId, Message, Timestamp
from glad_client.results import Thresholds


class ValueRange(Message):
    """A range of values. A value on the border of two ranges belongs to the upper one."""

    model_config = ConfigDict(populate_by_name=True)

    low: float = Field(alias="from")
    high: float = Field(alias="to")


class ScoreBin(ValueRange):
    """The inspections whose scores lie in a range."""

    passed: int = Field(0, alias="pass", description="by the verdict that they got then")
    review: int = 0
    fail: int = 0
    ok: int = Field(0, description="of those that people reviewed: found good")
    defect: int = Field(0, description="found defective")
    calibration: int = Field(0, description="good images of the calibration, beside the inspections")


class ScoreDistribution(Message):
    """How the scores of a version's last inspections lie, beside its thresholds."""

    product: str
    version: str
    thresholds: Thresholds = Field(description="in force now")
    calibrated: Thresholds = Field(description="that calibration found")
    compared: int = Field(
        description=f"inspections with a score, the latest, found among the product's last {MAX_EFFECT_READ}"
    )
    oldest: Timestamp | None = Field(description="end of the oldest of them")
    low: float = Field(description="the bins of equal width begin here")
    high: float = Field(
        description="and end here; scores from here on, a long tail, are in one last bin that reaches to the highest"
    )
    bins: list[ScoreBin] = Field(description="in order, without gaps; empty ones too")


MeasureName = Literal["brightness", "black_share", "white_share", "sharpness", "likeness"]


class MeasureBin(ValueRange):
    """The images whose measure lies in a range."""

    passed: int = Field(0, description="the gate let them through then")
    stopped: int = 0


class MeasureDistribution(Message):
    """How a measure of the quality gate lies."""

    name: MeasureName
    low: float
    high: float
    bins: list[MeasureBin] = Field(description="of equal width from `low` to `high`; empty where nothing was measured")


class GateDistribution(Message):
    """A version's quality gate, and how the measures of its last images lie beside the limits."""

    product: str
    version: str
    on: bool = Field(description="the gate is asked for what is accepted from now on, if the version has limits")
    limits: GateLimits | None = Field(description="in force; null: the version has no gate")
    learned: GateLimits | None = Field(description="that good images set")
    compared: int = Field(
        description=f"images whose measures are kept, the latest, found among the product's last {MAX_EFFECT_READ}"
    )
    oldest: Timestamp | None = Field(description="end of the oldest of them")
    measures: list[MeasureDistribution]


class GateEffect(Message):
    """The effect of other limits on the product's last images by this version."""

    compared: int = Field(description="images whose measures are kept, the latest first, at most `last`")
    changed: int
    newly_stopped: int = Field(description="that were inspected, and would be for people to look at without a score")
    newly_inspected: int = Field(description="that were stopped, and would get a score")
    per_day: float | None = Field(description="as `Effect.per_day`")
    per_shift: float | None = Field(None, description="as `Effect.per_shift`")
    oldest: Timestamp | None = Field(description="end of the oldest of them")
    examples: list[InspectionId] = Field(description=f"the latest that change, at most {SHOWN_EXAMPLES}")


class GateLimitsView(Message):
    """Limits before and after, and the effect of the change."""

    product: str
    version: str
    revision: int = Field(description="of the product, after the change; also the `ETag`")
    applied: bool = Field(description="false: a preview")
    learned: GateLimits
    before: GateLimits
    after: GateLimits
    effect: GateEffect


class ProductChange(Message):
    """A change of a product: enough to undo it with the call that made it."""

    revision: int | None = Field(
        description="that it made; null: it is of an evaluation, which makes none, or of before there was a record"
    )
    kind: Literal["active", "thresholds", "gate", "gate_limits", "pictures", "evaluation"]
    version: str | None = Field(description="that it concerns; null: the product, whatever its version")
    before: dict[str, bool | float | str | None] = Field(
        description="fields of the call that undoes it; null: what calibration found, or good images set. Of an "
        "evaluation: its id, its data set and its figures; null: not measured, and all null: nothing was recorded",
        examples=[{"review": None, "fail": 1.9, "pixel": None}],
    )
    after: dict[str, bool | float | str | None]
    by: str
    at: Timestamp
    note: str = ""
    evaluation: EvaluationView | None = Field(
        None, description="that was removed, and was not recorded since: recording it again undoes the change"
    )


class ProductChanges(Message):
    """The changes of a product."""

    product: str
    revision: int
    changes: list[ProductChange] = Field(description="the latest first; at most 500 of the recorded ones")

"""An event: the line of the event stream that says that an inspection ended, was reviewed, or something else happened.

JSON is read leniently: fields that only a newer service has are ignored.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from glad_client.decisions import PartDisposition, PeoplesDecision, Review
from glad_client.fields import InspectionId, Message, Name, Text, Timestamp
from glad_client.results import (
    FailedSample,
    Failure,
    LimitSampleKind,
    Quality,
    Result,
    ReviewReason,
    Thresholds,
    Verdict,
)

EventType = Literal[
    "inspection.done",
    "inspection.failed",
    "inspection.expired",
    "inspection.reviewed",
    "inspection.review_withdrawn",
    "inspection.overtime",
    "part.disposition",
    "station.held",
    "station.released",
    "limit_samples.passed",
    "limit_samples.failed",
]


class Event(Message):
    """One inspection ended, was reviewed, or has no verdict in time; a part got a disposition; or something happened to
    a station: the line of the event stream that page, MES cursor and outbox read.
    """

    type: EventType
    inspection_id: InspectionId | None = Field(None, description="null where the event is of no single image")
    product: Name | None = Field(None, description="of a station's event: the product that is set there")
    serial: Text | None = None
    lot: Text | None = None
    station: Text | None = None
    view: Text | None = None
    verdict: Verdict | None = None
    score: float | None = None
    calibrated_score: float | None = None
    thresholds: Thresholds | None = Field(None, description="set when there is a score: the limits it was held against")
    denoising_step: int | None = None
    hold: Text | None = Field(None, description="why the station was on hold when the image came")
    hold_sample: FailedSample | None = Field(
        None, description="the limit sample that put the station on hold; of a station's event: that `reason` is about"
    )
    review_reasons: tuple[ReviewReason, ...] | None = Field(
        None, description="why a person has to look, as `Result.review_reasons`; null: nobody has, or an older version"
    )
    quality: Quality | None = Field(None, description="set when the image was unfit for inspection: why")
    error: Failure | None = None
    review: Review | None = Field(
        None, description="set when the type is `inspection.reviewed` or `inspection.review_withdrawn`"
    )
    decision: PeoplesDecision | None = Field(
        None, description="set with `review`: what people decided, all their reviews together, as `Result.decision`"
    )
    disposition: PartDisposition | None = Field(None, description="set when the type is `part.disposition`")
    accepted_at: Timestamp | None = Field(None, description="null: an event of an older version")
    overtime: bool | None = Field(None, description="true: its takt was over before the verdict came")
    limit_sample: LimitSampleKind | None = Field(None, description="the image shows a limit sample, not a part")
    reason: Text | None = Field(None, description="of a station's event: why it is on hold, or what failed")
    by: Text | None = Field(None, description="of a station's event: who did it, as they said")
    at: Timestamp

    def to_json(self) -> str:
        """Return the JSON that is stored and sent: without what is null, but for `inspection_id`."""
        known = self.model_dump(mode="json", exclude_none=True)
        return json.dumps({"type": self.type, "inspection_id": self.inspection_id, **known}, ensure_ascii=False)

    @classmethod
    def from_review(cls, result: Result, review: Review) -> Self:
        """Return the event of a review of this ended inspection, or of its withdrawal."""
        kind = "inspection.reviewed" if review.counts else "inspection.review_withdrawn"
        at = review.withdrawn_at or review.at
        return cls.from_result(result).model_copy(update={"type": kind, "review": review, "at": at})

    @classmethod
    def from_disposition(cls, serial: str, last: Result, disposition: PartDisposition) -> Self:
        """Return the event of a part's disposition; `last` is the part's last inspection."""
        return cls(
            type="part.disposition",
            product=last.product,
            serial=serial,
            lot=last.lot,
            station=last.station,
            disposition=disposition,
            at=disposition.at,
        )

    @classmethod
    def from_overtime(cls, result: Result, at: datetime) -> Self:
        """Return the event of an inspection that had no verdict when its station's takt was over."""
        return cls(
            type="inspection.overtime",
            inspection_id=result.id,
            product=result.product,
            serial=result.serial,
            lot=result.lot,
            station=result.station,
            view=result.view,
            verdict=Verdict.REVIEW,
            review_reasons=("overtime",),
            overtime=True,
            at=at,
        )

    @classmethod
    def from_result(cls, result: Result) -> Self:
        """Return the event of an ended inspection."""
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
                "calibrated_score": result.calibrated_score,
                "thresholds": None if result.score is None else result.thresholds,
                "denoising_step": result.denoising_step,
                "hold": result.hold,
                "hold_sample": result.hold_sample,
                "review_reasons": result.review_reasons or None,
                "quality": result.quality if result.unfit else None,
                "error": result.error,
                "accepted_at": result.accepted_at,
                "overtime": result.overtime or None,
                "limit_sample": result.limit_sample,
                "at": result.finished_at,
            }
        )

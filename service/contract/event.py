"""An event: an inspection ended, or was reviewed."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from model_store.manifest import Name
from service.contract.findings import Failure, Quality, Review
from service.contract.result import Result, Verdict
from service.contract.types import InspectionId, Message, Text, Timestamp


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
    quality: Quality | None = Field(None, description="set when the image was unfit for inspection: why")
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
                "quality": result.quality if result.unfit else None,
                "error": result.error,
                "at": result.finished_at,
            }
        )

"""The history: ended inspections in the order in which they ended, a page at a time; and reviews of them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from glad_client.answers import InspectionPage
from model_store.manifest import Name
from service.api.dependencies import CallerDep, InspectionPath, ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import unknown_inspection
from service.api.routes.inspections import get_or_404, result_response
from service.contract import Decision, Note, Result, Review, State, Text, Timestamp, Verdict
from service.errors import NotReviewable, QueueUnavailable
from service.queue.history import HistoryFilter
from service.queue.results import MOST_REVIEW_BYTES, MOST_REVIEWS, ReviewOutcome

MAX_PER_PAGE = 500
_MARK = "h1:"
"""Stands before the position inside a cursor, so that no other kind of cursor is taken for one."""
_NOT_A_CURSOR = "is no cursor of this call: send `next` of an earlier page as it came, or leave it out"

router = APIRouter(tags=["history"])
log = structlog.get_logger(__name__)


def write_cursor(position: int) -> str:
    """Return a position in the history as clients carry it: opaque, and safe in a URL."""
    return base64.urlsafe_b64encode(f"{_MARK}{position}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """Return the position in the history that a cursor stands for.

    Raises:
        ValueError: if this service never made the cursor.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise ValueError(_NOT_A_CURSOR) from error
    digits = text.removeprefix(_MARK)
    if not (text.startswith(_MARK) and digits.isdecimal() and int(digits) < 2**53):
        raise ValueError(_NOT_A_CURSOR)
    return int(digits)


def _check_cursor(cursor: str) -> str:
    read_cursor(cursor)
    return cursor


class HistoryQuery(BaseModel):
    """The query of the history; an inspection must meet all filters."""

    model_config = ConfigDict(extra="forbid")

    product: Name | None = Field(None, examples=["bracket"])
    serial: Text | None = Field(None, description="the part's serial number", examples=["SN-000123"])
    lot: Text | None = Field(None, description="production lot", examples=["L-42"])
    station: Text | None = Field(None, description="where the image was taken", examples=["line-3"])
    verdict: Verdict | None = None
    state: Literal["done", "failed", "expired"] | None = Field(None, description="what has not ended is in no history")
    since: Timestamp | None = Field(None, description="ended at this time or later", examples=["2026-11-23T06:00:00Z"])
    until: Timestamp | None = Field(None, description="ended before this time", examples=["2026-11-23T14:00:00Z"])
    order: Literal["oldest", "newest"] = Field("oldest", description="which end of the history comes first")
    after: Annotated[str, Field(max_length=64), AfterValidator(_check_cursor)] | None = Field(
        None, description="`next` of an earlier page: go on behind it"
    )
    limit: int = Field(50, ge=1, le=MAX_PER_PAGE)

    def filter(self) -> HistoryFilter:
        """Return the filters among the parameters."""
        return HistoryFilter(
            product=self.product,
            serial=self.serial,
            lot=self.lot,
            station=self.station,
            verdict=self.verdict,
            state=State(self.state) if self.state else None,
            since=self.since,
            until=self.until,
        )


@router.get(
    "/v1/inspections",
    summary="Read the history",
    response_model=InspectionPage,
    responses=documents.HISTORY_RESPONSES,
)
async def history(services: ServicesDep, query: Annotated[HistoryQuery, Query()]) -> Response:
    """Return ended inspections, in the order in which they ended.

    An image that took long comes after those that overtook it, so a reader who keeps `next` sees each inspection once
    and misses none. A page may have fewer than `limit`, or none, and still have `more`: two filters that few
    inspections meet are searched a part at a time. Times are of the end, by the queue's clock.
    """
    page = await services.history.page(
        query.filter(),
        after=None if query.after is None else read_cursor(query.after),
        limit=query.limit,
        newest_first=query.order == "newest",
    )
    answer = InspectionPage(inspections=page.results, next=write_cursor(page.position), more=page.more)
    return Response(answer.model_dump_json(), media_type="application/json")


class ReviewFields(BaseModel):
    """An operator's decision on an inspected part."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"decision": "ok", "by": "a.meier"}]})

    decision: Decision = Field(description="`ok`: the part is good; `defect`: it is not")
    by: Text = Field(description="who judged", examples=["a.meier"])
    note: Note | None = Field(None, description="for people", examples=["scratch is on the fixture"])


@router.post(
    "/v1/inspections/{id}/review",
    summary="Review an inspection",
    response_model=Result,
    responses=documents.REVIEW_RESPONSES,
)
async def review(
    services: ServicesDep, caller: CallerDep, inspection_id: InspectionPath, fields: ReviewFields
) -> Response:
    """Add an operator's decision to an ended inspection.

    Earlier reviews stay; the last one counts, also for the verdict of the whole part. The inspection's own `verdict`
    stays what the service found. `by` is stored as it is given; `key` is the name of the API key that the review came
    with.
    """
    result = await get_or_404(services, inspection_id)
    new = Review(
        decision=fields.decision,
        note=fields.note,
        by=caller.author(fields.by),
        key=caller.key_name,
        at=await services.jobs.now(),
    )
    outcome = await services.reviews.add(result, new)
    if outcome is ReviewOutcome.UNFINISHED:
        raise NotReviewable(f"inspection {result.id} is {result.state.value}: it can be reviewed when it has ended")
    if outcome is ReviewOutcome.FULL:
        raise NotReviewable(
            f"inspection {result.id} has {len(result.reviews)} reviews; the limit is {MOST_REVIEWS}, of "
            f"{MOST_REVIEW_BYTES} bytes together: the last one counts"
        )
    if outcome is ReviewOutcome.NO_MEMORY:
        raise QueueUnavailable(
            "Redis is nearly full, and what is left is for images: the review was not recorded, send it again later",
            retry_after_s=services.settings.retry_after_s,
        )
    if outcome is ReviewOutcome.UNKNOWN:
        raise unknown_inspection(result.id)
    log.info("inspection reviewed", inspection_id=result.id, decision=new.decision.value, by=new.by, key=new.key)
    return result_response(await get_or_404(services, result.id), 200)

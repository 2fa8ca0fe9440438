"""The history: ended inspections in the order in which they ended, a page at a time."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from glad_client.answers import InspectionPage
from model_store.manifest import Name
from service.api.dependencies import ServicesDep
from service.api.openapi import operations as documents
from service.contract import DefectCode, Disposition, State, Text, Timestamp, Verdict
from service.queue.history import HistoryFilter

MAX_PER_PAGE = 500
_MARK = "h1:"
"""Stands before the position inside a cursor, so that no other kind of cursor is taken for one."""
_NOT_A_CURSOR = "is no cursor of this call: send `next` of an earlier page as it came, or leave it out"

router = APIRouter(tags=["history"])


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
    defect_code: DefectCode | None = Field(None, description="of the review that counts", examples=["scratch"])
    disposition: Disposition | None = Field(None, description="of the part")
    reviewed: bool | None = Field(None, description="true: a review counts; false: none does")
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
            defect_code=self.defect_code,
            disposition=self.disposition,
            reviewed=self.reviewed,
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

"""`GET /v1/parts/{serial}`: one verdict for a part that is seen from several sides."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from service.api.dependencies import Services, ServicesDep
from service.api.openapi import operations as documents
from service.contract import Decision, InspectionId, Result, State, Text, Verdict
from service.errors import UnknownPart

_FROM_GOOD_TO_BAD = (Verdict.PASS, Verdict.REVIEW, Verdict.FAIL)

router = APIRouter(tags=["history"])

Reason = Literal["score", "quality", "operator", "no_result", "missing", "unfinished"]
ExpectedView = tuple[str | None, str]
"""(product, view) that must be there; without a product: of any."""
ExpectedViews = Annotated[
    tuple[Text, ...],
    Query(max_length=32, description="a view that must be there, whichever product it shows; repeat it for each"),
]


class PartView(BaseModel):
    """One side of the part, by the last image of it that was accepted."""

    product: str | None = Field(description="null: a view that only the call expects, and that no image showed")
    view: str | None = Field(description="null: the image named no view")
    state: State | None = Field(description="null: no image has come")
    verdict: Verdict | None = Field(description="null until the inspection ends")
    reason: Reason = Field(
        description="where the verdict is from: the image's score; `quality`: the image is unfit for inspection; an "
        "operator's review; `no_result`: the inspection failed or expired, so somebody has to look; `missing`: the "
        "view is expected, and no image has come; `unfinished`: its image waits or runs"
    )
    inspection_id: InspectionId | None


class Part(BaseModel):
    """A part as all its images show it."""

    serial: str
    verdict: Verdict | None = Field(
        description="the worst of all views; null until all have ended, which is never pass"
    )
    finished: bool = Field(description="no image of the part waits or runs")
    views: list[PartView]


@router.get("/v1/parts/{serial:path}", summary="Judge a part", responses=documents.PART_RESPONSES)
async def part(
    services: ServicesDep,
    serial: Annotated[Text, Path(description="the part's serial number", examples=["SN-000123"])],
    expected_view: ExpectedViews = (),
) -> Part:
    """The part's verdict over all its views: the worst. Of several images of a view, the last accepted one counts. An
    operator's review counts instead of the score: `ok` as `pass`, `defect` as `fail`. A view that a station of the part
    or the call itself expects, and of which no image has come, is `review`."""
    results = await services.history.of_part(serial)
    if not results:
        raise UnknownPart(
            f"no image with serial {serial!r} is kept: check the serial, or the time since its inspection"
        )
    of_stations = await _expected(services, results)
    known = {result.view for result in results} | {view for _, view in of_stations}
    return judge(serial, results, of_stations | {(None, view) for view in expected_view if view not in known})


async def _expected(services: Services, results: Collection[Result]) -> set[ExpectedView]:
    """(product, view) that the part's stations expected when their last image of it was accepted."""
    last = {(one.station, one.product): one.accepted_at for one in _in_order(results) if one.station is not None}
    expected: set[ExpectedView] = set()
    for (station, product), accepted_at in last.items():
        change = await services.stations.last_change(station, before=accepted_at)
        if change and change.settings and change.settings.product == product:
            expected |= {(product, view) for view in change.settings.expected_views}
    return expected


def _in_order(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda result: (result.accepted_at, result.id))


def judge(serial: str, results: Collection[Result], expected: Iterable[ExpectedView]) -> Part:
    """The part's verdict by its inspections."""
    last: dict[tuple[str | None, str | None], Result] = {
        (result.product, result.view): result for result in _in_order(results)
    }
    missing = set(expected) - set(last)
    views = [_seen(result) for result in last.values()] + [_missing(*one) for one in missing]
    verdicts = [one.verdict for one in views if one.verdict is not None]
    finished = len(verdicts) == len(views)
    return Part(
        serial=serial,
        verdict=max(verdicts, key=_FROM_GOOD_TO_BAD.index) if finished else None,
        finished=finished,
        views=sorted(views, key=lambda one: (one.product or "", one.view or "")),
    )


def _seen(result: Result) -> PartView:
    verdict, reason = _verdict(result)
    return PartView(
        product=result.product,
        view=result.view,
        state=result.state,
        verdict=verdict,
        reason=reason,
        inspection_id=result.id,
    )


def _missing(product: str | None, view: str) -> PartView:
    return PartView(
        product=product, view=view, state=None, verdict=Verdict.REVIEW, reason="missing", inspection_id=None
    )


def _verdict(result: Result) -> tuple[Verdict | None, Reason]:
    if not result.state.final:
        return None, "unfinished"
    if result.reviews:
        return (Verdict.PASS if result.reviews[-1].decision is Decision.OK else Verdict.FAIL), "operator"
    if result.verdict is None:
        return Verdict.REVIEW, "no_result"
    return result.verdict, "quality" if result.unfit else "score"

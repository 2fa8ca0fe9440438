"""The verdict on a part that is seen from several sides, and what becomes of it: `/v1/parts/{serial}`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, get_args

import structlog
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from glad_client.answers import Part, PartView, VerdictReason
from glad_client.results import ReviewReason
from service.api.dependencies import CallerDep, Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import memory_is_for_images
from service.contract import Disposition, Note, PartDisposition, Result, SerialNumber, Text, Verdict, VisibleText
from service.errors import UnknownPart
from service.queue.dispositions import DispositionOutcome
from service.queue.history import PartImage
from service.queue.parts import ExpectedView, expected_views, view_verdict, worst_verdict

router = APIRouter(tags=["history"])
log = structlog.get_logger(__name__)

SerialPath = Annotated[SerialNumber, Path(description="the part's serial number", examples=["SN-000123"])]
ExpectedViews = Annotated[
    tuple[Text, ...],
    Query(max_length=32, description="a view that must be there, whichever product it shows; repeat it for each"),
]


@router.get("/v1/parts/{serial:path}", summary="Judge a part", responses=documents.PART_RESPONSES)
async def part(
    services: ServicesDep,
    serial: SerialPath,
    expected_view: ExpectedViews = (),
) -> Part:
    """Return the part's verdict, which is the worst of all its views.

    Of several images of a view, the last accepted one counts. An operator's review counts instead of the score: `ok` as
    `pass`, `defect` as `fail`; where two people disagree, the view is `review` until a third one decides. A view that a
    station of the part or the call itself expects, and of which no image has come, is `review`; so is one whose
    station's takt is over before its verdict comes, which may then still be `fail`.
    """
    images = await _images_or_404(services, serial)
    results = [image.result for image in images]
    by_stations = await _views_expected_by_stations(services, images)
    known = {result.view for result in results} | {view for _, view in by_stations}
    by_call = {(None, view) for view in expected_view if view not in known}
    judged = part_verdict(serial, results, by_stations | by_call)
    dispositions = await services.dispositions.of_part(serial)
    last = dispositions[-1] if dispositions else None
    return judged.model_copy(
        update={
            "disposition": None if last is None or last.disposition is None else last,
            "dispositions": dispositions,
        }
    )


class DispositionFields(BaseModel):
    """What becomes of a part."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"disposition": "rework", "by": "mes"}]})

    disposition: Disposition | None = Field(description="null: take back what was decided")
    note: Note | None = Field(None, description="for people", examples=["polished by hand"])
    by: VisibleText | None = Field(
        None, description="who decided; default: the name of the API key. A person who signed in is named instead"
    )


@router.put(
    "/v1/parts/{serial:path}/disposition",
    summary="Decide what becomes of a part",
    responses=documents.DISPOSITION_RESPONSES,
)
async def put_disposition(
    services: ServicesDep, caller: CallerDep, serial: SerialPath, fields: DispositionFields
) -> Part:
    """Record that the part is scrapped, reworked or used as it is; earlier decisions stay, and the last one counts.

    The part's verdict stays as it is: it says what was found, the disposition what is done about it.
    """
    images = await _images_or_404(services, serial)
    decided = PartDisposition(
        disposition=fields.disposition,
        note=fields.note,
        by=caller.author(fields.by),
        key=caller.key_name,
        at=await services.jobs.now(),
    )
    outcome = await services.dispositions.set(serial, images[-1].result, decided)
    if outcome is DispositionOutcome.NO_MEMORY:
        raise memory_is_for_images(services, "disposition")
    if outcome is DispositionOutcome.UNKNOWN:
        raise _unknown(serial)
    value = None if fields.disposition is None else fields.disposition.value
    log.info("part disposed", serial=serial, disposition=value, by=decided.by, key=decided.key)
    return await part(services, serial)


async def _images_or_404(services: Services, serial: str) -> tuple[PartImage, ...]:
    images = await services.history.part_images(serial)
    if not images:
        raise _unknown(serial)
    return images


def _unknown(serial: str) -> UnknownPart:
    return UnknownPart(f"no image with serial {serial!r} is kept: check the serial, or the time since its inspection")


async def _views_expected_by_stations(services: Services, images: Iterable[PartImage]) -> set[ExpectedView]:
    """Return the views that each station of the part expected when its last image of the part was accepted.

    Both moments are Redis's: the acceptance, and the entry of the station's change.
    """
    last = {
        (image.result.station, image.result.product): image.accepted_at
        for image in images
        if image.result.station is not None
    }
    expected: set[ExpectedView] = set()
    for (station, product), accepted_at in last.items():
        expected |= expected_views(await services.stations.last_change(station, before=accepted_at), product)
    return expected


def part_verdict(serial: str, results: Iterable[Result], expected: Iterable[ExpectedView]) -> Part:
    """Return the part with its verdict.

    Args:
        serial: of the part.
        results: its inspections, in the order of their acceptance: of each view the last one counts.
        expected: the views that must be there.
    """
    last: dict[tuple[str | None, str | None], Result] = {(result.product, result.view): result for result in results}
    missing = set(expected) - set(last)
    views = [_inspected_view(result) for result in last.values()] + [_missing_view(*view) for view in missing]
    verdict = worst_verdict(view.verdict for view in views)
    return Part(
        serial=serial,
        verdict=verdict,
        review_reasons=_reasons(views) if verdict is Verdict.REVIEW else (),
        finished=all(view.state is None or view.state.final for view in views),
        views=sorted(views, key=lambda view: (view.product or "", view.view or "")),
    )


def _reasons(views: Iterable[PartView]) -> tuple[ReviewReason, ...]:
    found = {reason for view in views for reason in view.review_reasons}
    return tuple(reason for reason in get_args(ReviewReason) if reason in found)


def _inspected_view(result: Result) -> PartView:
    verdict, reason = _verdict(result)
    reasons = ("disputed",) if reason == "disputed" else result.review_reasons
    return PartView(
        product=result.product,
        view=result.view,
        state=result.state,
        verdict=verdict,
        reason=reason,
        review_reasons=reasons if verdict is Verdict.REVIEW else (),
        inspection_id=result.id,
        hold=result.hold,
    )


def _missing_view(product: str | None, view: str) -> PartView:
    return PartView(
        product=product,
        view=view,
        state=None,
        verdict=Verdict.REVIEW,
        reason="missing",
        review_reasons=("missing",),
        inspection_id=None,
        hold=None,
    )


def _verdict(result: Result) -> tuple[Verdict | None, VerdictReason]:
    if not result.state.final:
        return (Verdict.REVIEW, "overtime") if result.overtime else (None, "unfinished")
    verdict = view_verdict(result.verdict, result.reviews)
    if result.decision is None:
        return verdict, _reason(result)
    return verdict, "disputed" if result.decision == "disputed" else "operator"


def _reason(result: Result) -> VerdictReason:
    if result.verdict is None:
        return "no_result"
    if result.unfit:
        return "quality"
    if result.verdict is not Verdict.REVIEW:
        return "score"
    if result.hold is not None:  # whether the score alone would have been for review is not known
        return "hold"
    return "score" if "score" in result.review_reasons else "overtime"

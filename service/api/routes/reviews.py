"""People judge images: which one comes next, the review itself, its withdrawal, and how people and service agree."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError

from glad_client.fields import Name, Timestamp
from glad_client.reviews import (
    CLAIM_S,
    BlindInspection,
    ClaimRenewal,
    ReviewedInspection,
    ReviewSummary,
    ReviewTask,
)
from service.api.dependencies import CallerDep, InspectionPath, Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import memory_is_for_images, unknown_inspection
from service.api.routes.inspections import get_or_404
from service.auth.scopes import Caller, Scope
from service.contract import (
    IMAGE,
    MAX_DRAWN_REGIONS,
    Decision,
    DefectCode,
    DrawnRegion,
    InspectionId,
    Note,
    Result,
    Review,
    Text,
    VisibleText,
)
from service.errors import ClaimLost, InvalidFields, NothingToWithdraw, NotReviewable, TooManyClaims
from service.queue.review_queue import MOST_CLAIMS, MOST_SKIPPED, ClaimsFull, ReviewClaim, WaitingKind
from service.queue.review_summary import summarize
from service.queue.reviews import MOST_REVIEW_BYTES, MOST_REVIEWS, Answered, ReviewOutcome, is_drawn
from service.storage.artifacts import ArtifactNotFound, ArtifactsUnavailable

MOST_TRIES = 20
"""Times that a withdrawal is tried, if others withdraw reviews of the same image meanwhile."""
MOST_EXPIRED = 50
"""Images that are found to be gone, one after the other, just when they are given to a person."""

router = APIRouter(tags=["reviews"])
log = structlog.get_logger(__name__)

ClaimText = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[0-9a-f.-]+$")]
ClaimPath = Annotated[ClaimText, Path(description="as `POST /v1/reviews/next` gave it")]


class ReviewFields(BaseModel):
    """An operator's decision on an inspected part."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"decision": "ok", "by": "a.meier"}]})

    decision: Decision = Field(description="`ok`: the part is good; `defect`: it is not")
    by: VisibleText | None = Field(
        None,
        description="who judged; needed unless a person has signed in, who is named instead",
        examples=["a.meier"],
    )
    note: Note | None = Field(None, description="for people", examples=["scratch is on the fixture"])
    defect_code: DefectCode | None = Field(
        None, description="the kind of defect: one of the product's review plan, if that has any", examples=["scratch"]
    )
    regions: tuple[DrawnRegion, ...] | None = Field(
        None,
        max_length=MAX_DRAWN_REGIONS,
        description="where the person saw the defect: boxes x, y, width, height in pixels of the upright original; "
        "left out: the service's regions are not corrected",
        examples=[[[12, 30, 40, 25]]],
    )
    claim: ClaimText | None = Field(None, description="the claim that this answers, from `POST /v1/reviews/next`")

    @model_validator(mode="after")
    def _good_parts_have_no_defect(self) -> ReviewFields:
        if self.decision is Decision.OK and (self.defect_code is not None or self.regions):
            raise ValueError("a part that is ok has neither defect_code nor regions: leave them out, or send defect")
        return self


@router.post(
    "/v1/inspections/{id}/review",
    summary="Review an inspection",
    response_model=ReviewedInspection,
    responses=documents.REVIEW_RESPONSES,
)
async def review(
    services: ServicesDep, caller: CallerDep, inspection_id: InspectionPath, fields: ReviewFields
) -> Response:
    """Add an operator's decision to an ended inspection.

    Earlier reviews stay; the last one that was not withdrawn counts, also for the verdict of the whole part. The
    inspection's own `verdict` stays what the service found. `key` is the name of the API key that the review came with.
    A review that answers a blind claim is answered without what the service found, so that an undo stays blind.
    """
    result = await get_or_404(services, inspection_id)
    by = _reviewer(caller, fields.by)
    claim = await _find_claim(services, fields.claim, by)
    plan = await services.review_plans.current(result.product)
    _check_defect(result, fields, [kind.code for kind in plan.defect_codes])
    new = Review(
        **fields.model_dump(include={"decision", "note", "defect_code", "regions"}),
        by=by,
        key=caller.key_name,
        at=await services.jobs.now(),
        blind=claim is not None and claim.kind.blind,
        audit=result.audit if claim is not None and claim.kind is WaitingKind.AUDIT else None,
        double_read=claim is not None and claim.kind is WaitingKind.DOUBLE_READ,
    )
    answered = None
    if fields.claim is not None:
        is_first = claim is not None and claim.kind is not WaitingKind.DOUBLE_READ
        drawn = is_first and is_drawn("double_read", result.id, plan.double_read_share)
        answered = Answered(fields.claim, double_read=drawn)
    _check_outcome(services, result, await services.reviews.add(result, new, answered))
    log.info("inspection reviewed", inspection_id=result.id, decision=new.decision.value, by=new.by, key=new.key)
    reviewed = await get_or_404(services, result.id)
    is_blind = answered is not None and any(one.blind and one.by == by and one.counts for one in reviewed.reviews)
    return _response(reviewed, is_blind)


@router.delete(
    "/v1/inspections/{id}/review",
    summary="Withdraw a review",
    response_model=ReviewedInspection,
    responses=documents.WITHDRAWAL_RESPONSES,
)
async def withdraw(
    services: ServicesDep,
    caller: CallerDep,
    inspection_id: InspectionPath,
    by: Annotated[VisibleText | None, Query(description="who withdraws; needed unless a person has signed in")] = None,
) -> Response:
    """Withdraw the caller's last review of the inspection; with the scope `admin`, else the last one of anybody.

    It stays in `reviews` with `withdrawn_at` and `withdrawn_by`, and does not count. If no other review counts, the
    image waits again.
    """
    person = _reviewer(caller, by)
    for _ in range(MOST_TRIES):
        result = await get_or_404(services, inspection_id)
        place = _to_withdraw(result, person, anybody=caller.has_scope(Scope.ADMIN))
        if place is None:
            raise NothingToWithdraw(
                f"inspection {result.id} has no review by {person!r} that counts: only one's own are withdrawn, or, "
                "with the scope admin, anybody's"
            )
        outcome = await services.reviews.withdraw(result, place, person, await services.jobs.now())
        if outcome is ReviewOutcome.RECORDED:  # else somebody else has withdrawn it: look again
            log.info("review withdrawn", inspection_id=result.id, by=person, key=caller.key_name)
            return _response(await get_or_404(services, result.id), result.reviews[place].blind)
    raise RedisError(f"reviews of inspection {inspection_id} change all the time")


class NextReviewFields(BaseModel):
    """Which images a person wants to review."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"product": "bracket", "by": "a.meier"}]})

    product: Name | None = Field(None, description="only of this product", examples=["bracket"])
    station: Text | None = Field(None, description="only of this station", examples=["line-3"])
    skip: tuple[InspectionId, ...] = Field((), max_length=MOST_SKIPPED, description="images that are put off")
    inspection: InspectionId | None = Field(
        None,
        description="this image and no other, to decide on it again: 204 if it does not wait, or somebody else has it",
    )
    desk: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="where the person sits, such as a tab of a browser. What the same person was given there before, "
        "and is not in `skip`, is given again by a new claim, or given back if it is not asked for (with "
        "`inspection`, others stay): so a page that is loaded anew, or a repeated call, holds no image in vain",
        examples=["tab-5f0c2a9b"],
    )
    by: VisibleText | None = Field(
        None, description="who will judge; needed unless a person has signed in, who is named instead"
    )


@router.post(
    "/v1/reviews/next",
    summary="Get the next image to review",
    response_model=ReviewTask,
    responses=documents.NEXT_REVIEW_RESPONSES,
)
async def next_review(services: ServicesDep, caller: CallerDep, fields: NextReviewFields) -> Response:
    """Give the caller an image that waits: what two people dispute, then the oldest that failed, the oldest without a
    verdict, the oldest for review; the random audit and second looks are mixed in.

    Nobody else gets it until `until`. Renew the claim while the person looks, send it with the review, or give it back.
    A blind image comes without what the service and others found; no person gets one that the same person has judged.
    """
    person = _reviewer(caller, fields.by)
    gone: list[InspectionId] = []
    for _ in range(MOST_EXPIRED):
        try:
            claim = await services.review_queue.next(
                person,
                product=fields.product,
                station=fields.station,
                skip=(*gone, *fields.skip),
                wanted=fields.inspection,
                desk=fields.desk,
            )
        except ClaimsFull as error:
            raise TooManyClaims(
                f"{person!r} has {MOST_CLAIMS} images to review, which nobody else gets meanwhile: answer them, or "
                "give them back with DELETE /v1/reviews/claims/{claim}",
                retry_after_s=CLAIM_S,
            ) from error
        if claim is None:
            break
        result = await services.results.get(claim.inspection_id)
        if result is not None and await _is_there_to_see(services, claim):
            task = _task(claim, result)
            return Response(task.model_dump_json(by_alias=True), media_type="application/json")
        gone.append(claim.inspection_id)
    return Response(status_code=204)


async def _is_there_to_see(services: Services, claim: ReviewClaim) -> bool:
    """Return whether the image that is given can be looked at; one without a verdict waits no longer if it cannot.

    What the service found of an image can be judged without it: only where nothing was found is it asked for.
    """
    if claim.kind is not WaitingKind.NO_RESULT:
        return True
    ref = services.artifacts.ref(claim.inspection_id, IMAGE)
    try:
        await services.threads.images.run(services.artifacts.size, ref)
    except ArtifactNotFound:
        await services.review_queue.settle(claim.inspection_id)
        return False
    except ArtifactsUnavailable as error:
        log.warning("image to review not found now", inspection_id=claim.inspection_id, error=str(error))
    return True


@router.post(
    "/v1/reviews/claims/{claim}/renew", summary="Keep an image to review", responses=documents.RENEWAL_RESPONSES
)
async def renew(services: ServicesDep, claim: ClaimPath) -> ClaimRenewal:
    """Let a claim last from now on as long as a new one."""
    until = await services.review_queue.renew(claim)
    if until is None:
        raise _claim_lost()
    return ClaimRenewal(claim=claim, until=until)


@router.delete(
    "/v1/reviews/claims/{claim}",
    summary="Give an image to review back",
    status_code=204,
    responses=documents.CLAIM_DELETE_RESPONSES,
)
async def give_back(services: ServicesDep, claim: ClaimPath) -> Response:
    """End a claim, so that somebody else may have the image at once. One that has ended already changes nothing."""
    await services.review_queue.give_back(claim)
    return Response(status_code=204)


class SummaryQuery(BaseModel):
    """The query of the summary of reviews."""

    model_config = ConfigDict(extra="forbid")

    product: Name | None = Field(None, description="only of this product", examples=["bracket"])
    since: Timestamp | None = Field(
        None, description="inspections that ended at this time or later; what waits is counted whole"
    )


@router.get("/v1/reviews/summary", summary="Summarize the reviews", responses=documents.SUMMARY_RESPONSES)
async def summary(services: ServicesDep, query: Annotated[SummaryQuery, Query()]) -> ReviewSummary:
    """Return how many images wait for people, how people decided by the service's verdict, and how people agree."""
    return await summarize(
        services.redis, ttl_s=services.settings.result_ttl_s, product=query.product, since=query.since
    )


def _reviewer(caller: Caller, given: str | None) -> str:
    if caller.person is None and given is None:
        message = "is missing: say who judges, or sign in"
        raise InvalidFields.for_field("by", message)
    return caller.author(given)


async def _find_claim(services: Services, claim: str | None, by: str) -> ReviewClaim | None:
    """Return the claim that a review answers; None if it names none, or one that has ended: the script decides then."""
    found = None if claim is None else await services.review_queue.find(claim)
    if found is not None and found.person != by:
        raise InvalidFields.for_field("by", f"is {by!r}, and the image was given to {found.person!r}: ask for your own")
    return found


def _check_defect(result: Result, fields: ReviewFields, codes: list[str]) -> None:
    if fields.defect_code is not None and codes and fields.defect_code not in codes:
        message = (
            f"{fields.defect_code!r} is not in the list of product {result.product}: use one of {', '.join(codes)}"
        )
        raise InvalidFields.for_field("defect_code", message)
    for x, y, width, height in fields.regions or ():
        if result.width is None or result.height is None or x + width > result.width or y + height > result.height:
            message = f"{[x, y, width, height]} lies outside of the image, {result.width}×{result.height} pixels"
            raise InvalidFields.for_field("regions", message)


def _check_outcome(services: Services, result: Result, outcome: ReviewOutcome) -> None:
    """Raise the error for a review that was not recorded."""
    if outcome is ReviewOutcome.UNFINISHED:
        raise NotReviewable(f"inspection {result.id} is {result.state.value}: it can be reviewed when it has ended")
    if outcome is ReviewOutcome.FULL:
        raise NotReviewable(
            f"inspection {result.id} has {len(result.reviews)} reviews; the limit is {MOST_REVIEWS}, of "
            f"{MOST_REVIEW_BYTES} bytes together: the last one counts"
        )
    if outcome is ReviewOutcome.CLAIM_LOST:
        raise _claim_lost()
    if outcome is ReviewOutcome.ANSWERED:
        raise ClaimLost(
            "the claim was answered before, and otherwise: withdraw that review, or send the decision without a claim"
        )
    if outcome is ReviewOutcome.NO_MEMORY:
        raise memory_is_for_images(services, "review")
    if outcome is ReviewOutcome.UNKNOWN:
        raise unknown_inspection(result.id)


def _to_withdraw(result: Result, person: str, *, anybody: bool) -> int | None:
    """Return the place of the review to withdraw: the person's last one that counts, else, if allowed, anybody's."""
    counting = [place for place, one in enumerate(result.reviews) if one.counts]
    own = [place for place in counting if result.reviews[place].by == person]
    return next(iter([*reversed(own), *(reversed(counting) if anybody else ())]), None)


def _claim_lost() -> ClaimLost:
    return ClaimLost("the claim has ended, and somebody else may have the image: ask for the next one")


def _task(claim: ReviewClaim, result: Result) -> ReviewTask:
    blind = claim.kind.blind
    shown = BlindInspection.from_result(result) if blind else result
    assert claim.until is not None, "a claim that was just made says until when"
    return ReviewTask(claim=claim.claim, until=claim.until, task=claim.kind.task, blind=blind, inspection=shown)


def _response(result: Result, blind: bool) -> Response:
    shown = BlindInspection.from_result(result) if blind else result
    return Response(shown.model_dump_json(), media_type="application/json")

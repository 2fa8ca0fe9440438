"""`POST /v1/inspections/{id}/review`: what an operator found."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import unknown_inspection
from service.api.routes.answers import find
from service.api.routes.parameters import InspectionPath
from service.auth.caller import CallerDep
from service.contract import Decision, Note, Result, Review, Text, now
from service.errors import NotReviewable
from service.queue.reviews import MOST_REVIEWS, ReviewOutcome

router = APIRouter(tags=["history"])
log = structlog.get_logger(__name__)


class ReviewFields(BaseModel):
    """An operator's judgement."""

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
    """Adds an operator's judgement to an ended inspection. Earlier ones stay; the last one counts, also for the verdict
    of the whole part. The inspection's own `verdict` stays what the service found. `by` stands as it is given; `key`
    is the name of the API key that the review came with."""
    result = await find(services, inspection_id)
    made = Review(decision=fields.decision, note=fields.note, by=fields.by, key=caller.key_name, at=now())
    outcome = await services.reviews.add(result, made)
    if outcome is ReviewOutcome.UNFINISHED:
        raise NotReviewable(f"inspection {result.id} is {result.state.value}: it can be reviewed when it has ended")
    if outcome is ReviewOutcome.FULL:
        raise NotReviewable(
            f"inspection {result.id} has {MOST_REVIEWS} reviews, which is the limit: the last one counts"
        )
    if outcome is ReviewOutcome.UNKNOWN:
        raise unknown_inspection(result.id)
    log.info("inspection reviewed", inspection_id=result.id, decision=made.decision.value, by=made.by, key=made.key)
    shown = await find(services, result.id)
    return Response(shown.to_json(), media_type="application/json")

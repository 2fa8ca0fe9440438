"""A product's review plan: which share of its images people judge blind, and the plant's list of defect codes."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from glad_client.reviews import MAX_DEFECT_CODES, DefectKind, ReviewPlan, ReviewPlanSettings
from service.api.dependencies import CallerDep, ProductPath, ServicesDep
from service.api.intake.acceptance import pin_product
from service.api.openapi import operations as documents
from service.api.problems import read_bundles
from service.api.routes.product_changes import if_match_header, named_revisions, set_etag
from service.contract import VisibleText, only_fields_of
from service.errors import PreconditionFailed
from service.queue.review_plans import PlanChanged

router = APIRouter(tags=["reviews"])
log = structlog.get_logger(__name__)


IfPlanMatches = Annotated[str | None, if_match_header("the plan's")]


class ReviewPlanFields(ReviewPlanSettings):
    """A product's review plan. What is left out gets its default, not its old value."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "audit_share": 0.02,
                    "double_read_share": 0.1,
                    "defect_codes": [{"code": "scratch", "title": "Scratch", "key": "s"}],
                    "by": "q.engineer",
                }
            ]
        },
    )

    defect_codes: tuple[Annotated[DefectKind, only_fields_of(DefectKind)], ...] = Field(
        (), max_length=MAX_DEFECT_CODES, description=ReviewPlanSettings.model_fields["defect_codes"].description
    )
    by: VisibleText | None = Field(
        None, description="who sets it; default: the name of the API key. A person who signed in is named instead"
    )


@router.get(
    "/v1/products/{product}/review-plan", summary="Show a review plan", responses=documents.REVIEW_PLAN_RESPONSES
)
async def plan(services: ServicesDep, response: Response, product: ProductPath) -> ReviewPlan:
    """Return the product's review plan, and those before it. One that was never set draws no image.

    The `ETag` is the plan's revision: sent as `If-Match` with a change, it keeps that change from overwriting another
    one.
    """
    pinned = await read_bundles(services, product, pin_product, services.store, product)
    found = await services.review_plans.show(pinned.bundle.product)
    set_etag(response, found.revision)
    return found


@router.put(
    "/v1/products/{product}/review-plan", summary="Set a review plan", responses=documents.REVIEW_PLAN_PUT_RESPONSES
)
async def put_plan(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    product: ProductPath,
    fields: ReviewPlanFields,
    *,
    if_match: IfPlanMatches = None,
) -> ReviewPlan:
    """Set the product's review plan for images that come from now on.

    Whether an image belongs to the audit is drawn when it is accepted, by its id alone, and kept with the probability
    in force then: a plan that is changed later changes no draw. All settings are replaced; earlier plans are kept.
    """
    pinned = await read_bundles(services, product, pin_product, services.store, product)
    name = pinned.bundle.product
    settings = ReviewPlanSettings.model_validate(fields.model_dump(exclude={"by"}))
    by, at = caller.author(fields.by), await services.jobs.now()
    try:
        change = await services.review_plans.set(name, settings, by, at, revisions=named_revisions(if_match))
    except PlanChanged as error:
        present = await services.review_plans.current(name)
        raise PreconditionFailed(
            f"the review plan of product {name} is at revision {present.revision}, set by {present.by or 'nobody'}; "
            f"If-Match is {str(if_match)[:100]}: read the plan again, look at what changed, and repeat with its ETag"
        ) from error
    log.info(
        "review plan set",
        product=name,
        revision=change.revision,
        audit_share=change.audit_share,
        double_read_share=change.double_read_share,
        by=change.by,
        key=caller.key_name,
    )
    found = await services.review_plans.show(name)
    set_etag(response, found.revision)
    return found

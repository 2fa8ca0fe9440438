"""Submitting an image, and asking for its inspection."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.dependencies import ServicesDep
from service.api.intake.acceptance import accept
from service.api.intake.fields import InspectionFields
from service.api.intake.stage_timing import rejections_counted
from service.api.openapi import operations as documents
from service.api.openapi.bodies import submit_body
from service.api.routes.answers import POLL_AGAIN_S, answer, as_json, find
from service.api.routes.parameters import IdempotencyKey, InspectionPath, Prefer, wait_seconds
from service.auth.caller import CallerDep
from service.contract import Result

router = APIRouter(tags=["inspections"])


@router.post(
    "/v1/products/{product}/inspections",
    summary="Submit an image",
    status_code=202,
    response_model=Result,
    responses=documents.SUBMIT_RESPONSES,
    openapi_extra=submit_body(InspectionFields),
)
async def submit(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    *,
    product: Annotated[str, Path(description="the product's name", examples=["bracket"])],
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accepts one image: as the body itself, with the fields as query parameters, or as a multipart form.

    Answers 202 with the waiting inspection, or 200 where it has ended already: within `Prefer: wait=N` seconds, or
    earlier under the same `Idempotency-Key`.
    """
    with rejections_counted(services):
        upload = await services.decoder.upload(request)
        accepted = await accept(services, caller, product, upload, idempotency_key)
    return await answer(services, accepted, wait_seconds(prefer))


@router.get(
    "/v1/inspections/{id}",
    summary="Ask for an inspection",
    response_model=Result,
    responses=documents.INSPECTION_RESPONSES,
)
async def inspection(services: ServicesDep, inspection_id: InspectionPath) -> Response:
    """The inspection as it stands; `state` says whether it has ended."""
    result = await find(services, inspection_id)
    headers = {} if result.state.final else {"Retry-After": str(POLL_AGAIN_S)}
    return as_json(result, 200, headers)

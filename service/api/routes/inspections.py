"""Submitting an image, reading its inspection, and replaying one that ended without a verdict."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from redis.exceptions import RedisError

from service.api.dependencies import (
    CallerDep,
    IdempotencyKey,
    InspectionPath,
    Prefer,
    ProductPath,
    Services,
    ServicesDep,
    wait_seconds,
)
from service.api.intake.acceptance import Accepted, InspectionFields, accept_image, count_rejections
from service.api.intake.capacity import capacity_error
from service.api.openapi import operations as documents
from service.api.openapi.bodies import submit_body
from service.api.problems import queue_unavailable, read_bundles, unknown_inspection
from service.contract import Result, Text, parse_inspection_id, waiting_result
from service.queue.admission import ACCEPTED, Admission
from service.queue.dead_letters import DeadLetters
from service.queue.replay import Replayer

POLL_AGAIN_S = 1
"""`Retry-After` of an inspection that has not ended."""

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
    product: ProductPath,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accept one image: as the body itself, with the fields as query parameters, or as a multipart form.

    Answers 202 with the waiting inspection, or 200 if it has ended already: within `Prefer: wait=N` seconds, or
    earlier under the same `Idempotency-Key`.
    """
    with count_rejections(services):
        upload = await services.decoder.read_upload(request)
        accepted = await accept_image(services, caller, product, upload, idempotency_key)
    return await submission_response(services, accepted, wait_seconds(prefer))


@router.get(
    "/v1/inspections/{id}",
    summary="Ask for an inspection",
    response_model=Result,
    responses=documents.INSPECTION_RESPONSES,
)
async def inspection(services: ServicesDep, inspection_id: InspectionPath) -> Response:
    """Return the inspection as it stands; `state` says whether it has ended."""
    result = await get_or_404(services, inspection_id)
    return result_response(result, 200, {} if result.state.final else {"Retry-After": str(POLL_AGAIN_S)})


@router.post(
    "/v1/inspections/{id}/replay",
    summary="Inspect again what ended without a verdict",
    status_code=202,
    response_model=Result,
    responses=documents.REPLAY_RESPONSES,
)
async def replay(
    services: ServicesDep,
    caller: CallerDep,
    inspection_id: InspectionPath,
    by: Annotated[Text | None, Query(description="who wants it; default: the name of the API key")] = None,
) -> Response:
    """Inspect the kept image again, with the bundle and thresholds in force now.

    The new inspection's `replay_of` names the old one, `replayed_by` who wanted it. Called again, it answers with the
    same new inspection. A dead letter of the old one is removed.
    """
    replayer = Replayer(
        jobs=services.jobs,
        letters=DeadLetters(services.redis, services.settings.pool_names),
        store=services.store,
        artifacts=services.artifacts,
        pool_of=services.settings.pool_of,
        retry_after_s=services.settings.retry_after_s,
        run_on_images=services.threads.images.run,
        run_on_bundles=partial(read_bundles, services),
    )
    try:
        job, submission = await replayer.replay(inspection_id, caller.author(by))
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    if submission.admission not in ACCEPTED:
        raise capacity_error(services, submission, None)
    return await submission_response(services, Accepted(job, submission), wait_s=0)


async def submission_response(services: Services, accepted: Accepted, wait_s: int) -> Response:
    """Return 200 with an inspection that has ended, 202 with one that waits or runs.

    Args:
        services: of this process.
        accepted: what `accept_image` returned.
        wait_s: seconds that the answer may wait for the inspection's end.

    Raises:
        UnknownInspection: if the first inspection with the Idempotency-Key is no longer kept.
        QueueUnavailable: if the request was a repeat, and Redis is away.
    """
    result = await current_result(services, accepted, wait_s)
    headers = {"Location": f"/v1/inspections/{result.id}"}
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
    if result.state.final:
        return result_response(result, 200, headers)
    return result_response(result, 202, headers | {"Retry-After": str(POLL_AGAIN_S)})


async def current_result(services: Services, accepted: Accepted, wait_s: float = 0) -> Result:
    """Return the inspection of a submission, after waiting up to `wait_s` seconds for its end.

    What was newly accepted is never answered with an error: without Redis it is shown as queued.

    Raises:
        UnknownInspection: if the first inspection with the Idempotency-Key is no longer kept.
        QueueUnavailable: if the request was a repeat, and Redis is away.
    """
    is_repeat = accepted.submission.admission is Admission.REPEATED
    if not is_repeat and not wait_s:
        return waiting_result(accepted.job)
    try:
        result = await services.results.wait(accepted.submission.inspection_id, wait_s)
    except RedisError as error:
        if is_repeat:
            raise queue_unavailable(services, error) from error
        return waiting_result(accepted.job)
    if result is None:
        raise unknown_inspection(accepted.submission.inspection_id)
    return result


def result_response(result: Result, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an answer whose body is the inspection."""
    return Response(result.to_json(), status, headers, media_type="application/json")


async def get_or_404(services: Services, inspection_id: str) -> Result:
    """Return the inspection as it stands.

    Raises:
        UnknownInspection: if the text is no inspection's id, or nothing is kept under it.
        QueueUnavailable: if Redis is away.
    """
    try:
        result = await services.results.get(parse_inspection_id(inspection_id))
    except ValueError:
        result = None
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    if result is None:
        raise unknown_inspection(inspection_id)
    return result

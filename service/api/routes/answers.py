"""An inspection as the answer to a request: as it stands, or once it has ended."""

from __future__ import annotations

from fastapi import Response
from redis.exceptions import RedisError

from service.api.dependencies import Services
from service.api.intake.acceptance import Accepted
from service.api.problems import queue_unavailable, unknown_inspection
from service.contract import Result, parse_inspection_id
from service.queue.submitter import Outcome

POLL_AGAIN_S = 1


async def answer(services: Services, accepted: Accepted, wait_s: int) -> Response:
    """200 with an ended inspection, 202 with one that waits."""
    result = await current_result(services, accepted, wait_s)
    headers = {"Location": f"/v1/inspections/{result.id}"}
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
    if not result.state.final:
        headers["Retry-After"] = str(POLL_AGAIN_S)
    return as_json(result, 200 if result.state.final else 202, headers)


async def current_result(services: Services, accepted: Accepted, wait_s: float = 0) -> Result:
    """The inspection that stands for a submission. What was accepted is never answered with an error."""
    repeated = accepted.submission.outcome is Outcome.SAME
    result: Result | None = Result.waiting(accepted.job)
    if repeated or wait_s:
        try:
            result = await services.results.wait(accepted.submission.inspection_id, wait_s)
        except RedisError as error:
            if repeated:
                raise queue_unavailable(services, error) from error
    if result is None:
        raise unknown_inspection(accepted.submission.inspection_id)
    return result


async def find(services: Services, inspection_id: str) -> Result:
    """The inspection as it stands; UnknownInspection, or QueueUnavailable."""
    try:
        found = await services.results.get(parse_inspection_id(inspection_id))
    except ValueError:
        found = None
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    if found is None:
        raise unknown_inspection(inspection_id)
    return found


def as_json(result: Result, status: int, headers: dict[str, str]) -> Response:
    """The inspection as the body of an answer."""
    return Response(result.to_json(), status, headers, media_type="application/json")

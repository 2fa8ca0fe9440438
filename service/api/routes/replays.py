"""Replaying an inspection that ended without a verdict. For administrators."""

from __future__ import annotations

from fastapi import APIRouter, Response
from redis.exceptions import RedisError

from service.api.dependencies import ServicesDep
from service.api.intake.acceptance import Accepted
from service.api.intake.capacity import capacity_error
from service.api.openapi import operations as documents
from service.api.problems import queue_unavailable
from service.api.routes.answers import answer
from service.api.routes.parameters import InspectionPath
from service.contract import Result
from service.queue.admission import Room
from service.queue.dead_letters import DeadLetters
from service.queue.replay import Replayer

router = APIRouter(tags=["inspections"])


@router.post(
    "/v1/inspections/{id}/replay",
    summary="Inspect again what ended without a verdict",
    status_code=202,
    response_model=Result,
    responses=documents.REPLAY_RESPONSES,
)
async def replay(services: ServicesDep, inspection_id: InspectionPath) -> Response:
    """A new inspection of the kept image, with the bundle and thresholds in force now; `replay_of` names the old one.

    Asked again, it answers with the same new inspection. A dead letter of the old one is cleared away.
    """
    replayer = Replayer(
        jobs=services.jobs,
        letters=DeadLetters(services.redis, services.settings.pool_names),
        store=services.store,
        artifacts=services.artifacts,
        pool_of=services.settings.pool_of,
        retry_after_s=services.settings.retry_after_s,
    )
    try:
        job, submission = await replayer.replay(inspection_id)
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    if submission.outlook.room is not Room.OPEN:
        raise capacity_error(services, submission.outlook, None)
    return await answer(services, Accepted(job, submission), wait_s=0)

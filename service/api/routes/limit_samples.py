"""Limit samples: known parts that a station's camera is shown, and the checks by them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from glad_client.limit_samples import MOST_LIMIT_SAMPLES, LimitSample, LimitSamplesView
from service.api.dependencies import CallerDep, Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.stations import StationPath, unknown_station
from service.contract import VisibleText, check_serial, only_fields_of
from service.errors import LimitCheckConflict
from service.queue.limit_samples import NotNow

router = APIRouter(tags=["stations"])
log = structlog.get_logger(__name__)


def check_samples(samples: list[LimitSample]) -> list[LimitSample]:
    """Return the samples unchanged.

    Raises:
        ValueError: if a serial stands for two samples, or cannot be an address.
    """
    serials = [check_serial(sample.serial) for sample in samples]
    if len(set(serials)) < len(serials):
        twice = next(serial for serial in serials if serials.count(serial) > 1)
        raise ValueError(f"serial {twice!r} stands there twice: a sample is good or bad")
    return samples


class LimitSamplesFields(BaseModel):
    """The limit samples of a station."""

    model_config = ConfigDict(extra="forbid")

    samples: Annotated[
        list[Annotated[LimitSample, only_fields_of(LimitSample)]],
        Field(max_length=MOST_LIMIT_SAMPLES),
        AfterValidator(check_samples),
    ]
    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])


class LimitCheckFields(BaseModel):
    """Who starts a check."""

    model_config = ConfigDict(extra="forbid")

    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["b.huber"])


@router.get(
    "/v1/stations/{station:station}/limit-samples",
    summary="Ask for the limit samples of a station",
    responses=documents.LIMIT_SAMPLES_RESPONSES,
)
async def get_samples(services: ServicesDep, station: StationPath) -> LimitSamplesView:
    """Return the station's limit samples, the last check by them, which may be running, and those before it."""
    return await _view(services, station)


@router.put(
    "/v1/stations/{station:station}/limit-samples",
    summary="Set the limit samples of a station",
    responses=documents.LIMIT_CHANGE_RESPONSES,
)
async def put_samples(
    services: ServicesDep, caller: CallerDep, station: StationPath, fields: LimitSamplesFields
) -> LimitSamplesView:
    """Set which serials stand for known good and known bad parts; all that were set before are replaced.

    An image of the station with such a serial carries `limit_sample`. It counts as no part; a hold and a takt of the
    station do not change its verdict.
    """
    by = caller.author(fields.by)
    view = await _do(services, station, services.limit_samples.set_samples(station, fields.samples, by))
    log.info("limit samples set", station=station, by=by, key=caller.key_name, samples=len(fields.samples))
    return view


@router.post(
    "/v1/stations/{station:station}/limit-samples/check",
    summary="Start a check by limit samples",
    responses=documents.LIMIT_CHANGE_RESPONSES,
)
async def start_check(
    services: ServicesDep, caller: CallerDep, station: StationPath, fields: LimitCheckFields | None = None
) -> LimitSamplesView:
    """Begin a check: from now on the samples are shown to the camera, in any order.

    It is `passed` once every good sample was `pass` and every bad one `fail`. The first other verdict ends it as
    `failed` and holds the station until somebody releases it. Of a sample with several expected views all count.
    Events: `limit_samples.passed`, `limit_samples.failed`.
    """
    by = caller.author(fields.by if fields else None)
    view = await _do(services, station, services.limit_samples.start_check(station, by))
    log.info("check by limit samples started", station=station, by=by, key=caller.key_name)
    return view


@router.delete(
    "/v1/stations/{station:station}/limit-samples/check",
    summary="Cancel a check by limit samples",
    responses=documents.LIMIT_CHANGE_RESPONSES,
)
async def cancel_check(
    services: ServicesDep,
    caller: CallerDep,
    station: StationPath,
    by: Annotated[VisibleText | None, Query(description="who; default: the name of the API key")] = None,
) -> LimitSamplesView:
    """End the running check without an outcome. It stays in the record as `cancelled`."""
    author = caller.author(by)
    view = await _do(services, station, services.limit_samples.cancel_check(station, author))
    log.info("check by limit samples cancelled", station=station, by=author, key=caller.key_name)
    return view


async def _do(services: Services, station: str, call: Awaitable[None]) -> LimitSamplesView:
    """Make a change, and return what stands then."""
    try:
        await call
    except LookupError as error:
        raise unknown_station(station) from error
    except NotNow as error:
        raise LimitCheckConflict(str(error)) from error
    return await _view(services, station)


async def _view(services: Services, station: str) -> LimitSamplesView:
    view = await services.limit_samples.view(station)
    if view is None:
        raise unknown_station(station)
    return view

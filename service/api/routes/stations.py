"""Stations: a camera knows one address, and the MES sets which product it looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.convertors import register_url_convertor

from glad_client.answers import StationChange, StationHistory, StationList, StationSettings, StationView
from service.api.addresses import StationConvertor
from service.api.dependencies import CallerDep, IdempotencyKey, Prefer, Services, ServicesDep, wait_seconds
from service.api.intake.acceptance import InspectionFields, StationOrigin, accept_image, count_rejections, pin_product
from service.api.openapi import operations as documents
from service.api.openapi.bodies import submit_body
from service.api.problems import read_bundles
from service.api.routes.inspections import submission_response
from service.auth.scopes import Caller
from service.contract import Result, StationName, Text, VisibleText, check_visible
from service.errors import InvalidFields, UnknownStation
from service.queue.stations import MOST_STATIONS, StationsFull

register_url_convertor("station", StationConvertor())
router = APIRouter(tags=["stations"])
log = structlog.get_logger(__name__)

StationPath = Annotated[StationName, Path(description="the station's name", examples=["line-3"])]


class StationFields(StationSettings):
    """The settings that the MES sends at a changeover. A field left out gets its default, not its old value."""

    model_config = ConfigDict(extra="forbid")

    by: VisibleText | None = Field(
        None, description="who changes it; default: the name of the API key", examples=["mes"]
    )

    @field_validator("hold")
    @classmethod
    def _reason_is_seen(cls, reason: str | None) -> str | None:
        return None if reason is None else check_visible(reason)


class HoldFields(BaseModel):
    """Why a station is put on hold."""

    model_config = ConfigDict(extra="forbid")

    reason: VisibleText = Field(description="for those who look at the results", examples=["images are blurred"])
    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])


@router.get("/v1/stations", summary="List the stations", responses=documents.STATIONS_RESPONSES)
async def stations(services: ServicesDep) -> StationList:
    """Return every station that is set."""
    names = await services.stations.names()
    changes = [await services.stations.last_change(name) for name in names]
    views = [_view(name, change) for name, change in zip(names, changes, strict=True) if change]
    return StationList(stations=[view for view in views if view is not None])


@router.get("/v1/stations/{station:station}", summary="Describe a station", responses=documents.STATION_RESPONSES)
async def station(services: ServicesDep, station: StationPath) -> StationHistory:
    """Return the station with its present settings and all its changes."""
    changes = await services.stations.changes(station)
    view = _view(station, changes[0]) if changes else None
    if view is None:
        raise unknown_station(station)
    return StationHistory(**view.model_dump(), changes=list(changes))


@router.put("/v1/stations/{station:station}", summary="Set a station", responses=documents.STATION_PUT_RESPONSES)
async def put(services: ServicesDep, caller: CallerDep, station: StationPath, fields: StationFields) -> StationView:
    """Set which product the station's camera looks at from now on, and the defaults of its images' fields.

    Images that were accepted before stay as they are. All settings are replaced, but for a hold and a takt that the
    call does not name: a changeover does not lift them. Every change is kept, with its time and its author.
    """
    await read_bundles(services, fields.product, pin_product, services.store, fields.product)
    given = StationSettings.model_validate(fields.model_dump(exclude={"by"}))
    kept = {name for name in ("hold", "takt_ms") if name not in fields.model_fields_set}

    def settings(present: StationSettings | None) -> StationSettings:
        return given if present is None else given.model_copy(update=present.model_dump(include=kept))

    return await _change(services, caller, station, fields.by, settings)


@router.delete(
    "/v1/stations/{station:station}",
    summary="Remove a station",
    status_code=204,
    responses=documents.STATION_DELETE_RESPONSES,
)
async def delete(
    services: ServicesDep,
    caller: CallerDep,
    station: StationPath,
    by: Annotated[VisibleText | None, Query(description="who removes it; default: the name of the API key")] = None,
) -> Response:
    """Remove the station: from now on its address accepts no images. Its changes are kept as long as results are."""
    await _settings(services, station)
    change = StationChange(at=await services.jobs.now(), by=caller.author(by), settings=None)
    await services.stations.change(station, lambda present: None if present is None else change)
    log.info("station removed", station=station, by=change.by, key=caller.key_name)
    return Response(status_code=204)


@router.put("/v1/stations/{station:station}/hold", summary="Hold a station", responses=documents.STATION_HOLD_RESPONSES)
async def hold(services: ServicesDep, caller: CallerDep, station: StationPath, fields: HoldFields) -> StationView:
    """Put the station on hold, or change the reason: what is accepted from now on does not pass.

    Its parts are still inspected: one that would pass is `review`, one that fails still fails. Event: `station.held`.
    The hold of a failed check by limit samples is not replaced: it stays behind this one, as `check_hold`.
    """

    def held(present: StationSettings | None) -> StationSettings:
        return _known(station, present).model_copy(update={"hold": fields.reason})

    return await _change(services, caller, station, fields.by, held)


@router.delete(
    "/v1/stations/{station:station}/hold", summary="Release a station", responses=documents.STATION_HOLD_RESPONSES
)
async def release(
    services: ServicesDep,
    caller: CallerDep,
    station: StationPath,
    by: Annotated[VisibleText | None, Query(description="who releases it; default: the name of the API key")] = None,
    reason: Annotated[
        Text | None, Query(description="`hold` as it was read: if another one is in force, it stays; default: any")
    ] = None,
) -> StationView:
    """Lift the station's hold: what is accepted from now on passes again. Event: `station.released`.

    Without a hold nothing changes. Each call lifts one hold: if a check by limit samples failed while a person held the
    station, `check_hold` is in force from then on (event `station.held`), and is lifted by a call of its own.
    """

    def released(present: StationSettings | None) -> StationSettings | None:
        settings = _known(station, present)
        is_other = reason is not None and reason != settings.hold
        return None if settings.hold is None or is_other else settings.model_copy(update={"hold": None})

    return await _change(services, caller, station, by, released)


@router.post(
    "/v1/stations/{station:station}/inspections",
    summary="Submit an image of a station",
    status_code=202,
    response_model=Result,
    responses=documents.STATION_SUBMIT_RESPONSES,
    openapi_extra=submit_body(InspectionFields),
)
async def submit(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    *,
    station: StationPath,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Accept one image for the station's product, with the station's settings for fields that the image does not name.

    An `Idempotency-Key` belongs to the station: a retry after a changeover still stands for the first image.
    """
    with count_rejections(services):
        settings = await _settings(services, station)
        upload = await services.decoder.read_upload(request)
        origin = StationOrigin(station, settings.defaults)
        accepted = await accept_image(services, caller, settings.product, upload, idempotency_key, origin=origin)
    return await submission_response(services, accepted, wait_seconds(prefer))


async def _change(
    services: Services,
    caller: Caller,
    station: str,
    by: str | None,
    make: Callable[[StationSettings | None], StationSettings | None],
) -> StationView:
    """Put new settings into force, made from those in force; None from `make` leaves them as they are."""
    at, author = await services.jobs.now(), caller.author(by)

    def change(present: StationSettings | None) -> StationChange | None:
        settings = make(present)
        return None if settings is None else StationChange(at=at, by=author, settings=settings)

    try:
        made = await services.stations.change(station, change)
    except StationsFull as error:
        message = f"would be a station more than the {MOST_STATIONS} that may be set: remove one that is not used"
        raise InvalidFields.for_field("station", message) from error
    view = None if made is None else _view(station, made)
    if view is None:
        raise unknown_station(station)
    log.info("station set", by=author, key=caller.key_name, **view.model_dump(mode="json", exclude={"changed_by"}))
    return view


def _known(station: str, present: StationSettings | None) -> StationSettings:
    if present is None:
        raise unknown_station(station)
    return present


async def _settings(services: Services, station: str) -> StationSettings:
    change = await services.stations.last_change(station)
    if change is None or change.settings is None:
        raise unknown_station(station)
    return change.settings


def _view(station: str, change: StationChange) -> StationView | None:
    if change.settings is None:
        return None
    return StationView(
        **change.settings.model_dump(),
        station=station,
        changed_at=change.at,
        changed_by=change.by,
        held_at=change.held_at,
        held_by=change.held_by,
        held_sample=change.held_sample,
        check_hold=change.check_hold,
    )


def unknown_station(station: str) -> UnknownStation:
    """Return the error for a station that is not set."""
    return UnknownStation(f"no station {station!r}: set its product with PUT /v1/stations/{{station}}")

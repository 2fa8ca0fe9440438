"""What the OpenAPI document says of stations."""

from __future__ import annotations

from typing import Any

from service.api.openapi.examples import NO_PRODUCT, QUEUE_AWAY, UNUSABLE
from service.api.openapi.inspections import SUBMIT_RESPONSES
from service.api.openapi.responses import Responses, problems
from service.errors import InvalidFields, UnknownStation

STATION_SUBMIT_RESPONSES: Responses = SUBMIT_RESPONSES | problems(
    "/v1/stations/line-4/inspections",
    UnknownStation("no station 'line-4': set its product with PUT /v1/stations/{station}"),
    NO_PRODUCT,
    UNUSABLE,
)
_STATION_SETTINGS: dict[str, Any] = {
    "product": "bracket",
    "lot": "L-42",
    "view": None,
    "priority": "normal",
    "deadline_ms": None,
    "expected_views": ["top", "bottom"],
}
STATION: dict[str, Any] = _STATION_SETTINGS | {
    "station": "line-3",
    "changed_at": "2026-11-23T06:00:00.000Z",
    "changed_by": "mes",
}
_CHANGES = {"changes": [{"at": STATION["changed_at"], "by": "mes", "settings": _STATION_SETTINGS}]}
_NO_STATION = UnknownStation("no station 'line-4': set its product with PUT /v1/stations/{station}")
STATIONS_RESPONSES: Responses = {
    200: {"content": {"application/json": {"example": {"stations": [STATION]}}}},
    **problems("/v1/stations", QUEUE_AWAY),
}
STATION_RESPONSES: Responses = {
    200: {"content": {"application/json": {"example": STATION | _CHANGES}}},
    **problems("/v1/stations/line-4", _NO_STATION, InvalidFields("station: is too long"), QUEUE_AWAY),
}
STATION_PUT_RESPONSES: Responses = {
    200: {"content": {"application/json": {"example": STATION}}},
    **problems(
        "/v1/stations/line-3",
        NO_PRODUCT,
        UNUSABLE,
        InvalidFields("priority: Input should be 'high' or 'normal'"),
        QUEUE_AWAY,
    ),
}
STATION_DELETE_RESPONSES: Responses = {
    204: {"description": "Removed"},
    **problems("/v1/stations/line-4", _NO_STATION, InvalidFields("station: is too long"), QUEUE_AWAY),
}

"""The responses of every operation of `/v1` and of the probes, for the `responses=` of its route.

Errors of authentication and of body limits are not named here: `document` adds them to every operation that has them.
"""

from __future__ import annotations

import json

from service.api.openapi.bodies import BINARY, IMAGE_TYPES
from service.api.openapi.examples import (
    ACTIVATION,
    CHECKS,
    DONE,
    EVENT,
    GATE,
    ID,
    OLD_ID,
    PART,
    PRODUCT,
    QUEUED,
    REDIS_AWAY,
    REVIEW,
    STATION,
    STATION_CHANGES,
    THRESHOLD_CHANGE,
    UNFIT,
)
from service.api.openapi.responses import (
    APPLIED,
    ETAG,
    LOCATION,
    RETRY_AFTER,
    Responses,
    example_problem,
    inspection_response,
    json_response,
    responses_for,
)
from service.errors import (
    BacklogFull,
    BodyTooLarge,
    DeadlineUnreachable,
    EmptyImage,
    InvalidFields,
    KeyReused,
    MalformedForm,
    NotReplayable,
    NotReviewable,
    PreconditionFailed,
    ProductUnusable,
    QueueUnavailable,
    ServiceError,
    StateChanged,
    StorageUnavailable,
    TooManyPixels,
    TooManyStreams,
    UndecodableImage,
    UnknownArtifact,
    UnknownFormat,
    UnknownInspection,
    UnknownPart,
    UnknownProduct,
    UnknownStation,
    UnknownVersion,
    VersionUnusable,
    WaitTooLong,
)

SUBMIT_PATH = "/v1/products/bracket/inspections"
IMAGE_ERRORS: tuple[type[ServiceError], ...] = (
    EmptyImage,
    UndecodableImage,
    KeyReused,
    BodyTooLarge,
    UnknownFormat,
    InvalidFields,
    TooManyPixels,
)
PRODUCT_ERRORS: tuple[type[ServiceError], ...] = (UnknownProduct, ProductUnusable)
CAPACITY_ERRORS: tuple[type[ServiceError], ...] = (BacklogFull, WaitTooLong, DeadlineUnreachable)
OUTAGES: tuple[type[ServiceError], ...] = (QueueUnavailable, StorageUnavailable)
SUBMIT_ERRORS = (*IMAGE_ERRORS, MalformedForm, *PRODUCT_ERRORS, *CAPACITY_ERRORS, *OUTAGES)
CHANGE_ERRORS: tuple[type[ServiceError], ...] = (
    *PRODUCT_ERRORS,
    VersionUnusable,
    StateChanged,
    PreconditionFailed,
    InvalidFields,
    StorageUnavailable,
)
"""Of a call that changes a product."""

_ACCEPTED: Responses = {
    200: inspection_response("Ended already, or within the time asked for", DONE, LOCATION | APPLIED, unfit=UNFIT),
    202: inspection_response("Accepted: it waits or runs", QUEUED, LOCATION | RETRY_AFTER | APPLIED),
}
SUBMIT_RESPONSES: Responses = _ACCEPTED | responses_for(SUBMIT_PATH, *SUBMIT_ERRORS)
STATION_SUBMIT_RESPONSES: Responses = _ACCEPTED | responses_for(
    "/v1/stations/line-4/inspections", *SUBMIT_ERRORS, UnknownStation
)
BATCH_RESPONSES: Responses = {
    202: json_response(
        {
            "items": [
                {"index": 0, "status": 202, "inspection": QUEUED, "problem": None},
                {
                    "index": 1,
                    "status": 400,
                    "inspection": None,
                    "problem": example_problem(EmptyImage, f"{SUBMIT_PATH}:batch").model_dump(),
                },
            ]
        },
        description="The outcome of each image",
    ),
    **responses_for(f"{SUBMIT_PATH}:batch", MalformedForm, *PRODUCT_ERRORS, BodyTooLarge, InvalidFields),
}
INSPECTION_RESPONSES: Responses = {
    200: inspection_response("The inspection in its present state", DONE, {}, unfit=UNFIT),
    **responses_for(f"/v1/inspections/{ID}", UnknownInspection, QueueUnavailable),
}
ARTIFACT_RESPONSES: Responses = {
    200: {
        "description": "The picture, or the map",
        "content": {kind: {"schema": BINARY} for kind in IMAGE_TYPES},
    },
    **responses_for(f"/v1/inspections/{ID}/heatmap.png", UnknownInspection, UnknownArtifact, *OUTAGES),
}
REPLAY_RESPONSES: Responses = {
    200: inspection_response("Replayed before, and ended", DONE | {"replay_of": OLD_ID}, LOCATION),
    202: inspection_response(
        "The new inspection: it waits or runs", QUEUED | {"replay_of": OLD_ID}, LOCATION | RETRY_AFTER
    ),
    **responses_for(
        f"/v1/inspections/{OLD_ID}/replay", UnknownInspection, NotReplayable, BacklogFull, WaitTooLong, *OUTAGES
    ),
}
REVIEW_RESPONSES: Responses = {
    200: inspection_response("The inspection, with all its reviews", DONE | {"reviews": [REVIEW]}, {}),
    **responses_for(f"/v1/inspections/{ID}/review", UnknownInspection, NotReviewable, InvalidFields, QueueUnavailable),
}
HISTORY_RESPONSES: Responses = {
    200: json_response(
        {"inspections": [DONE, UNFIT], "next": "aDE6MTgwNjU1MjU4NjAwMDAwMA", "more": False}, description="One page"
    ),
    **responses_for("/v1/inspections", InvalidFields, QueueUnavailable),
}
PART_RESPONSES: Responses = {
    200: json_response(PART, description="The part, with the verdict of each of its views"),
    **responses_for("/v1/parts/SN-000123", UnknownPart, InvalidFields, QueueUnavailable),
}
EVENTS_RESPONSES: Responses = {
    200: {
        "description": "Server-sent events, without end",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": f"id: 1795421731432-0\nevent: inspection.done\ndata: {json.dumps(EVENT)}\n\n",
            }
        },
    },
    **responses_for("/v1/events", InvalidFields, TooManyStreams, QueueUnavailable),
}
PRODUCTS_RESPONSES: Responses = {200: json_response({"products": [PRODUCT]})}
PRODUCT_RESPONSES: Responses = {
    200: json_response(PRODUCT, headers=ETAG),
    **responses_for("/v1/products/bracket", *PRODUCT_ERRORS),
}
ACTIVE_RESPONSES: Responses = {
    200: json_response(ACTIVATION, headers=ETAG),
    **responses_for("/v1/products/bracket/active", UnknownVersion, *CHANGE_ERRORS),
}
GATE_RESPONSES: Responses = {
    200: json_response(GATE, headers=ETAG),
    **responses_for("/v1/products/bracket/gate", *CHANGE_ERRORS),
}
THRESHOLDS_RESPONSES: Responses = {
    200: json_response(THRESHOLD_CHANGE, headers=ETAG),
    **responses_for("/v1/products/bracket/thresholds", UnknownVersion, QueueUnavailable, *CHANGE_ERRORS),
}
STATIONS_RESPONSES: Responses = {
    200: json_response({"stations": [STATION]}),
    **responses_for("/v1/stations", QueueUnavailable),
}
STATION_RESPONSES: Responses = {
    200: json_response(STATION | STATION_CHANGES),
    **responses_for("/v1/stations/line-3", UnknownStation, InvalidFields, QueueUnavailable),
}
STATION_PUT_RESPONSES: Responses = {
    200: json_response(STATION),
    **responses_for("/v1/stations/line-3", *PRODUCT_ERRORS, InvalidFields, QueueUnavailable),
}
STATION_DELETE_RESPONSES: Responses = {
    204: {"description": "Removed"},
    **responses_for("/v1/stations/line-3", UnknownStation, InvalidFields, QueueUnavailable),
}
LIVE_RESPONSES: Responses = {200: json_response({"status": "alive"})}
READY_RESPONSES: Responses = {
    200: json_response({"status": "ready", "checks": CHECKS}),
    503: json_response(
        {"status": "unavailable", "checks": CHECKS | {"redis": REDIS_AWAY}},
        schema="Readiness",
        description="An image posted now would be refused",
        headers=RETRY_AFTER,
    ),
}
METRICS_RESPONSES: Responses = {200: {"description": "Prometheus text format", "content": {"text/plain": {}}}}

"""What the OpenAPI document says beyond types: bodies, examples, every answer."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from service.contract import Result
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
    error_body,
)

Responses = dict[int | str, dict[str, Any]]

ID = "019abc12-3456-7def-8123-456789abcdef"
OLD_ID = "019abc12-0000-7def-8123-456789abcdef"
PATH = "/v1/products/bracket/inspections"
IMAGE_TYPES = ("image/jpeg", "image/png", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")
BINARY = {"type": "string", "format": "binary"}

QUEUED: dict[str, Any] = {
    "serial": "SN-000123",
    "lot": "L-42",
    "view": "top",
    "station": "line-3",
    "captured_at": "2026-11-23T08:15:30.120Z",
    "metadata": {"shift": 2},
    "id": ID,
    "state": "queued",
    "product": "bracket",
    "bundle": {"version": "1", "hash": "5f" * 32},
    "priority": "normal",
    "deadline_ms": None,
    "score": None,
    "calibrated_score": None,
    "thresholds": {"review": 0.31, "fail": 0.36, "pixel": 0.42},
    "verdict": None,
    "regions": [],
    "denoising_step": None,
    "unet_evaluations": None,
    "seed": None,
    "timings_ms": None,
    "artifacts": {"image": f"/v1/inspections/{ID}/image"},
    "image_sha256": "9c" * 32,
    "width": 512,
    "height": 512,
    "accepted_at": "2026-11-23T08:15:30.412Z",
    "started_at": None,
    "finished_at": None,
    "attempts": 0,
    "replay_of": None,
    "error": None,
    "reviews": [],
}
DONE: dict[str, Any] = QUEUED | {
    "state": "done",
    "score": 0.54,
    "calibrated_score": 0.6,
    "verdict": "fail",
    "regions": [{"box": [211, 87, 34, 29], "area_px": 702, "peak": 0.91}],
    "denoising_step": 421,
    "unet_evaluations": 25,
    "seed": 0,
    "timings_ms": {"queue": 12.0, "decode": 9.1, "encode": 31.0, "denoise": 880.5, "score": 64.2, "total": 1020.3},
    "artifacts": {
        name: f"/v1/inspections/{ID}/{name}"
        for name in ("heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image")
    },
    "started_at": "2026-11-23T08:15:30.424Z",
    "finished_at": "2026-11-23T08:15:31.432Z",
    "attempts": 1,
}

_RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
_LOCATION = {"Location": {"description": "the inspection", "schema": {"type": "string"}}}
_APPLIED = {"Preference-Applied": {"description": "`wait=N`, if asked for", "schema": {"type": "string"}}}


def problems(instance: str, *errors: ServiceError) -> Responses:
    """One response per status, with an example per type."""
    responses: Responses = {}
    for error in errors:
        media_type, body = error_body(error.problem(instance))
        response = responses.setdefault(
            int(error.status),
            {"model": type(body), "description": error.title, "content": {media_type: {"examples": {}}}},
        )
        if error.title not in response["description"]:
            response["description"] += f", or: {error.title}"
        example = body.model_dump(exclude_none=True)
        response["content"][media_type]["examples"][error.slug] = {"summary": error.title, "value": example}
        if error.retry_after_s is not None:
            response["headers"] = _RETRY_AFTER
    return responses


def inspection(description: str, example: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": Result,
        "description": description,
        "content": {"application/json": {"example": example}},
        "headers": headers,
    }


QUEUE_AWAY = QueueUnavailable("the queue does not answer, or refuses writes: try again later", retry_after_s=2)
STORAGE_AWAY = StorageUnavailable(
    "the image could not be stored; it was not accepted: send it again later", retry_after_s=2
)
_FULL = BacklogFull("1000 inspections are queued or running; the limit is 1000: send it again later", retry_after_s=2)
NO_PRODUCT = UnknownProduct("no product 'brackt'; known: bracket")
UNUSABLE = ProductUnusable(
    "product 'bracket' has no usable bundle; the service's log says why: restore it or activate another version"
)
NO_INSPECTION = UnknownInspection(f"no inspection {ID!r}: it was never accepted here, or is no longer kept")

SUBMIT_RESPONSES: Responses = {
    200: inspection("Ended already, or within the time asked for", DONE, _LOCATION | _APPLIED),
    202: inspection("Accepted: it waits or runs", QUEUED, _LOCATION | _RETRY_AFTER | _APPLIED),
    **problems(
        PATH,
        EmptyImage("the image has 0 bytes: send the file's content"),
        UndecodableImage("JPEG image of 20480 bytes does not decode (image file is truncated): send it again"),
        MalformedForm("the multipart body ends before its closing boundary: it was cut off; send it again"),
        NO_PRODUCT,
        UNUSABLE,
        KeyReused(f"Idempotency-Key 'line-3-000123-top' was used for inspection {ID} with another image"),
        BodyTooLarge("the body has 90000000 bytes; at most 67174400 bytes are allowed: send a smaller image"),
        UnknownFormat("the content begins with 25 50 44 46: send JPEG, PNG, BMP, TIFF or WebP"),
        InvalidFields("captured_at: Input should have timezone info"),
        TooManyPixels("image is 20000x20000 = 400000000 pixels; the limit is 64000000: crop or downscale it"),
        _FULL,
        WaitTooLong(
            "a new inspection would wait about 4200 s; the limit is 3600 s: send it again later", retry_after_s=600
        ),
        DeadlineUnreachable(
            "a new inspection would wait about 12.5 s; its deadline_ms is 5000: give it more time, or send it later",
            retry_after_s=8,
        ),
        QUEUE_AWAY,
        STORAGE_AWAY,
    ),
}
STATION_SUBMIT_RESPONSES: Responses = SUBMIT_RESPONSES | problems(
    "/v1/stations/line-4/inspections",
    UnknownStation("no station 'line-4': set its product with PUT /v1/stations/{station}"),
    NO_PRODUCT,
    UNUSABLE,
)
BATCH_RESPONSES: Responses = {
    202: {
        "description": "What became of each image",
        "content": {
            "application/json": {
                "example": {
                    "items": [
                        {"index": 0, "status": 202, "inspection": QUEUED, "problem": None},
                        {
                            "index": 1,
                            "status": 400,
                            "inspection": None,
                            "problem": EmptyImage("the image has 0 bytes: send the file's content")
                            .problem(f"{PATH}:batch")
                            .model_dump(),
                        },
                    ]
                }
            }
        },
    },
    **problems(
        f"{PATH}:batch",
        MalformedForm("the multipart body ends before its closing boundary: it was cut off; send it again"),
        NO_PRODUCT,
        UNUSABLE,
        BodyTooLarge("the body has 90000000 bytes; at most 67174400 bytes are allowed: send fewer images"),
        InvalidFields("items: has 2 entries for 3 images: give one for each, in order"),
    ),
}
INSPECTION_RESPONSES: Responses = {
    200: inspection("The inspection as it stands", DONE, {}),
    **problems(f"/v1/inspections/{ID}", NO_INSPECTION, QUEUE_AWAY),
}
HISTORY_RESPONSES: Responses = {
    200: {
        "description": "One page",
        "content": {
            "application/json": {
                "example": {"inspections": [DONE], "next": "aDE6MTgwNjU1MjU4NjAwMDAwMA", "more": False}
            }
        },
    },
    **problems(
        "/v1/inspections",
        InvalidFields("after: is no cursor of this call: send `next` of an earlier page as it came, or leave it out"),
        QUEUE_AWAY,
    ),
}
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
REVIEW: dict[str, Any] = {
    "decision": "ok",
    "note": "scratch is on the fixture",
    "by": "a.meier",
    "at": "2026-11-23T08:17:02.005Z",
}
REVIEW_RESPONSES: Responses = {
    200: inspection("The inspection, with all its reviews", DONE | {"reviews": [REVIEW]}, {}),
    **problems(
        f"/v1/inspections/{ID}/review",
        NO_INSPECTION,
        NotReviewable(f"inspection {ID} is running: it can be reviewed when it has ended"),
        InvalidFields("decision: Input should be 'ok' or 'defect'"),
        QUEUE_AWAY,
    ),
}
PART_RESPONSES: Responses = {
    200: {
        "description": "The part, as all its images show it",
        "content": {
            "application/json": {
                "example": {
                    "serial": "SN-000123",
                    "verdict": "review",
                    "finished": True,
                    "views": [
                        {
                            "product": "bracket",
                            "view": "bottom",
                            "state": None,
                            "verdict": "review",
                            "reason": "missing",
                            "inspection_id": None,
                        },
                        {
                            "product": "bracket",
                            "view": "top",
                            "state": "done",
                            "verdict": "pass",
                            "reason": "score",
                            "inspection_id": ID,
                        },
                    ],
                }
            }
        },
    },
    **problems(
        "/v1/parts/SN-000124",
        UnknownPart("no image with serial 'SN-000124' is kept: check the serial, or the time since its inspection"),
        InvalidFields("serial: String should have at most 128 characters"),
        QUEUE_AWAY,
    ),
}
EVENT: dict[str, Any] = {
    "type": "inspection.done",
    "inspection_id": ID,
    "product": "bracket",
    "serial": "SN-000123",
    "station": "line-3",
    "verdict": "fail",
    "score": 0.54,
    "at": "2026-11-23T08:15:31.432Z",
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
    **problems(
        "/v1/events",
        InvalidFields("after: is '12x'; an event's id is digits, a hyphen, digits: send the last one that you saw"),
        TooManyStreams("100 clients follow the events; the limit is 100: close one, or raise GLAD_MAX_EVENT_STREAMS"),
        QUEUE_AWAY,
    ),
}
REPLAY_RESPONSES: Responses = {
    200: inspection("Replayed before, and ended", DONE | {"replay_of": OLD_ID}, _LOCATION),
    202: inspection("The new inspection: it waits or runs", QUEUED | {"replay_of": OLD_ID}, _LOCATION | _RETRY_AFTER),
    **problems(
        f"/v1/inspections/{OLD_ID}/replay",
        NO_INSPECTION,
        NotReplayable(f"inspection {OLD_ID} has a verdict: only failed and expired ones are replayed"),
        _FULL,
        QUEUE_AWAY,
        STORAGE_AWAY,
    ),
}
ARTIFACT_RESPONSES: Responses = {
    200: {
        "description": "The picture, or the map",
        "content": {kind: {"schema": BINARY} for kind in (*IMAGE_TYPES, "application/octet-stream")},
    },
    **problems(
        f"/v1/inspections/{ID}/heatmap.png",
        NO_INSPECTION,
        UnknownArtifact(f"inspection {ID} has no heatmap.png: its state is queued, and it has image"),
        QUEUE_AWAY,
        STORAGE_AWAY,
    ),
}
PRODUCTS_RESPONSES: Responses = {}
PRODUCT_RESPONSES: Responses = problems("/v1/products/brackt", NO_PRODUCT, UNUSABLE)
_NO_VERSION = UnknownVersion("product 'bracket' has no version '9': use one of 2, 1")
_CANNOT_WRITE = StorageUnavailable("the product's state could not be written; nothing changed", retry_after_s=2)
_STATE_CHANGED = StateChanged(
    "product bracket: state is at revision 3, changed by ann; yours was made from revision 2: read it again and repeat"
)
ACTIVE_RESPONSES: Responses = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "product": "bracket",
                    "active": "2",
                    "revision": 1,
                    "history": [
                        {
                            "version": "2",
                            "kind": "activate",
                            "by": "a.meier",
                            "at": "2026-11-23T08:15:30.120Z",
                            "note": "less false alarms",
                        }
                    ],
                }
            }
        }
    },
    **problems(
        "/v1/products/bracket/active",
        NO_PRODUCT,
        UNUSABLE,
        _NO_VERSION,
        VersionUnusable("product bracket: no version was active before 2; activate one by name"),
        _STATE_CHANGED,
        InvalidFields("request: give either `version`, or `roll_back`: true"),
        _CANNOT_WRITE,
    ),
}
_LIMITS: dict[str, Any] = {"review": 0.31, "fail": 0.36, "pixel": 0.42}
THRESHOLDS_RESPONSES: Responses = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "product": "bracket",
                    "version": "2",
                    "applied": False,
                    "calibrated": _LIMITS,
                    "before": _LIMITS,
                    "after": _LIMITS | {"fail": 0.4},
                    "effect": {
                        "compared": 1000,
                        "changed": 3,
                        "changes": [{"before": "fail", "after": "review", "count": 3}],
                        "oldest": "2026-11-23T06:02:11.871Z",
                        "examples": [ID],
                    },
                }
            }
        }
    },
    **problems(
        "/v1/products/bracket/thresholds",
        NO_PRODUCT,
        UNUSABLE,
        _NO_VERSION,
        VersionUnusable("a version of product 'bracket' is broken; the service's log says how: publish it again"),
        _STATE_CHANGED,
        InvalidFields("review: review threshold 0.5 lies above fail threshold 0.36: lower it"),
        QUEUE_AWAY,
        _CANNOT_WRITE,
    ),
}
READY_RESPONSES: Responses = {503: {"description": "An image posted now would be refused", "headers": _RETRY_AFTER}}
METRICS_RESPONSES: Responses = {200: {"description": "Prometheus text format", "content": {"text/plain": {}}}}


def submit_body(fields: type[BaseModel]) -> dict[str, Any]:
    """The request of a submission: the fields as query parameters of a raw body, or within a form."""
    properties = fields.model_json_schema()["properties"]
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.get("description", ""),
            "schema": _plain(name, schema),
        }
        for name, schema in properties.items()
    ]
    form = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {"image": BINARY | {"description": "the image file"}}
        | {name: _plain(name, schema) for name, schema in properties.items()},
    }
    content = {kind: {"schema": BINARY} for kind in IMAGE_TYPES} | {"multipart/form-data": {"schema": form}}
    return {
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "description": "The image itself (JPEG, PNG, BMP, TIFF or WebP; the content decides, not the header), or a "
            "form with the file `image` and the fields.",
            "content": content,
        },
    }


def batch_body(fields: type[BaseModel]) -> dict[str, Any]:
    """The request of a batch: a form with several images, fields for all, and `items`."""
    properties = fields.model_json_schema()["properties"]
    items = {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "JSON array: for each image, in order, an object of its own fields and `idempotency_key`",
        "example": '[{"view": "top"}, {"view": "side", "idempotency_key": "line-3-000123-side"}]',
    }
    form = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {"image": {"type": "array", "items": BINARY, "minItems": 1, "maxItems": 32}, "items": items}
        | {name: _plain(name, schema) for name, schema in properties.items()},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def _plain(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A field as it stands in a URL or form: text, without null."""
    if name == "metadata":
        return {
            "type": "string",
            "contentMediaType": "application/json",
            "maxLength": 1024,
            "description": schema.get("description", ""),
            "example": '{"shift": 2}',
        }
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    kept = {key: value for key, value in kinds[0].items() if key not in {"title", "description", "default"}}
    return kept | {key: schema[key] for key in ("description", "examples", "default") if schema.get(key) is not None}

"""The responses of every operation of `/v1` and of the probes, for the `responses=` of its route.

Errors of authentication and of body limits are not named here: `document` adds them to every operation that has them.
"""

from __future__ import annotations

import json

from service import errors
from service.api.openapi import examples
from service.api.openapi.bodies import BINARY, IMAGE_TYPES
from service.api.openapi.examples import ID, OLD_ID
from service.api.openapi.responses import (
    APPLIED,
    ETAG,
    LOCATION,
    RETRY_AFTER,
    Responses,
    inspection_response,
    json_response,
    responses_for,
)
from service.errors import ServiceError

SUBMIT_PATH = "/v1/products/bracket/inspections"
IMAGE_ERRORS: tuple[type[ServiceError], ...] = (
    errors.DigestMismatch,
    errors.EmptyImage,
    errors.UndecodableImage,
    errors.KeyReused,
    errors.BodyTooLarge,
    errors.UnknownFormat,
    errors.InvalidFields,
    errors.TooManyPixels,
    errors.DecodingTooCostly,
)
PRODUCT_ERRORS: tuple[type[ServiceError], ...] = (errors.UnknownProduct, errors.ProductUnusable)
CAPACITY_ERRORS: tuple[type[ServiceError], ...] = (errors.BacklogFull, errors.WaitTooLong, errors.DeadlineUnreachable)
OUTAGES: tuple[type[ServiceError], ...] = (errors.QueueUnavailable, errors.StorageUnavailable)
SUBMIT_ERRORS = (
    *IMAGE_ERRORS,
    errors.MalformedForm,
    *PRODUCT_ERRORS,
    *CAPACITY_ERRORS,
    *OUTAGES,
    errors.DecodingUnavailable,
)
CHANGE_ERRORS: tuple[type[ServiceError], ...] = (
    *PRODUCT_ERRORS,
    errors.VersionUnusable,
    errors.StateChanged,
    errors.PreconditionFailed,
    errors.InvalidFields,
    errors.StorageUnavailable,
)
"""Errors of a call that changes a product."""

_ACCEPTED: Responses = {
    200: inspection_response(
        "Ended already, or within the time asked for", examples.DONE, LOCATION | APPLIED, unfit=examples.UNFIT
    ),
    202: inspection_response("Accepted: it waits or runs", examples.QUEUED, LOCATION | RETRY_AFTER | APPLIED),
}
SUBMIT_RESPONSES: Responses = _ACCEPTED | responses_for(SUBMIT_PATH, *SUBMIT_ERRORS)
STATION_SUBMIT_RESPONSES: Responses = _ACCEPTED | responses_for(
    "/v1/stations/line-4/inspections", *SUBMIT_ERRORS, errors.UnknownStation
)
BATCH_RESPONSES: Responses = {
    202: json_response(
        {
            "items": [
                {"index": 0, "status": 202, "inspection": examples.QUEUED, "problem": None},
                {
                    "index": 1,
                    "status": 400,
                    "inspection": None,
                    "problem": errors.EmptyImage.example_problem(f"{SUBMIT_PATH}:batch").model_dump(),
                },
            ]
        },
        description="The outcome of each image",
    ),
    **responses_for(
        f"{SUBMIT_PATH}:batch",
        errors.DigestMismatch,
        errors.MalformedForm,
        *PRODUCT_ERRORS,
        errors.BodyTooLarge,
        errors.InvalidFields,
    ),
}
INSPECTION_RESPONSES: Responses = {
    200: inspection_response("The inspection in its present state", examples.DONE, {}, unfit=examples.UNFIT),
    **responses_for(f"/v1/inspections/{ID}", errors.UnknownInspection, errors.QueueUnavailable),
}
ARTIFACT_RESPONSES: Responses = {
    200: {
        "description": "The picture, or the map",
        "content": {kind: {"schema": BINARY} for kind in IMAGE_TYPES},
    },
    202: {"description": "`reconstruction.png` will be drawn: ask again", "headers": RETRY_AFTER},
    304: {"description": "As it was: `If-None-Match` names its `ETag`"},
    **responses_for(f"/v1/inspections/{ID}/heatmap.png", errors.UnknownInspection, errors.UnknownArtifact, *OUTAGES),
}
REPLAY_RESPONSES: Responses = {
    200: inspection_response("Replayed before, and ended", examples.DONE | {"replay_of": OLD_ID}, LOCATION),
    202: inspection_response(
        "The new inspection: it waits or runs", examples.QUEUED | {"replay_of": OLD_ID}, LOCATION | RETRY_AFTER
    ),
    **responses_for(
        f"/v1/inspections/{OLD_ID}/replay",
        errors.UnknownInspection,
        errors.NotReplayable,
        errors.InvalidFields,
        errors.BacklogFull,
        errors.WaitTooLong,
        *OUTAGES,
    ),
}
REVIEW_RESPONSES: Responses = {
    200: json_response(
        examples.DONE | {"reviews": [examples.REVIEW]}, description="The inspection, with all its reviews"
    ),
    **responses_for(
        f"/v1/inspections/{ID}/review",
        errors.UnknownInspection,
        errors.NotReviewable,
        errors.ClaimLost,
        errors.InvalidFields,
        errors.QueueUnavailable,
    ),
}
WITHDRAWAL_RESPONSES: Responses = {
    200: json_response(
        examples.DONE | {"reviews": [examples.WITHDRAWN_REVIEW]}, description="The inspection, with all its reviews"
    ),
    **responses_for(
        f"/v1/inspections/{ID}/review",
        errors.UnknownInspection,
        errors.NothingToWithdraw,
        errors.InvalidFields,
        errors.QueueUnavailable,
    ),
}
NEXT_REVIEW_RESPONSES: Responses = {
    200: json_response(examples.REVIEW_TASK, description="The image, and the claim on it"),
    204: {"description": "Nothing waits that this person may have"},
    **responses_for("/v1/reviews/next", errors.InvalidFields, errors.TooManyClaims, errors.QueueUnavailable),
}
RENEWAL_RESPONSES: Responses = {
    200: json_response(examples.CLAIM_RENEWAL),
    **responses_for(
        f"/v1/reviews/claims/{examples.CLAIM}/renew", errors.ClaimLost, errors.InvalidFields, errors.QueueUnavailable
    ),
}
CLAIM_DELETE_RESPONSES: Responses = {
    204: {"description": "Given back, or ended before"},
    **responses_for(f"/v1/reviews/claims/{examples.CLAIM}", errors.InvalidFields, errors.QueueUnavailable),
}
SUMMARY_RESPONSES: Responses = {
    200: json_response(examples.REVIEW_SUMMARY),
    **responses_for("/v1/reviews/summary", errors.InvalidFields, errors.QueueUnavailable),
}
EXPORT_RESPONSES: Responses = {
    200: {"description": "A ZIP file with a data folder", "content": {"application/zip": {"schema": BINARY}}},
    **responses_for(
        "/v1/reviews/export.zip",
        errors.InvalidFields,
        errors.TooManyExports,
        errors.QueueUnavailable,
        errors.StorageUnavailable,
    ),
}
REVIEW_PLAN_RESPONSES: Responses = {
    200: json_response(examples.REVIEW_PLAN, headers=ETAG),
    **responses_for("/v1/products/bracket/review-plan", *PRODUCT_ERRORS, errors.QueueUnavailable),
}
REVIEW_PLAN_PUT_RESPONSES: Responses = {
    200: json_response(examples.REVIEW_PLAN, headers=ETAG),
    **responses_for(
        "/v1/products/bracket/review-plan",
        *PRODUCT_ERRORS,
        errors.PreconditionFailed,
        errors.InvalidFields,
        errors.QueueUnavailable,
    ),
}
HISTORY_RESPONSES: Responses = {
    200: json_response(
        {"inspections": [examples.DONE, examples.UNFIT], "next": "aDE6MTgwNjU1MjU4NjAwMDAwMA", "more": False},
        description="One page",
    ),
    **responses_for("/v1/inspections", errors.InvalidFields, errors.QueueUnavailable),
}
PART_RESPONSES: Responses = {
    200: json_response(examples.PART, description="The part, with the verdict of each of its views"),
    **responses_for("/v1/parts/SN-000123", errors.UnknownPart, errors.InvalidFields, errors.QueueUnavailable),
}
DISPOSITION_RESPONSES: Responses = {
    200: json_response(
        examples.PART | {"disposition": examples.DISPOSITION, "dispositions": [examples.DISPOSITION]},
        description="The part, with all that was decided about it",
    ),
    **responses_for(
        "/v1/parts/SN-000123/disposition", errors.UnknownPart, errors.InvalidFields, errors.QueueUnavailable
    ),
}
EVENTS_RESPONSES: Responses = {
    200: {
        "description": "Server-sent events, without end",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": f"id: 1795421731432-0\nevent: inspection.done\ndata: {json.dumps(examples.EVENT)}\n\n",
            }
        },
    },
    **responses_for("/v1/events", errors.InvalidFields, errors.TooManyStreams, errors.QueueUnavailable),
}
PRODUCTS_RESPONSES: Responses = {200: json_response({"products": [examples.PRODUCT]})}
PRODUCT_RESPONSES: Responses = {
    200: json_response(examples.PRODUCT, headers=ETAG),
    **responses_for("/v1/products/bracket", *PRODUCT_ERRORS),
}
ACTIVE_RESPONSES: Responses = {
    200: json_response(examples.ACTIVATION, headers=ETAG),
    **responses_for("/v1/products/bracket/active", errors.UnknownVersion, *CHANGE_ERRORS),
}
GATE_RESPONSES: Responses = {
    200: json_response(examples.GATE, headers=ETAG),
    **responses_for("/v1/products/bracket/gate", *CHANGE_ERRORS),
}
GATE_SHOWN_RESPONSES: Responses = {
    200: json_response(examples.GATE_DISTRIBUTION),
    **responses_for(
        "/v1/products/bracket/gate",
        errors.UnknownVersion,
        *PRODUCT_ERRORS,
        errors.InvalidFields,
        errors.QueueUnavailable,
    ),
}
GATE_LIMITS_RESPONSES: Responses = {
    200: json_response(examples.GATE_LIMITS_CHANGE, headers=ETAG),
    **responses_for("/v1/products/bracket/gate", errors.UnknownVersion, errors.QueueUnavailable, *CHANGE_ERRORS),
}
SCORES_RESPONSES: Responses = {
    200: json_response(examples.SCORES),
    **responses_for(
        "/v1/products/bracket/scores",
        errors.UnknownVersion,
        *PRODUCT_ERRORS,
        errors.InvalidFields,
        errors.QueueUnavailable,
    ),
}
CHANGES_RESPONSES: Responses = {
    200: json_response(examples.PRODUCT_CHANGES, headers=ETAG),
    **responses_for("/v1/products/bracket/changes", *PRODUCT_ERRORS, errors.StorageUnavailable),
}
REPORT_RESPONSES: Responses = {
    200: {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}},
    **responses_for(
        "/v1/products/bracket/versions/2/report", errors.UnknownVersion, errors.UnknownReport, *PRODUCT_ERRORS
    ),
}
_FIGURES = {
    "image_auroc": {"value": 0.97, "low": 0.95, "high": 0.985},
    **dict.fromkeys(("pixel_auroc", "pro", "found", "false_rejects")),
}
_EVALUATION = {
    "id": "3f9a0c52d1e84b77",
    "bundle": "5f" * 32,
    "data": {"name": "plant set, week 48", "fingerprint": "c0" * 32, "good": 400, "defect": 60},
    "figures": _FIGURES,
    "yardstick": _FIGURES,
    "minus_yardstick": None,
    "measured": {"at": "2026-11-27T14:20:00.000Z", "machine": "x86_64, Linux", "glad": "0.1.0", "command": ""},
    "by": "a.meier",
    "at": "2026-11-27T14:31:12.000Z",
    "note": "",
}
_EVALUATIONS = {"product": "bracket", "version": "2", "bundle": "5f" * 32, "evaluations": [_EVALUATION]}
EVALUATIONS_RESPONSES: Responses = {
    200: json_response(_EVALUATIONS),
    **responses_for("/v1/products/bracket/versions/2/evaluations", errors.UnknownVersion, *PRODUCT_ERRORS),
}
EVALUATION_RESPONSES: Responses = {
    201: json_response(_EVALUATION),
    **responses_for(
        "/v1/products/bracket/versions/2/evaluations",
        errors.UnknownVersion,
        *PRODUCT_ERRORS,
        errors.VersionUnusable,
        errors.InvalidFields,
        errors.StorageUnavailable,
    ),
}
EVALUATION_DELETE_RESPONSES: Responses = {
    204: {"description": "Removed"},
    **responses_for(
        "/v1/products/bracket/versions/2/evaluations/3f9a0c52d1e84b77",
        errors.UnknownVersion,
        errors.UnknownEvaluation,
        *PRODUCT_ERRORS,
        errors.VersionUnusable,
        errors.InvalidFields,
        errors.StorageUnavailable,
    ),
}
THRESHOLDS_RESPONSES: Responses = {
    200: json_response(examples.THRESHOLD_CHANGE, headers=ETAG),
    **responses_for("/v1/products/bracket/thresholds", errors.UnknownVersion, errors.QueueUnavailable, *CHANGE_ERRORS),
}
STATIONS_RESPONSES: Responses = {
    200: json_response({"stations": [examples.STATION]}),
    **responses_for("/v1/stations", errors.QueueUnavailable),
}
STATION_RESPONSES: Responses = {
    200: json_response(examples.STATION | examples.STATION_CHANGES),
    **responses_for("/v1/stations/line-3", errors.UnknownStation, errors.InvalidFields, errors.QueueUnavailable),
}
STATION_PUT_RESPONSES: Responses = {
    200: json_response(examples.STATION),
    **responses_for("/v1/stations/line-3", *PRODUCT_ERRORS, errors.InvalidFields, errors.QueueUnavailable),
}
STATION_DELETE_RESPONSES: Responses = {
    204: {"description": "Removed"},
    **responses_for("/v1/stations/line-3", errors.UnknownStation, errors.InvalidFields, errors.QueueUnavailable),
}
STATION_HOLD_RESPONSES: Responses = {
    200: json_response(examples.STATION),
    **responses_for("/v1/stations/line-3/hold", errors.UnknownStation, errors.InvalidFields, errors.QueueUnavailable),
}
LIMIT_SAMPLES_RESPONSES: Responses = {
    200: json_response(examples.LIMIT_SAMPLES),
    **responses_for(
        "/v1/stations/line-3/limit-samples", errors.UnknownStation, errors.InvalidFields, errors.QueueUnavailable
    ),
}
LIMIT_CHANGE_RESPONSES: Responses = {
    200: json_response(examples.LIMIT_SAMPLES),
    **responses_for(
        "/v1/stations/line-3/limit-samples",
        errors.UnknownStation,
        errors.LimitCheckConflict,
        errors.InvalidFields,
        errors.QueueUnavailable,
    ),
}
SESSION_RESPONSES: Responses = {
    200: json_response(examples.SESSION),
    **responses_for(
        "/v1/session", errors.Unauthorized, errors.ForeignPage, errors.RateExceeded, errors.QueueUnavailable
    ),
}
SIGN_IN_RESPONSES: Responses = {
    200: json_response(examples.SESSION, description="Signed in: the cookie is set"),
    **responses_for(
        "/v1/session",
        errors.Unauthorized,
        errors.ForeignPage,
        errors.InvalidFields,
        errors.RateExceeded,
        errors.QueueUnavailable,
    ),
}
SIGN_OUT_RESPONSES: Responses = {
    204: {"description": "Signed out"},
    **responses_for("/v1/session", errors.ForeignPage, errors.CsrfTokenMissing, errors.QueueUnavailable),
}
STATISTICS_RESPONSES: Responses = {
    200: {
        "description": "The counts; or, for `Accept: text/csv`, the parts",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Statistics"},
                "example": examples.STATISTICS,
            },
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    **responses_for("/v1/statistics", errors.InvalidFields, errors.QueueUnavailable),
}
SHIFTS_RESPONSES: Responses = {
    200: json_response(examples.SHIFTS),
    **responses_for("/v1/shifts", errors.InvalidFields, errors.QueueUnavailable),
}
LIVE_RESPONSES: Responses = {200: json_response({"status": "alive"})}
READY_RESPONSES: Responses = {
    200: json_response({"status": "ready", "checks": examples.CHECKS}),
    503: json_response(
        {"status": "unavailable", "checks": examples.CHECKS | {"redis": examples.REDIS_AWAY}},
        schema="Readiness",
        description="An image posted now would be refused",
        headers=RETRY_AFTER,
    ),
}
METRICS_RESPONSES: Responses = {200: {"description": "Prometheus text format", "content": {"text/plain": {}}}}

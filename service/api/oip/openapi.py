"""What the OpenAPI document says of `/v2` beyond types: bodies, examples, every answer."""

from __future__ import annotations

from typing import Any

from service.api.openapi.bodies import BINARY
from service.api.openapi.examples import FULL, ID, LATE, NO_PRODUCT, QUEUE_AWAY, SLOW, STORAGE_AWAY, UNUSABLE
from service.api.openapi.responses import RETRY_AFTER, Responses, problems, shown
from service.errors import (
    BodyTooLarge,
    EmptyImage,
    InspectionFailed,
    InspectionUnfinished,
    InvalidFields,
    KeyReused,
    MalformedInference,
    TooManyPixels,
    UndecodableImage,
    UnknownArtifact,
    UnknownFormat,
    VersionNotActive,
)

_PATH = "/v2/models/bracket/infer"
_NOT_ACTIVE = VersionNotActive(
    "version '1' of 'bracket' is not active; '2' is: leave the version out, or activate that one"
)
_REQUEST: dict[str, Any] = {
    "id": "line-3-000123",
    "parameters": {"serial": "SN-000123", "station": "line-3"},
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["iVBORw0KGgoAAAANSUhEUg…"]}],
    "outputs": [{"name": "verdict"}, {"name": "score"}, {"name": "inspection_id"}],
}
_ANSWER: dict[str, Any] = {
    "model_name": "bracket",
    "model_version": "1",
    "id": "line-3-000123",
    "outputs": [
        {"name": "verdict", "datatype": "BYTES", "shape": [1], "data": ["fail"]},
        {"name": "score", "datatype": "FP64", "shape": [1], "data": [0.54]},
        {"name": "inspection_id", "datatype": "BYTES", "shape": [1], "data": [ID]},
    ],
}
_HEADER_LENGTH = {
    "Inference-Header-Content-Length": {
        "description": "bytes of JSON before raw tensors, if there are any",
        "schema": {"type": "integer"},
    }
}
_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "enum": ["image", "pixels"]},
        "datatype": {"type": "string", "enum": ["BYTES", "UINT8"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
}
_REQUEST_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 256},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
}

SERVER: Responses = {200: shown({"name": "glad-inspect", "version": "0.1.0", "extensions": ["binary_tensor_data"]})}
LIVE: Responses = {200: shown({"live": True})}
READY: Responses = {
    200: shown({"ready": True}),
    503: shown({"ready": False}, schema="ServerReady")
    | {"description": "An image sent now would be refused", "headers": RETRY_AFTER},
}
METADATA: Responses = {
    200: shown(
        {
            "name": "bracket",
            "versions": ["1"],
            "platform": "glad",
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [-1]},
                {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, 3]},
            ],
            "outputs": [
                {"name": "verdict", "datatype": "BYTES", "shape": [-1]},
                {"name": "score", "datatype": "FP64", "shape": [-1]},
                {"name": "map", "datatype": "FP32", "shape": [-1, -1]},
            ],
        }
    ),
    **problems("/v2/models/brackt", NO_PRODUCT, UNUSABLE, _NOT_ACTIVE),
}
MODEL_READY: Responses = {
    200: shown({"name": "bracket", "ready": True}),
    **problems("/v2/models/brackt/ready", NO_PRODUCT, UNUSABLE, _NOT_ACTIVE),
}
INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The protocol's request: JSON, or JSON and raw tensors behind it. Inputs: `image` (BYTES, 1 to "
        "16 image files; base64 in JSON, raw otherwise) or `pixels` (UINT8, [height, width, 3]). Parameters: the "
        "fields of a submission. Outputs: verdict, score, calibrated_score, denoising_step, regions, inspection_id, "
        "quality; map on request. For an image that is unfit for inspection the scores are -1, the map is empty, and "
        "quality says why.",
        "content": {
            "application/json": {"schema": _REQUEST_SCHEMA, "example": _REQUEST},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}
INFER: Responses = {
    200: {
        "description": "The outputs",
        "headers": _HEADER_LENGTH,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": _ANSWER},
            "application/octet-stream": {"schema": BINARY},
        },
    },
    **problems(
        _PATH,
        MalformedInference("input 'image' has shape [0]: send 1 to 16 images in a request"),
        EmptyImage("the image has 0 bytes: send the file's content"),
        UndecodableImage("JPEG image of 20480 bytes does not decode (image file is truncated): send it again"),
        NO_PRODUCT,
        UNUSABLE,
        _NOT_ACTIVE,
        UnknownArtifact(f"inspection {ID} has no map: ask without the output 'map'"),
        KeyReused(f"Idempotency-Key 'oip-5f…' was used for inspection {ID} with another image or other fields"),
        BodyTooLarge("the body has 90000000 bytes; at most 67174400 bytes are allowed: send a smaller image"),
        UnknownFormat("the content begins with 25 50 44 46: send JPEG, PNG, BMP, TIFF or WebP"),
        InvalidFields("captured_at: Input should have timezone info"),
        TooManyPixels("image is 20000x20000 = 400000000 pixels; the limit is 64000000: crop or downscale it"),
        FULL,
        SLOW,
        LATE,
        InspectionFailed(f"inspection {ID} is failed: model_error: a model call failed"),
        QUEUE_AWAY,
        STORAGE_AWAY,
        InspectionUnfinished(
            f"inspection {ID} is running after 50 s; it goes on: GET /v1/inspections/{ID} asks for it, or repeat "
            "the request with the same id to wait on",
            retry_after_s=1,
        ),
    ),
}

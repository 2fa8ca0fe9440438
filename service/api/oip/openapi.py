"""The OpenAPI document of `/v2`: schemas of answers, request bodies, examples and errors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.api.oip.tensors import TensorMetadata
from service.api.openapi.bodies import BINARY
from service.api.openapi.examples import ID
from service.api.openapi.operations import CAPACITY_ERRORS, IMAGE_ERRORS, OUTAGES, PRODUCT_ERRORS
from service.api.openapi.responses import RETRY_AFTER, Responses, json_response, responses_for
from service.errors import (
    InspectionFailed,
    InspectionUnfinished,
    MalformedInference,
    UnknownArtifact,
    VersionNotActive,
)


class ServerMetadata(BaseModel):
    """The server, and what it supports."""

    name: Literal["glad-inspect"] = "glad-inspect"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """Readiness: an image sent now would be accepted and kept."""

    ready: bool


class ModelReady(BaseModel):
    """The product has a usable bundle."""

    name: str = Field(examples=["bracket"])
    ready: bool = True


class ModelMetadata(BaseModel):
    """The input and output tensors of a model."""

    name: str = Field(examples=["bracket"])
    versions: list[str] = Field(description="the active one", examples=[["1"]])
    platform: Literal["glad"] = "glad"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


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

SERVER: Responses = {
    200: json_response({"name": "glad-inspect", "version": "0.1.0", "extensions": ["binary_tensor_data"]})
}
LIVE: Responses = {200: json_response({"live": True})}
READY: Responses = {
    200: json_response({"ready": True}),
    503: json_response(
        {"ready": False},
        schema="ServerReady",
        description="An image sent now would be refused",
        headers=RETRY_AFTER,
    ),
}
METADATA: Responses = {
    200: json_response(
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
    **responses_for("/v2/models/bracket", *PRODUCT_ERRORS, VersionNotActive),
}
MODEL_READY: Responses = {
    200: json_response({"name": "bracket", "ready": True}),
    **responses_for("/v2/models/bracket/ready", *PRODUCT_ERRORS, VersionNotActive),
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
    **responses_for(
        "/v2/models/bracket/infer",
        *IMAGE_ERRORS,
        *PRODUCT_ERRORS,
        *CAPACITY_ERRORS,
        *OUTAGES,
        MalformedInference,
        VersionNotActive,
        UnknownArtifact,
        InspectionFailed,
        InspectionUnfinished,
    ),
}

"""Request bodies of the OpenAPI document: images, with fields as query parameters or in a form."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

IMAGE_TYPES = ("image/jpeg", "image/png", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")
BINARY = {"type": "string", "format": "binary"}


def submit_body(fields: type[BaseModel]) -> dict[str, Any]:
    """Return the request of a submission: the fields are query parameters of a raw body, or parts of a form."""
    properties = fields.model_json_schema()["properties"]
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.get("description", ""),
            "schema": _text_schema(name, schema),
        }
        for name, schema in properties.items()
    ]
    form = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {"image": BINARY | {"description": "the image file"}}
        | {name: _text_schema(name, schema) for name, schema in properties.items()},
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
    """Return the request of a batch: a form with several images, fields for all of them, and `items`."""
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
        | {name: _text_schema(name, schema) for name, schema in properties.items()},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def _text_schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field in a URL or form: text, without null."""
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

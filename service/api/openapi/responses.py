"""Answers in the OpenAPI document: one per status, with an example per type."""

from __future__ import annotations

from typing import Any

from service.contract import Result
from service.errors import ServiceError, error_body

Responses = dict[int | str, dict[str, Any]]

RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
LOCATION = {"Location": {"description": "the inspection", "schema": {"type": "string"}}}
ETAG = {"ETag": {"description": "the product's revision, in quotes", "schema": {"type": "string"}}}
APPLIED = {"Preference-Applied": {"description": "`wait=N`, if asked for", "schema": {"type": "string"}}}


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
            response["headers"] = RETRY_AFTER
    return responses


def shown(example: dict[str, Any], *, schema: str | None = None) -> dict[str, Any]:
    """An answer in JSON with its example; `schema`: its name, where the call's own type does not say it."""
    named = {} if schema is None else {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"content": {"application/json": {**named, "example": example}}}


def inspection(
    description: str, example: dict[str, Any], headers: dict[str, Any], **others: dict[str, Any]
) -> dict[str, Any]:
    """An answer that carries an inspection; `others`: further examples by name."""
    examples = {"inspection": example, **others}
    named = {name: {"summary": name, "value": value} for name, value in examples.items()}
    return {
        "model": Result,
        "description": description,
        "content": {"application/json": {"examples": named} if others else {"example": example}},
        "headers": headers,
    }

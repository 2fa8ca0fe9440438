"""Responses of the OpenAPI document: errors from their classes, and successful ones from an example."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from service.api.problems import error_body
from service.contract import Result
from service.errors import ServiceError

Responses = dict[int | str, dict[str, Any]]
"""Status -> response, as FastAPI's `responses=` takes it."""

RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
LOCATION = {"Location": {"description": "the inspection", "schema": {"type": "string"}}}
ETAG = {"ETag": {"description": "the revision of what is shown, in quotes", "schema": {"type": "string"}}}
APPLIED = {"Preference-Applied": {"description": "`wait=N`, if asked for", "schema": {"type": "string"}}}
CHALLENGE = {"WWW-Authenticate": {"description": "RFC 6750", "schema": {"type": "string"}}}


def responses_for(instance: str, *errors: type[ServiceError]) -> Responses:
    """Return one response per status, with an example of each error.

    Args:
        instance: the path that the examples name. Under `/v2` they have the Open Inference Protocol's form.
        errors: the errors that the operation answers with.
    """
    responses: Responses = {}
    for error in errors:
        add_error(responses, error, instance)
    return responses


def add_error(responses: dict[Any, dict[str, Any]], error: type[ServiceError], instance: str) -> None:
    """Add an error to the responses of an operation, beside other errors of the same status."""
    response = responses.setdefault(str(int(error.status)), {"description": error.title, "content": {}})
    if error.title not in response["description"]:
        response["description"] += f", or: {error.title}"
    if error.example_retry_after_s is not None:
        response["headers"] = response.get("headers", {}) | RETRY_AFTER
    if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        response["headers"] = response.get("headers", {}) | CHALLENGE
    media_type, body = error_body(error.example_problem(instance))
    content = response["content"].setdefault(media_type, {"schema": _reference(type(body).__name__), "examples": {}})
    content["examples"][error.slug] = {"summary": error.title, "value": body.model_dump(exclude_none=True)}


def json_response(example: dict[str, Any], *, schema: str | None = None, **others: Any) -> dict[str, Any]:
    """Return a JSON response with its example.

    Args:
        example: the body.
        schema: the schema's name, for a response that is not of the path function's own type.
        others: further parts of the response, such as `description` and `headers`.
    """
    named = {} if schema is None else {"schema": _reference(schema)}
    return others | {"content": {"application/json": {**named, "example": example}}}


def inspection_response(
    description: str, example: dict[str, Any], headers: dict[str, Any], **others: dict[str, Any]
) -> dict[str, Any]:
    """Return a response that carries an inspection; `others` are further examples by name."""
    examples = {"inspection": example, **others}
    named = {name: {"summary": name, "value": value} for name, value in examples.items()}
    return {
        "model": Result,
        "description": description,
        "content": {"application/json": {"examples": named} if others else {"example": example}},
        "headers": headers,
    }


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}

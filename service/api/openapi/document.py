"""The OpenAPI document: FastAPI's, put right where it says what this service does not send."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from service.api.openapi.security import describe_security
from service.errors import PROBLEM_JSON

SCHEMA_NAMES = {
    "glad__quality_gate__limits__Check": "glad__gate__Check",
    "service__api__routes__health__Check": "service__api__health__Check",
}
"""The name that pydantic makes from a class and its module -> the name that generated clients know."""


def document_of(app: FastAPI, calls: Iterable[BaseRoute]) -> dict[str, Any]:
    """The application's document, made once: every error under its true media type, examples with their nulls.
    `calls`: the routes whose examples those are."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            license_info=app.license_info,
        )
        _restore_examples(document, calls)
        for path in document["paths"].values():
            for operation in path.values():
                _correct_errors(operation["responses"])
        describe_security(document)
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        app.openapi_schema = _with_known_names(document)
    return app.openapi_schema


def _restore_examples(document: dict[str, Any], calls: Iterable[BaseRoute]) -> None:
    """FastAPI leaves every null out of its document, also out of the examples, where it says something."""
    for route in calls:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                responses = document["paths"][route.path_format][method.lower()]["responses"]
                for status, given in route.responses.items():
                    _restore(responses[str(status)], given)


def _restore(response: dict[str, Any], given: dict[str, Any]) -> None:
    for media, content in given.get("content", {}).items():
        told = {name: content[name] for name in ("example", "examples") if name in content}
        response["content"][media] |= told


def _correct_errors(responses: dict[str, Any]) -> None:
    for status, response in list(responses.items()):
        content = response.get("content", {})
        if PROBLEM_JSON in content and "application/json" in content:
            content[PROBLEM_JSON]["schema"] = content.pop("application/json")["schema"]
        elif "HTTPValidationError" in str(content):  # FastAPI's own form of it, which this service never sends
            del responses[status]


def _with_known_names(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the schemas' names of the contract, in their definitions and in every reference."""
    text = json.dumps(document)
    for made, known in SCHEMA_NAMES.items():
        text = text.replace(f'"#/components/schemas/{made}"', f'"#/components/schemas/{known}"')
        text = text.replace(f'"{made}":', f'"{known}":')
    renamed: dict[str, Any] = json.loads(text)
    return renamed

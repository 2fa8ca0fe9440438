"""The OpenAPI document: FastAPI's, with errors, scopes and schema names as this service has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from service.api.openapi.responses import add_error
from service.api.problems import InferenceError
from service.auth.scopes import PUBLIC_PATHS, required_scope
from service.auth.sessions import SAFE_METHODS
from service.errors import (
    BodyTooLarge,
    BodyTooSlow,
    CsrfTokenMissing,
    Forbidden,
    ForeignPage,
    Problem,
    QueueUnavailable,
    RateExceeded,
    ServiceError,
    TooManyUploads,
    Unauthorized,
)

SCHEMA_NAMES = {
    "QualityCheck": "glad__gate__Check",
    "InspectionPage": "HistoryAnswer",
    "HealthCheck": "service__api__health__Check",
}
"""The name that pydantic makes from a class -> the name that generated clients know."""
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key: `Authorization: Bearer glad_…`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key, in its own header"},
}
AUTHENTICATION_ERRORS: tuple[type[ServiceError], ...] = (
    Unauthorized,
    Forbidden,
    ForeignPage,
    RateExceeded,
    QueueUnavailable,
)
BODY_ERRORS: tuple[type[ServiceError], ...] = (BodyTooSlow, BodyTooLarge, TooManyUploads)


def build_document(app: FastAPI, routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the application's OpenAPI document; it is built once.

    Args:
        app: the application.
        routes: the routes whose responses have examples.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            license_info=app.license_info,
        )
        _restore_examples(document, routes)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _remove_validation_error(operation["responses"])
                _describe_access(operation, method.upper(), path)
        _complete_components(document["components"])
        app.openapi_schema = _with_known_names(document)
    return app.openapi_schema


def _restore_examples(document: dict[str, Any], routes: Iterable[BaseRoute]) -> None:
    # FastAPI leaves every null out of its document, also out of examples, where it means something.
    for route in routes:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                responses = document["paths"][route.path_format][method.lower()]["responses"]
                for status, response in route.responses.items():
                    for media_type, content in response.get("content", {}).items():
                        examples = {name: content[name] for name in ("example", "examples") if name in content}
                        responses[str(status)]["content"][media_type] |= examples


def _remove_validation_error(responses: dict[str, Any]) -> None:
    # FastAPI adds its own form of 422 to every call with parameters. This service never sends it.
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]


def _describe_access(operation: dict[str, Any], method: str, path: str) -> None:
    """Add the scope that the call needs, and the errors of authentication and of body limits."""
    if path not in PUBLIC_PATHS:
        scope = required_scope(method, path).value
        operation["security"] = [{name: [scope]} for name in SECURITY_SCHEMES]
        operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`.".lstrip()
        for error in AUTHENTICATION_ERRORS:
            add_error(operation["responses"], error, path)
        if method not in SAFE_METHODS:
            add_error(operation["responses"], CsrfTokenMissing, path)
    if "requestBody" in operation:
        for error in BODY_ERRORS:
            add_error(operation["responses"], error, path)


def _complete_components(components: dict[str, Any]) -> None:
    """Add the schemas of errors and the security schemes; remove FastAPI's schemas that no response uses."""
    _, errors = models_json_schema(
        [(Problem, "serialization"), (InferenceError, "serialization")], ref_template="#/components/schemas/{model}"
    )
    schemas = components["schemas"] | jsonable_encoder(errors["$defs"], exclude_none=True)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = SECURITY_SCHEMES


def _with_known_names(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the schemas' names of the contract, in their definitions and in every reference."""
    text = json.dumps(document)
    for generated, known in SCHEMA_NAMES.items():
        text = text.replace(f'"#/components/schemas/{generated}"', f'"#/components/schemas/{known}"')
        text = text.replace(f'"{generated}":', f'"{known}":')
    renamed: dict[str, Any] = json.loads(text)
    return renamed

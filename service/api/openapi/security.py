"""What the OpenAPI document says of keys: the schemes, every call's scope, and the answers of the door."""

from __future__ import annotations

from typing import Any

from service.api.openapi.responses import RETRY_AFTER
from service.auth.scopes import PUBLIC_PATHS, required_scope
from service.errors import (
    BodyTooLarge,
    BodyTooSlow,
    Forbidden,
    ForeignPage,
    QueueUnavailable,
    RateExceeded,
    ServiceError,
    TooManyUploads,
    Unauthorized,
    error_body,
)

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key: `Authorization: Bearer glad_…`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key, in its own header"},
}
_REFUSALS: tuple[ServiceError, ...] = (
    Unauthorized("send an API key as `Authorization: Bearer glad_…`"),
    Forbidden("key 'camera-1' has the scope submit; GET /v1/products takes 'read'", scope="read"),
    ForeignPage("a page of https://example.com called; without API keys only pages of this service may"),
    RateExceeded("too many calls from 5f0c2a9b1e77: 50 a second and 20 at once are allowed", retry_after_s=1),
    QueueUnavailable("the API keys cannot be read now: try again later", retry_after_s=2),
)
_OF_BODIES: tuple[ServiceError, ...] = (
    BodyTooSlow("the body kept the service waiting for 20 s: send it faster, or raise GLAD_BODY_TIMEOUT_S"),
    BodyTooLarge("the body has 300000 bytes; at most 262144 bytes are allowed: this call takes a short one"),
    TooManyUploads(
        "536000000 bytes of images are being taken now; the limit is 536870912: send it again later", retry_after_s=2
    ),
)
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "RFC 6750", "schema": {"type": "string"}}},
    403: {"WWW-Authenticate": {"description": "RFC 6750", "schema": {"type": "string"}}},
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}


def describe_security(document: dict[str, Any]) -> None:
    """Completes a finished document: whatever routes there are, each says what it takes."""
    document["components"]["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path not in PUBLIC_PATHS:
                _describe_scope(operation, required_scope(method.upper(), path).value)
                for error in _REFUSALS:
                    _describe_refusal(operation, error, path)
            if "requestBody" in operation:
                for error in _OF_BODIES:
                    _describe_refusal(operation, error, path)


def _describe_scope(operation: dict[str, Any], scope: str) -> None:
    operation["security"] = [{name: [scope]} for name in SCHEMES]
    operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`.".lstrip()


def _describe_refusal(operation: dict[str, Any], error: ServiceError, path: str) -> None:
    status = str(int(error.status))
    response = operation["responses"].setdefault(status, {"description": error.title, "content": {}})
    if error.title not in response["description"]:
        response["description"] += f", or: {error.title}"
    if headers := _HEADERS.get(int(error.status)):
        response.setdefault("headers", {}).update(headers)
    media_type, body = error_body(error.problem(path))
    content = response.setdefault("content", {}).setdefault(media_type, {})
    content.setdefault("schema", {"$ref": f"#/components/schemas/{type(body).__name__}"})
    example = {"summary": error.title, "value": body.model_dump(exclude_none=True)}
    content.setdefault("examples", {}).setdefault(error.slug, example)  # the call's own says more

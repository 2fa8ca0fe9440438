"""What a key may do, and which call asks for what. One table, so that it can be read at a glance."""

from __future__ import annotations

import re
from enum import StrEnum


class Scope(StrEnum):
    """A right that a key carries."""

    SUBMIT = "submit"
    """Send images: cameras."""
    READ = "read"
    """See inspections, pictures, products and metrics: MES, dashboards."""
    REVIEW = "review"
    """Give an operator's judgement."""
    ADMIN = "admin"
    """Change what decides; includes every other right."""


NEEDED: dict[tuple[str, str], Scope] = {
    ("POST", "/v1/products/{product}/inspections"): Scope.SUBMIT,
    ("POST", "/v1/products/{product}/inspections:batch"): Scope.SUBMIT,
    ("POST", "/v1/stations/{station}/inspections"): Scope.SUBMIT,
    ("GET", "/v1/stations"): Scope.READ,
    ("GET", "/v1/stations/{station}"): Scope.READ,
    ("PUT", "/v1/stations/{station}"): Scope.ADMIN,
    ("DELETE", "/v1/stations/{station}"): Scope.ADMIN,
    ("GET", "/v1/inspections/{id}"): Scope.READ,
    ("GET", "/v1/inspections/{id}/{artifact}"): Scope.READ,
    ("GET", "/v1/inspections"): Scope.READ,
    ("POST", "/v1/inspections/{id}/review"): Scope.REVIEW,
    ("POST", "/v1/inspections/{id}/replay"): Scope.ADMIN,
    ("GET", "/v1/events"): Scope.READ,
    ("GET", "/v1/parts/{serial}"): Scope.READ,
    ("GET", "/v1/products"): Scope.READ,
    ("GET", "/v1/products/{product}"): Scope.READ,
    ("PUT", "/v1/products/{product}/active"): Scope.ADMIN,
    ("PATCH", "/v1/products/{product}/thresholds"): Scope.ADMIN,
    ("PUT", "/v1/products/{product}/gate"): Scope.ADMIN,
    ("GET", "/v2"): Scope.READ,
    ("GET", "/v2/models/{model}"): Scope.READ,
    ("GET", "/v2/models/{model}/ready"): Scope.READ,
    ("POST", "/v2/models/{model}/infer"): Scope.SUBMIT,
    ("GET", "/v2/models/{model}/versions/{version}"): Scope.READ,
    ("GET", "/v2/models/{model}/versions/{version}/ready"): Scope.READ,
    ("POST", "/v2/models/{model}/versions/{version}/infer"): Scope.SUBMIT,
    ("GET", "/metrics"): Scope.READ,
}
"""(method, path as the OpenAPI document writes it) -> the scope that it takes."""

_PROBES = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}
_DOCUMENTS = {"/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/favicon.png", "/openapi.json"}
OPEN = frozenset(_PROBES | _DOCUMENTS)
"""Paths that ask for no key: probes, and the description of the interface."""


def needed_scope(method: str, path: str) -> Scope:
    """The scope that a call takes. One that the table does not name takes `admin`: a forgotten line lets nobody in."""
    return NEEDED.get((method, path), Scope.ADMIN)


_SUBMISSIONS = tuple(
    re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for (_, path), scope in NEEDED.items() if scope is Scope.SUBMIT
)


def is_submission(method: str, path: str) -> bool:
    """Whether a request, by its path as it came, brings images."""
    return method == "POST" and any(one.fullmatch(path) for one in _SUBMISSIONS)

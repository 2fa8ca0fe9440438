"""The scopes of API keys, the caller that has them, and the table of which call needs which scope."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """A right that an API key has."""

    SUBMIT = "submit"
    """Send images: cameras."""
    READ = "read"
    """See inspections, pictures, products and metrics: MES, dashboards."""
    REVIEW = "review"
    """Record an operator's decision."""
    ADMIN = "admin"
    """Change what verdicts depend on; includes every other scope."""


@dataclass(frozen=True)
class Caller:
    """The owner of an API key; or anybody, where no key is needed."""

    id: str
    """The key's id; "" without a key."""
    name: str
    scopes: frozenset[Scope]
    person: str | None = None
    """Who signed in on the page; None for a call without a session."""
    session: str = ""
    """The session's digest; "" without one."""

    @property
    def key_name(self) -> str | None:
        """The key's name; None without a key."""
        return self.name if self.id else None

    def author(self, given: str | None) -> str:
        """Return who makes a change: the person who signed in, else whom the call names, else the key's name."""
        return self.person or given or self.name

    def has_scope(self, scope: Scope) -> bool:
        """Return whether the caller has this scope; `admin` includes every other one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANONYMOUS = Caller("", "anybody", frozenset(Scope))
"""The caller where no key is needed: it has every scope."""

REQUIRED_SCOPES: dict[tuple[str, str], Scope] = {
    ("POST", "/v1/products/{product}/inspections"): Scope.SUBMIT,
    ("POST", "/v1/products/{product}/inspections:batch"): Scope.SUBMIT,
    ("POST", "/v1/stations/{station}/inspections"): Scope.SUBMIT,
    ("GET", "/v1/stations"): Scope.READ,
    ("GET", "/v1/stations/{station}"): Scope.READ,
    ("PUT", "/v1/stations/{station}"): Scope.ADMIN,
    ("DELETE", "/v1/stations/{station}"): Scope.ADMIN,
    ("PUT", "/v1/stations/{station}/hold"): Scope.REVIEW,
    ("DELETE", "/v1/stations/{station}/hold"): Scope.REVIEW,
    ("GET", "/v1/stations/{station}/limit-samples"): Scope.READ,
    ("PUT", "/v1/stations/{station}/limit-samples"): Scope.ADMIN,
    ("POST", "/v1/stations/{station}/limit-samples/check"): Scope.REVIEW,
    ("DELETE", "/v1/stations/{station}/limit-samples/check"): Scope.REVIEW,
    ("GET", "/v1/inspections/{id}"): Scope.READ,
    ("GET", "/v1/inspections/{id}/{artifact}"): Scope.READ,
    ("GET", "/v1/inspections"): Scope.READ,
    ("POST", "/v1/inspections/{id}/review"): Scope.REVIEW,
    ("DELETE", "/v1/inspections/{id}/review"): Scope.REVIEW,
    ("POST", "/v1/reviews/next"): Scope.REVIEW,
    ("POST", "/v1/reviews/claims/{claim}/renew"): Scope.REVIEW,
    ("DELETE", "/v1/reviews/claims/{claim}"): Scope.REVIEW,
    ("GET", "/v1/reviews/summary"): Scope.READ,
    ("GET", "/v1/reviews/export.zip"): Scope.READ,
    ("GET", "/v1/products/{product}/review-plan"): Scope.READ,
    ("PUT", "/v1/products/{product}/review-plan"): Scope.ADMIN,
    ("PUT", "/v1/parts/{serial}/disposition"): Scope.REVIEW,
    ("POST", "/v1/inspections/{id}/replay"): Scope.ADMIN,
    ("GET", "/v1/events"): Scope.READ,
    ("GET", "/v1/parts/{serial}"): Scope.READ,
    ("GET", "/v1/statistics"): Scope.READ,
    ("GET", "/v1/shifts"): Scope.READ,
    ("GET", "/v1/products"): Scope.READ,
    ("GET", "/v1/products/{product}"): Scope.READ,
    ("PUT", "/v1/products/{product}/active"): Scope.ADMIN,
    ("PATCH", "/v1/products/{product}/thresholds"): Scope.ADMIN,
    ("PUT", "/v1/products/{product}/gate"): Scope.ADMIN,
    ("GET", "/v1/products/{product}/gate"): Scope.READ,
    ("PATCH", "/v1/products/{product}/gate"): Scope.ADMIN,
    ("GET", "/v1/products/{product}/scores"): Scope.READ,
    ("GET", "/v1/products/{product}/changes"): Scope.READ,
    ("GET", "/v1/products/{product}/versions/{version}/report"): Scope.READ,
    ("GET", "/v1/products/{product}/versions/{version}/evaluations"): Scope.READ,
    ("POST", "/v1/products/{product}/versions/{version}/evaluations"): Scope.ADMIN,
    ("DELETE", "/v1/products/{product}/versions/{version}/evaluations/{evaluation}"): Scope.ADMIN,
    ("GET", "/v2"): Scope.READ,
    ("GET", "/v2/models/{model}"): Scope.READ,
    ("GET", "/v2/models/{model}/ready"): Scope.READ,
    ("POST", "/v2/models/{model}/infer"): Scope.SUBMIT,
    ("GET", "/v2/models/{model}/versions/{version}"): Scope.READ,
    ("GET", "/v2/models/{model}/versions/{version}/ready"): Scope.READ,
    ("POST", "/v2/models/{model}/versions/{version}/infer"): Scope.SUBMIT,
    ("GET", "/metrics"): Scope.READ,
}
"""(method, path template of the OpenAPI document) -> the scope that the call needs."""

_PROBES = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}
_DOCUMENTS = {"/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/favicon.png", "/openapi.json"}
PUBLIC_PATHS = frozenset(_PROBES | _DOCUMENTS | {"/v1/session"})
"""Paths that need no key: probes, the description of the API, and signing in."""


def required_scope(method: str, path: str) -> Scope:
    """Return the scope that a call needs. One that is missing from the table needs `admin`: forgetting a line in the
    table never opens a call."""
    return REQUIRED_SCOPES.get((method, path), Scope.ADMIN)


def takes_images(method: str, path: str) -> bool:
    """Return whether the body of a call holds images, by its method and its path template."""
    return REQUIRED_SCOPES.get((method, path)) is Scope.SUBMIT


_SUBMISSIONS = tuple(
    re.compile(re.sub(r"\{\w+\}", ".+", path)) for (_, path), scope in REQUIRED_SCOPES.items() if scope is Scope.SUBMIT
)


def is_submission(method: str, path: str) -> bool:
    """Return whether a request submits images, by its method and its path as it came."""
    return method == "POST" and any(pattern.fullmatch(path) for pattern in _SUBMISSIONS)

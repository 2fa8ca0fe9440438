"""Who calls may not, or calls too often."""

from __future__ import annotations

from http import HTTPStatus

from service.errors.base import ServiceError


class Unauthorized(ServiceError):
    """No API key, or none that is in use."""

    status, slug, title = HTTPStatus.UNAUTHORIZED, "unauthorized", "API key needed"

    @property
    def headers(self) -> dict[str, str]:
        """RFC 6750: which scheme to use."""
        return {"WWW-Authenticate": 'Bearer realm="glad"'}


class Forbidden(ServiceError):
    """A key without the scope that the call takes."""

    status, slug, title = HTTPStatus.FORBIDDEN, "forbidden", "Key lacks a scope"

    def __init__(self, detail: str, *, scope: str) -> None:
        super().__init__(detail)
        self.scope = scope

    @property
    def headers(self) -> dict[str, str]:
        """RFC 6750: which scope is missing."""
        return {"WWW-Authenticate": f'Bearer realm="glad", error="insufficient_scope", scope="{self.scope}"'}


class ForeignPage(ServiceError):
    """Another site's page in a browser, or a name that is not this machine's, where no key is needed."""

    status, slug, title = HTTPStatus.FORBIDDEN, "foreign-page", "Page of another site"


class RateExceeded(ServiceError):
    """Too many calls of one key or address."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "rate-exceeded", "Too many requests"


class TooManyStreams(ServiceError):
    """As many clients follow the events as may."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "too-many-event-streams", "Too many event streams"

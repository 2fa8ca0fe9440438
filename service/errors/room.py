"""There is no room now, or what is needed is away: come back later."""

from __future__ import annotations

from http import HTTPStatus

from service.errors.base import ServiceError


class BacklogFull(ServiceError):
    """Come back later."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "backlog-full", "Backlog full"


class WaitTooLong(ServiceError):
    """By the measured pace it would wait longer than is allowed."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "wait-too-long", "Wait too long"


class DeadlineUnreachable(ServiceError):
    """By the measured pace its deadline would pass before its turn."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "deadline-unreachable", "Deadline cannot be met"


class TooManyUploads(ServiceError):
    """More bytes at a time than the process may hold."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "too-many-uploads", "Too many uploads at a time"


class QueueUnavailable(ServiceError):
    """Redis is away, or refuses."""

    status, slug, title = HTTPStatus.SERVICE_UNAVAILABLE, "queue-unavailable", "Queue unavailable"


class StorageUnavailable(ServiceError):
    """The artifact store is away, full or read-only."""

    status, slug, title = HTTPStatus.SERVICE_UNAVAILABLE, "storage-unavailable", "Storage unavailable"

"""An inspection, or what belongs to one, is not there or not fit for what was asked."""

from __future__ import annotations

from http import HTTPStatus

from service.errors.base import ServiceError


class UnknownInspection(ServiceError):
    """Never accepted, or kept long enough."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-inspection", "Unknown inspection"


class UnknownArtifact(ServiceError):
    """No such picture, or none yet."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-artifact", "Unknown artifact"


class UnknownStation(ServiceError):
    """The station is not set."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-station", "Unknown station"


class UnknownPart(ServiceError):
    """No image with this serial is kept."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-part", "Unknown part"


class NotReviewable(ServiceError):
    """Not ended yet, or reviewed too often."""

    status, slug, title = HTTPStatus.CONFLICT, "not-reviewable", "Inspection cannot be reviewed"


class NotReplayable(ServiceError):
    """It has a verdict, cannot be read, or its image is gone."""

    status, slug, title = HTTPStatus.CONFLICT, "not-replayable", "Inspection cannot be replayed"


class KeyReused(ServiceError):
    """Idempotency-Key with another request."""

    status, slug, title = HTTPStatus.CONFLICT, "idempotency-key-reused", "Idempotency-Key reused"


class InspectionFailed(ServiceError):
    """It ended without a verdict, and a client waits for one."""

    status, slug, title = HTTPStatus.INTERNAL_SERVER_ERROR, "inspection-failed", "Inspection failed"


class InspectionUnfinished(ServiceError):
    """It has not ended in the time that a client can wait, or expired."""

    status, slug, title = HTTPStatus.GATEWAY_TIMEOUT, "inspection-unfinished", "Inspection did not end in time"

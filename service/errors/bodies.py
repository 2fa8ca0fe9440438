"""What was sent cannot be read, or is more than may be sent."""

from __future__ import annotations

from http import HTTPStatus

from service.errors.base import ServiceError


class EmptyImage(ServiceError):
    """No bytes."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "empty-image", "Empty image"


class UndecodableImage(ServiceError):
    """A known signature that does not decode."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "undecodable-image", "Image does not decode"


class MalformedForm(ServiceError):
    """A multipart body that cannot be read."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "malformed-form", "Malformed multipart form"


class MalformedInference(ServiceError):
    """A request of the Open Inference Protocol that cannot be read."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "malformed-inference", "Malformed inference request"


class InvalidFields(ServiceError):
    """Fields, parameters or headers."""

    status, slug, title = HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-fields", "Invalid fields"


class UnknownFormat(ServiceError):
    """No signature of an allowed format."""

    status, slug, title = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown-format", "Unknown image format"


class TooManyPixels(ServiceError):
    """More pixels than allowed."""

    status, slug, title = HTTPStatus.UNPROCESSABLE_ENTITY, "too-many-pixels", "Too many pixels"


class BodyTooLarge(ServiceError):
    """More bytes than allowed."""

    status, slug, title = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "Body too large"


class BodyTooSlow(ServiceError):
    """The body did not come in time."""

    status, slug, title = HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", "Body too slow"

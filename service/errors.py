"""What the service refuses, and how it says so over HTTP: RFC 9457 problem+json with stable types.

ServiceError
 ├── EmptyImage             400 no bytes
 ├── UndecodableImage       400 a known signature that does not decode
 ├── MalformedForm          400 a multipart body that cannot be read
 ├── MalformedInference     400 a request of the Open Inference Protocol that cannot be read
 ├── Unauthorized           401 no API key, or none that is in use
 ├── Forbidden              403 a key without the scope
 ├── ForeignPage            403 another site's page or name, where no key is needed
 ├── UnknownProduct         404 no such product
 ├── ProductUnusable        404 the product has no usable bundle
 ├── UnknownVersion         404 the product has no such version
 ├── VersionUnusable        409 broken, not calibrated, or none to go back to
 ├── StateChanged           409 somebody else changed the product at the same time
 ├── PreconditionFailed     412 If-Match names another revision of the product
 ├── UnknownInspection      404 never accepted, or kept long enough
 ├── UnknownArtifact        404 no such picture, or none yet
 ├── UnknownStation         404 the station is not set
 ├── UnknownPart            404 no image with this serial
 ├── NotReviewable          409 not ended yet, or reviewed too often
 ├── BodyTooSlow            408 the body did not come in time
 ├── VersionNotActive       404 of a product, in the Open Inference Protocol
 ├── KeyReused              409 Idempotency-Key with another request
 ├── NotReplayable          409 a replay that cannot be
 ├── BodyTooLarge           413 more bytes than allowed
 ├── UnknownFormat          415 no signature of an allowed format
 ├── InvalidFields          422 fields, parameters or headers
 ├── TooManyPixels          422 more pixels than allowed
 ├── BacklogFull            429 too many wait: come back later
 ├── WaitTooLong            429 it would wait too long: come back later
 ├── DeadlineUnreachable    429 its deadline would pass before its turn
 ├── TooManyUploads         429 more bytes at a time than the process may hold
 ├── TooManyStreams         429 of followed events
 ├── RateExceeded           429 too many calls of one key or address
 ├── InspectionFailed       500 for clients that wait: it ended without a verdict
 ├── QueueUnavailable       503 Redis is away, or refuses
 ├── StorageUnavailable     503 the artifact store is away, full or read-only
 └── InspectionUnfinished   504 for clients that wait: not in time
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:glad:problem:"
MOST_SHOWN = 16
"""Of the fields that one request has wrong."""


class FieldProblem(BaseModel):
    """One field that was refused."""

    field: str = Field(examples=["metadata"])
    message: str = Field(examples=["is 1300 bytes; at most 1024 are allowed"])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem details; `type` is stable."})

    type: str = Field(examples=["urn:glad:problem:unknown-product"])
    title: str = Field(examples=["Unknown product"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no product 'brackt'; known: bracket"])
    instance: str = Field(examples=["/v1/products/brackt/inspections"])
    errors: list[FieldProblem] | None = Field(None, description="the refused fields, for type invalid-fields")


class InferenceError(BaseModel):
    """The Open Inference Protocol's form of an error."""

    error: str = Field(examples=["no product 'brackt'; known: bracket"])


def speaks_oip(path: str) -> bool:
    """What lies under /v2 answers in the form of the Open Inference Protocol, errors included."""
    return path == "/v2" or path.startswith("/v2/")


def error_body(problem: Problem) -> tuple[str, BaseModel]:
    """(media type, body) of an answer, in the form of the call that was made."""
    if speaks_oip(problem.instance):
        return "application/json", InferenceError(error=problem.detail)
    return PROBLEM_JSON, problem


def field_problems(errors: list[Any]) -> list[FieldProblem]:
    """Pydantic's or FastAPI's error list, in the words of the contract: at most `MOST_SHOWN`, and no long value."""
    return [
        FieldProblem(field=_field_name(error["loc"]), message=_message(error["type"], str(error["msg"])))
        for error in errors[:MOST_SHOWN]
    ]


def _field_name(location: tuple[str | int, ...]) -> str:
    words = [str(part) for part in location if part not in {"query", "path", "header", "body"}]
    return ".".join(words)[:100] or "request"


def _message(kind: str, text: str) -> str:
    if kind == "extra_forbidden":
        return "is not a field of this call: see the OpenAPI document for those that are"
    return text.removeprefix("Value error, ")[:300]


class ServiceError(Exception):
    """Base: `detail` says what was given, what is allowed and what to do."""

    status: ClassVar[HTTPStatus]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self, detail: str, *, errors: list[FieldProblem] | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail, self.errors, self.retry_after_s = detail, errors, retry_after_s

    @property
    def type(self) -> str:
        """The stable URI."""
        return TYPE_PREFIX + self.slug

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    def problem(self, instance: str) -> Problem:
        """The body of the answer."""
        return Problem(
            type=self.type,
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            errors=self.errors,
        )


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


class UnknownProduct(ServiceError):
    """No such product."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-product", "Unknown product"


class ProductUnusable(ServiceError):
    """The product has no usable bundle."""

    status, slug, title = HTTPStatus.NOT_FOUND, "product-unusable", "Product has no usable bundle"


class UnknownVersion(ServiceError):
    """The product has no such version."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-version", "Unknown version"


class VersionNotActive(ServiceError):
    """Another version of the product inspects now."""

    status, slug, title = HTTPStatus.NOT_FOUND, "version-not-active", "Version is not active"


class VersionUnusable(ServiceError):
    """A version is broken or not calibrated, or there is none to go back to."""

    status, slug, title = HTTPStatus.CONFLICT, "version-unusable", "Version cannot be used"


class StateChanged(ServiceError):
    """Somebody else changed the product at the same time."""

    status, slug, title = HTTPStatus.CONFLICT, "state-changed", "Product was changed meanwhile"


class PreconditionFailed(ServiceError):
    """If-Match names another revision of the product."""

    status, slug, title = HTTPStatus.PRECONDITION_FAILED, "precondition-failed", "Product is at another revision"


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


class StartError(Exception):
    """Why the service cannot start, and what to do, in words for the person at the terminal."""

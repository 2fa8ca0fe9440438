"""The errors of the service, and their form over HTTP: RFC 9457 problem+json with stable types.

ServiceError
 ├── 400 EmptyImage, UndecodableImage, MalformedForm, MalformedInference, DigestMismatch
 ├── 401 Unauthorized
 ├── 403 Forbidden, ForeignPage, CsrfTokenMissing
 ├── 404 UnknownProduct, ProductUnusable, UnknownVersion, VersionNotActive,
 │       UnknownInspection, UnknownArtifact, UnknownStation, UnknownPart,
 │       UnknownReport, UnknownEvaluation
 ├── 408 BodyTooSlow
 ├── 409 VersionUnusable, StateChanged, KeyReused, NotReviewable, ClaimLost, NothingToWithdraw, NotReplayable,
 │       LimitCheckConflict
 ├── 412 PreconditionFailed
 ├── 413 BodyTooLarge
 ├── 415 UnknownFormat
 ├── 422 InvalidFields, TooManyPixels, DecodingTooCostly
 ├── 429 BacklogFull, WaitTooLong, DeadlineUnreachable, TooManyUploads, TooManyStreams, TooManyExports,
 │       TooManyClaims, RateExceeded
 ├── 500 InspectionFailed
 ├── 503 QueueUnavailable, StorageUnavailable, DecodingUnavailable
 └── 504 InspectionUnfinished
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

TYPE_PREFIX = "urn:glad:problem:"
_ID, _OLD_ID = "019abc12-3456-7def-8123-456789abcdef", "019abc12-0000-7def-8123-456789abcdef"
MAX_FIELD_PROBLEMS = 16


class FieldProblem(BaseModel):
    """A field of a request that was refused."""

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


def field_problems(errors: Sequence[Any], known: Iterable[str] = ()) -> list[FieldProblem]:
    """Return pydantic's or FastAPI's errors in the form of the contract: at most `MAX_FIELD_PROBLEMS`, all short.

    Args:
        known: the fields that the call has, for the message of one that it has not.
    """
    return [
        FieldProblem(field=_field_name(error["loc"]), message=_message(error["type"], str(error["msg"]), known))
        for error in errors[:MAX_FIELD_PROBLEMS]
    ]


def _field_name(location: tuple[str | int, ...]) -> str:
    words = [str(part) for part in location if part not in {"query", "path", "header", "body"}]
    return ".".join(words)[:100] or "request"


def _message(kind: str, text: str, known: Iterable[str]) -> str:
    if kind == "extra_forbidden":
        names = ", ".join(sorted(known))
        return f"is not a field of this call: {f'it has {names}' if names else '/docs lists those that are'}"[:300]
    return text.removeprefix("Value error, ")[:300]


class ServiceError(Exception):
    """The base of all: `detail` says what was given, what is allowed and what to do."""

    status: ClassVar[HTTPStatus]
    slug: ClassVar[str]
    title: ClassVar[str]
    example: ClassVar[str]
    """A possible `detail`, for the OpenAPI document."""
    example_retry_after_s: ClassVar[int | None] = None
    """The example's `Retry-After` in seconds; None: this error sends none."""

    def __init__(
        self, detail: str, *, errors: list[FieldProblem] | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail, self.errors, self.retry_after_s = detail, errors, retry_after_s

    @property
    def type(self) -> str:
        """Return the stable URI of this kind of error."""
        return TYPE_PREFIX + self.slug

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that the answer carries."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    def problem(self, instance: str) -> Problem:
        """Return the body of the answer to a request for the path `instance`."""
        return self.example_problem(instance).model_copy(update={"detail": self.detail, "errors": self.errors})

    @classmethod
    def example_problem(cls, instance: str) -> Problem:
        """Return the body of an example answer, for the OpenAPI document."""
        kind = TYPE_PREFIX + cls.slug
        return Problem(type=kind, title=cls.title, status=cls.status, detail=cls.example, instance=instance)


class EmptyImage(ServiceError):
    """The image has no bytes."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "empty-image", "Empty image"
    example = "the image has 0 bytes: send the file's content"


class UndecodableImage(ServiceError):
    """The image begins with a known signature, but does not decode."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "undecodable-image", "Image does not decode"
    example = "JPEG image of 20480 bytes does not decode (image file is truncated): send it again"


class MalformedForm(ServiceError):
    """The multipart body cannot be read."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "malformed-form", "Malformed multipart form"
    example = "the multipart body ends before its closing boundary: it was cut off; send it again"


class MalformedInference(ServiceError):
    """The request of the Open Inference Protocol cannot be read."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "malformed-inference", "Malformed inference request"
    example = "input 'image' has shape [0]: send 1 to 16 images in a request"


class DigestMismatch(ServiceError):
    """The content is not what the sender's Content-Digest was made of."""

    status, slug, title = HTTPStatus.BAD_REQUEST, "digest-mismatch", "Content-Digest not met"
    example = (
        "the body has 20480 bytes with the sha-256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=; its Content-Digest "
        "says 4REjxQ4yrqUVicfSKYNO/cF9zNj5ANbzgDZt3/h3Qxo=: it was changed on its way, send it again"
    )


class Unauthorized(ServiceError):
    """The call has no API key, or none that is in use."""

    status, slug, title = HTTPStatus.UNAUTHORIZED, "unauthorized", "API key needed"
    example = "send an API key as `Authorization: Bearer glad_…`"

    @property
    def headers(self) -> dict[str, str]:
        """Return the scheme to use (RFC 6750)."""
        return {"WWW-Authenticate": 'Bearer realm="glad"'}


class Forbidden(ServiceError):
    """The API key lacks the scope that the call needs."""

    status, slug, title = HTTPStatus.FORBIDDEN, "forbidden", "Key lacks a scope"
    example = "key 'camera-1' has the scope submit; GET /v1/products takes 'read'"

    def __init__(self, detail: str, *, scope: str) -> None:
        super().__init__(detail)
        self.scope = scope

    @property
    def headers(self) -> dict[str, str]:
        """Return the scope that is missing (RFC 6750)."""
        return {"WWW-Authenticate": f'Bearer realm="glad", error="insufficient_scope", scope="{self.scope}"'}


class ForeignPage(ServiceError):
    """A page of another site called, with a session or without API keys; or, without keys, by another name."""

    status, slug, title = HTTPStatus.FORBIDDEN, "foreign-page", "Page of another site"
    example = "a page of https://example.com called; without API keys only pages of this service may"


class CsrfTokenMissing(ServiceError):
    """A call that changes something came with a session's cookie alone."""

    status, slug, title = HTTPStatus.FORBIDDEN, "csrf-token-missing", "CSRF token missing"
    example = "PUT with the cookie of a session needs the header X-CSRF-Token: GET /v1/session says which"


class UnknownProduct(ServiceError):
    """There is no such product."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-product", "Unknown product"
    example = "no product 'brackt'; known: bracket"


class ProductUnusable(ServiceError):
    """The product has no usable bundle."""

    status, slug, title = HTTPStatus.NOT_FOUND, "product-unusable", "Product has no usable bundle"
    example = "product 'bracket' has no usable bundle; the service's log says why: activate another version"


class UnknownVersion(ServiceError):
    """The product has no such version."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-version", "Unknown version"
    example = "product 'bracket' has no version '9': use one of 2, 1"


class VersionNotActive(ServiceError):
    """Another version of the product inspects now."""

    status, slug, title = HTTPStatus.NOT_FOUND, "version-not-active", "Version is not active"
    example = "version '1' of 'bracket' is not active; '2' is: leave the version out, or activate that one"


class UnknownInspection(ServiceError):
    """The inspection was never accepted, or is no longer kept."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-inspection", "Unknown inspection"
    example = f"no inspection '{_ID}': it was never accepted here, or is no longer kept"


class UnknownArtifact(ServiceError):
    """The inspection has no such picture, or none yet."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-artifact", "Unknown artifact"
    example = f"inspection {_ID} has no heatmap.png: its state is queued, and it has image"


class UnknownStation(ServiceError):
    """The station is not set."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-station", "Unknown station"
    example = "no station 'line-4': set its product with PUT /v1/stations/{station}"


class UnknownPart(ServiceError):
    """No image with this serial is kept."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-part", "Unknown part"
    example = "no image with serial 'SN-000124' is kept: check the serial, or the time since its inspection"


class UnknownReport(ServiceError):
    """The version's bundle brings no report of its training."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-report", "Unknown report"
    example = "version 2 of product 'bracket' brings no report of its training: `glad report BUNDLE` writes a page"


class UnknownEvaluation(ServiceError):
    """The version has no such evaluation."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-evaluation", "Unknown evaluation"
    example = "version 2 of product 'bracket' has no evaluation '3f9a0c52d1e84b77': nothing was measured of it"


class BodyTooSlow(ServiceError):
    """The body did not arrive in time."""

    status, slug, title = HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", "Body too slow"
    example = "the body kept the service waiting for 20 s: send it faster, or raise GLAD_BODY_TIMEOUT_S"


class VersionUnusable(ServiceError):
    """The version is broken or not calibrated, or there is none to go back to."""

    status, slug, title = HTTPStatus.CONFLICT, "version-unusable", "Version cannot be used"
    example = "product bracket: no version was active before 2; activate one by name"


class StateChanged(ServiceError):
    """The product was changed by another call at the same time."""

    status, slug, title = HTTPStatus.CONFLICT, "state-changed", "Product was changed meanwhile"
    example = "product bracket: state is at revision 3, changed by ann; yours was made from revision 2: read it again"


class KeyReused(ServiceError):
    """The Idempotency-Key was used with another request."""

    status, slug, title = HTTPStatus.CONFLICT, "idempotency-key-reused", "Idempotency-Key reused"
    example = f"Idempotency-Key 'line-3-000123-top' was used for inspection {_ID} with another image"


class NotReviewable(ServiceError):
    """The inspection has not ended, or was reviewed too often."""

    status, slug, title = HTTPStatus.CONFLICT, "not-reviewable", "Inspection cannot be reviewed"
    example = f"inspection {_ID} is running: it can be reviewed when it has ended"


class ClaimLost(ServiceError):
    """The claim on an image to review has ended, and somebody else may have the image."""

    status, slug, title = HTTPStatus.CONFLICT, "claim-lost", "Claim has ended"
    example = "the claim has ended, and somebody else may have the image: ask for the next one"


class TooManyClaims(ServiceError):
    """A person has been given many images to review, and has answered none of them."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "too-many-claims", "Too many images at once"
    example = "'a.meier' has 10 images to review, which nobody else gets meanwhile: answer them, or give them back"
    example_retry_after_s = 120


class NothingToWithdraw(ServiceError):
    """The inspection has no review of the caller that counts."""

    status, slug, title = HTTPStatus.CONFLICT, "nothing-to-withdraw", "No review to withdraw"
    example = f"inspection {_ID} has no review by 'a.meier' that counts: only one's own are withdrawn, or with admin"


class NotReplayable(ServiceError):
    """The inspection has a verdict, cannot be read, or its image is gone."""

    status, slug, title = HTTPStatus.CONFLICT, "not-replayable", "Inspection cannot be replayed"
    example = f"inspection {_OLD_ID} has a verdict: only failed and expired ones are replayed"


class LimitCheckConflict(ServiceError):
    """A check by limit samples runs, or none does, or the station has no limit samples."""

    status, slug, title = HTTPStatus.CONFLICT, "limit-check-conflict", "Not possible at this state of the check"
    example = "a check by limit samples runs already: show the samples, or cancel it"


class PreconditionFailed(ServiceError):
    """`If-Match` names another revision of the product, or of its review plan."""

    status, slug, title = HTTPStatus.PRECONDITION_FAILED, "precondition-failed", "At another revision"
    example = 'product bracket is at revision 3, changed by ann; If-Match is "2": read the product again'


class BodyTooLarge(ServiceError):
    """The body has more bytes than allowed."""

    status, slug, title = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "Body too large"
    example = "the body has 90000000 bytes; at most 67174400 bytes are allowed: send a smaller image"


class UnknownFormat(ServiceError):
    """The image begins with no signature of an allowed format."""

    status, slug, title = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown-format", "Unknown image format"
    example = "the content begins with 25 50 44 46: send JPEG, PNG, BMP, TIFF or WebP"


class InvalidFields(ServiceError):
    """Fields, parameters or headers are not allowed."""

    status, slug, title = HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-fields", "Invalid fields"
    example = "captured_at: Input should have timezone info"

    @classmethod
    def for_field(cls, name: str, message: str) -> Self:
        """Return the error for one field, whose name the caller may have chosen."""
        shown = name[:100].encode(errors="replace").decode()
        return cls(f"{shown}: {message}", errors=[FieldProblem(field=shown, message=message)])

    @classmethod
    def from_validation(cls, errors: Sequence[Any], known: Iterable[str] = ()) -> Self:
        """Return the error for the fields that pydantic's or FastAPI's errors name; `known` are those of the call."""
        problems = field_problems(errors, known)
        return cls("; ".join(f"{one.field}: {one.message}" for one in problems)[:1000], errors=problems)


class TooManyPixels(ServiceError):
    """The image has more pixels than allowed."""

    status, slug, title = HTTPStatus.UNPROCESSABLE_ENTITY, "too-many-pixels", "Too many pixels"
    example = "image is 20000x20000 = 400000000 pixels; the limit is 64000000: crop or downscale it"


class DecodingTooCostly(ServiceError):
    """The image takes more time or memory to decode than its pixels explain."""

    status, slug, title = HTTPStatus.UNPROCESSABLE_ENTITY, "decoding-too-costly", "Image too costly to decode"
    example = "JPEG image of 124829 bytes has more than 64 scans: store it as a baseline JPEG"


class BacklogFull(ServiceError):
    """The pool's backlog has reached its limit, or one API key its share of it."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "backlog-full", "Backlog full"
    example = "1000 inspections are queued or running; the limit is 1000 (GLAD_MAX_BACKLOG): send it again later"
    example_retry_after_s = 2


class WaitTooLong(ServiceError):
    """By the measured pace the image would wait longer than is allowed."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "wait-too-long", "Wait too long"
    example = "a new inspection would wait about 4200.0 s; the limit is 3600 s (GLAD_MAX_WAIT_S): send it again later"
    example_retry_after_s = 600


class DeadlineUnreachable(ServiceError):
    """By the measured pace the image's deadline would pass before its turn."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "deadline-unreachable", "Deadline cannot be met"
    example = "a new inspection would wait about 12.5 s; its deadline_ms is 5000: send it again later"
    example_retry_after_s = 8


class TooManyUploads(ServiceError):
    """The images of all requests together have more bytes than the process may hold."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "too-many-uploads", "Too many uploads at a time"
    example = "the service holds 536000000 bytes of images now; the limit is 536870912: send it again later"
    example_retry_after_s = 2


class TooManyStreams(ServiceError):
    """As many clients follow the events as are allowed."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "too-many-event-streams", "Too many event streams"
    example = "100 clients follow the events; the limit is 100: close one, or raise GLAD_MAX_EVENT_STREAMS"


class TooManyExports(ServiceError):
    """As many exports of reviewed images are sent as are allowed, or half of them to one API key."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "too-many-exports", "Too many exports"
    example = "4 exports of reviewed images are sent; the limit is 4: try again when one has ended"
    example_retry_after_s = 2


class RateExceeded(ServiceError):
    """An API key or address made too many calls."""

    status, slug, title = HTTPStatus.TOO_MANY_REQUESTS, "rate-exceeded", "Too many requests"
    example = "too many calls from 5f0c2a9b1e77: 50 a second and 20 at once are allowed"
    example_retry_after_s = 1


class InspectionFailed(ServiceError):
    """For callers that wait for the verdict: the inspection ended without one."""

    status, slug, title = HTTPStatus.INTERNAL_SERVER_ERROR, "inspection-failed", "Inspection failed"
    example = f"inspection {_ID} is failed: model_error: a model call failed"


class QueueUnavailable(ServiceError):
    """Redis is away, or refuses."""

    status, slug, title = HTTPStatus.SERVICE_UNAVAILABLE, "queue-unavailable", "Queue unavailable"
    example = "the queue does not answer, or refuses writes: try again later"
    example_retry_after_s = 2


class StorageUnavailable(ServiceError):
    """The artifact store is away, full or read-only, or the store of bundles is away."""

    status, slug, title = HTTPStatus.SERVICE_UNAVAILABLE, "storage-unavailable", "Storage unavailable"
    example = "the image could not be stored; it was not accepted: send it again later"
    example_retry_after_s = 2


class DecodingUnavailable(ServiceError):
    """No image can be decoded now: the machine starts no process, or gives it no time."""

    status, slug, title = HTTPStatus.SERVICE_UNAVAILABLE, "decoding-unavailable", "Decoding unavailable"
    example = "no decoder can be started (Cannot allocate memory): try again later"
    example_retry_after_s = 2


class InspectionUnfinished(ServiceError):
    """For callers that wait for the verdict: the inspection did not end in time, or expired."""

    status, slug, title = HTTPStatus.GATEWAY_TIMEOUT, "inspection-unfinished", "Inspection did not end in time"
    example = f"inspection {_ID} is running after 50 s; it goes on: repeat the request with the same id to wait on"
    example_retry_after_s = 1


class StartError(Exception):
    """The service cannot start; the message says why and what to do, for the person at the terminal."""

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

from service.errors.base import ServiceError
from service.errors.bodies import (
    BodyTooLarge,
    BodyTooSlow,
    EmptyImage,
    InvalidFields,
    MalformedForm,
    MalformedInference,
    TooManyPixels,
    UndecodableImage,
    UnknownFormat,
)
from service.errors.callers import (
    Forbidden,
    ForeignPage,
    RateExceeded,
    TooManyStreams,
    Unauthorized,
)
from service.errors.inspections import (
    InspectionFailed,
    InspectionUnfinished,
    KeyReused,
    NotReplayable,
    NotReviewable,
    UnknownArtifact,
    UnknownInspection,
    UnknownPart,
    UnknownStation,
)
from service.errors.products import (
    PreconditionFailed,
    ProductUnusable,
    StateChanged,
    UnknownProduct,
    UnknownVersion,
    VersionNotActive,
    VersionUnusable,
)
from service.errors.room import (
    BacklogFull,
    DeadlineUnreachable,
    QueueUnavailable,
    StorageUnavailable,
    TooManyUploads,
    WaitTooLong,
)

__all__ = [
    "BacklogFull",
    "BodyTooLarge",
    "BodyTooSlow",
    "DeadlineUnreachable",
    "EmptyImage",
    "Forbidden",
    "ForeignPage",
    "InspectionFailed",
    "InspectionUnfinished",
    "InvalidFields",
    "KeyReused",
    "MalformedForm",
    "MalformedInference",
    "NotReplayable",
    "NotReviewable",
    "PreconditionFailed",
    "ProductUnusable",
    "QueueUnavailable",
    "RateExceeded",
    "ServiceError",
    "StateChanged",
    "StorageUnavailable",
    "TooManyPixels",
    "TooManyStreams",
    "TooManyUploads",
    "Unauthorized",
    "UndecodableImage",
    "UnknownArtifact",
    "UnknownFormat",
    "UnknownInspection",
    "UnknownPart",
    "UnknownProduct",
    "UnknownStation",
    "UnknownVersion",
    "VersionNotActive",
    "VersionUnusable",
    "WaitTooLong",
]

"""One part's image on its way, and the job that the queue carries for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from bench.plant.lines import Line
from service.contract import Job, Thresholds

EPOCH_MS = int(datetime(2026, 1, 5, 6, tzinfo=UTC).timestamp() * 1000)
"""When the shift starts, by Redis's clock."""
THRESHOLDS = Thresholds(review=0.5, fail=1.0, pixel=1.0)


@dataclass(frozen=True)
class Part:
    """One part under one camera."""

    id: str
    line: Line
    at_s: float
    """When its picture was taken."""
    denoising_step: int
    """At which its image will trigger."""


@dataclass(frozen=True)
class Framed:
    """As much of a decoded image as the engine looks at: it takes one lane."""

    tiles: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Loaded:
    """As much of a loaded bundle as the engine looks at."""

    group: str


@dataclass(frozen=True)
class Decoded:
    """A decoded image."""

    bundle: Loaded
    denoising_step: int
    framed: Framed = Framed()


PartOf = Callable[[str], Part]
"""By the inspection's id."""


def part_id(number: int, at_s: float) -> str:
    """A UUIDv7 of that moment and number: two runs of one seed have the same ids, so that no order hangs on chance."""
    ms = EPOCH_MS + round(at_s * 1000)
    return str(UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | number))


def bundle_hash(product: str) -> str:
    """Stands for the hash of the product's bundle."""
    return sha256(product.encode()).hexdigest()


def job_of(part: Part, pool: str) -> Job:
    """The job as the API would submit it."""
    product = part.line.product.name
    return Job(
        id=part.id,
        product=product,
        station=part.line.station,
        bundle_version="1",
        bundle_hash=bundle_hash(product),
        thresholds=THRESHOLDS,
        image_ref=f"2026-01-05/{part.id}/image",
        image_sha256=sha256(part.id.encode()).hexdigest(),
        image_format="JPEG",
        image_bytes=200_000,
        width=1024,
        height=1024,
        accepted_at=datetime.fromtimestamp(EPOCH_MS / 1000 + part.at_s, UTC),
        priority=part.line.priority,
        deadline_ms=part.line.deadline_ms,
        pool=pool,
    )

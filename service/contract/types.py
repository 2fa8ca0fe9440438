"""The base of what is stored and exchanged."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, get_args
from uuid import UUID

import uuid6
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
)


class Message(BaseModel):
    """Base of what is stored and exchanged: immutable; unknown fields of a newer version are ignored.

    Ids and times come once and never again: Pydantic's cache of strings would only keep the last 16,000 of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, cache_strings="keys")


LONGEST_WAIT_S = 30
"""Of `Prefer: wait=N`."""
LONGEST_INFER_WAIT_S = 60
"""Of an inference request under /v2: as long as its usual clients wait for an answer."""


def check_text(text: str) -> str:
    """The text, or ValueError: it is not printable."""
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("holds a control character or half a surrogate pair: use printable text")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(check_text)]
Note = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(check_text)]


ArtifactName = Literal["heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image"]
ARTIFACT_NAMES: tuple[ArtifactName, ...] = get_args(ArtifactName)
IMAGE: ArtifactName = "image"


def artifact_links(inspection_id: str, names: tuple[ArtifactName, ...]) -> dict[ArtifactName, str]:
    """name -> path on this service, in the order of the contract."""
    return {name: f"/v1/inspections/{inspection_id}/{name}" for name in ARTIFACT_NAMES if name in names}


def new_inspection_id() -> str:
    """A fresh UUIDv7: ids sort by the time they were made."""
    return str(uuid6.uuid7())


def parse_inspection_id(text: str) -> str:
    """The id in canonical form, or ValueError: only a UUIDv7 names an inspection."""
    value = UUID(text)
    if value.version != 7 or str(value) != text:
        raise ValueError(f"{text!r} is not a UUIDv7 in lower case with hyphens")
    return text


InspectionId = Annotated[str, AfterValidator(parse_inspection_id)]


def now() -> datetime:
    """The time in UTC, to the millisecond."""
    return _to_utc_ms(datetime.now(UTC))


def _to_utc_ms(value: datetime) -> datetime:
    try:
        utc = value.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from error
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _refuse_numbers(value: object) -> object:
    """Numbers, also as text, would be read as seconds since 1970: 20261123 is a day to whoever sends it."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-", value)):
        return value
    raise ValueError("is no time of RFC 3339: send such as 2026-11-23T08:15:30Z")


def rfc3339(value: datetime) -> str:
    """`2026-11-23T08:15:30.120Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_refuse_numbers),
    AfterValidator(_to_utc_ms),
    PlainSerializer(rfc3339, return_type=str),
]

"""Base class and field types of everything that is stored and exchanged: ids, texts, times, names of artifacts."""

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
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)


class Message(BaseModel):
    """Base of what is stored and exchanged: immutable; unknown fields of a newer version are ignored.

    `cache_strings="keys"`: each id and time occurs once, and Pydantic's cache would keep the last 16,000 of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, cache_strings="keys")


LONGEST_WAIT_S = 30
"""Longest N of `Prefer: wait=N`."""
LONGEST_INFER_WAIT_S = 60
"""Longest wait of an inference request under /v2: its usual clients wait no longer for an answer."""
DOT_SEGMENTS = frozenset({".", ".."})
"""Parts of a path that clients and proxies resolve, however they are written (RFC 3986, 5.2.4)."""


def check_text(text: str) -> str:
    """Return the text unchanged.

    Raises:
        ValueError: if it holds a control character or half a surrogate pair.
    """
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("holds a control character or half a surrogate pair: use printable text")
    return text


def check_station(name: str) -> str:
    """Return the name of a station unchanged.

    Raises:
        ValueError: if its address, `/v1/stations/{name}`, would be that of another call, or of another name.
    """
    parts = name.split("/")
    if not {"", *DOT_SEGMENTS}.isdisjoint(parts) or "inspections" in parts[1:]:
        raise ValueError(
            "cannot be an address: between slashes a part of it is empty, '.', '..' or 'inspections'. Use a name such "
            "as line-3 or line/3"
        )
    if "\ufffd" in name:
        raise ValueError("holds U+FFFD, which stands for letters that were lost: send the name in UTF-8")
    return name


def check_serial(serial: str) -> str:
    """Return the serial unchanged.

    Raises:
        ValueError: if clients and proxies would take it out of its address, `/v1/parts/{serial}`.
    """
    if serial in DOT_SEGMENTS:
        raise ValueError(f"is {serial!r}, which cannot be an address: send the serial that stands on the part")
    return serial


Text = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(check_text)]
StationName = Annotated[Text, AfterValidator(check_station)]
"""The name of a station as a request gives it, as a field or as an address. What is stored may be older: `Text`."""
SerialNumber = Annotated[Text, AfterValidator(check_serial)]
"""The serial number of a part as a request gives it, as a field or as an address."""
Note = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(check_text)]


ArtifactName = Literal["heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image"]
ARTIFACT_NAMES: tuple[ArtifactName, ...] = get_args(ArtifactName)
IMAGE: ArtifactName = "image"
RECONSTRUCTION: ArtifactName = "reconstruction.png"
DrawingName = Literal["drawing.npz"]
DRAWING: DrawingName = "drawing.npz"
"""What the pictures of a part that passed are drawn from, when somebody asks for one; no artifact that clients see."""
StoredName = ArtifactName | DrawingName
STORED_NAMES: tuple[StoredName, ...] = (*ARTIFACT_NAMES, DRAWING)


def artifact_links(inspection_id: str, names: tuple[ArtifactName, ...]) -> dict[ArtifactName, str]:
    """Return name -> path on this service, in the order of the contract."""
    return {name: f"/v1/inspections/{inspection_id}/{name}" for name in ARTIFACT_NAMES if name in names}


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is true or false, and must be a number")
    return value


NotBool = BeforeValidator(_refuse_bool)
"""For numbers of requests: Pydantic would read true as 1."""


def new_inspection_id(at: datetime | None = None) -> str:
    """Return a new UUIDv7: ids sort by the time they were made.

    Args:
        at: time by Redis's clock, for an inspection that is to be queued: retention reads its age from the id. Default:
            the time of this machine, which may be another.
    """
    made = uuid6.uuid7()
    if at is None:
        return str(made)
    at_ms = round(at.timestamp() * 1000)
    return str(UUID(int=(at_ms << 80) | (made.int & ((1 << 80) - 1))))


def parse_inspection_id(text: str) -> str:
    """Return the id unchanged.

    Raises:
        ValueError: if it is not a UUIDv7 in canonical form.
    """
    value = UUID(text)
    if value.version != 7 or str(value) != text:
        raise ValueError(f"{text!r} is not a UUIDv7 in lower case with hyphens")
    return text


InspectionId = Annotated[str, AfterValidator(parse_inspection_id)]


def now() -> datetime:
    """Return the time in UTC, to the millisecond."""
    return _to_utc_ms(datetime.now(UTC))


def _to_utc_ms(value: datetime) -> datetime:
    try:
        utc = value.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from error
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _parse_timestamp(value: object, parse: ValidatorFunctionWrapHandler) -> datetime:
    """Return the time in UTC, to the millisecond.

    Numbers are refused, also as text: Pydantic would read them as seconds since 1970, and 20261123 means a day.
    """
    try:
        if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-", value)):
            return _to_utc_ms(parse(value))
    except ValidationError:
        pass  # its words are of Pydantic, not of what to send
    raise ValueError(
        "is no time of RFC 3339 with its zone: send such as 2026-11-23T08:15:30Z or 2026-11-23T09:15:30+01:00; in a "
        "URL the + is written as %2B"
    )


def rfc3339(value: datetime) -> str:
    """Return the time as RFC 3339 in UTC with milliseconds: `2026-11-23T08:15:30.120Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    AwareDatetime,
    WrapValidator(_parse_timestamp),
    PlainSerializer(rfc3339, return_type=str),
]

"""Base class and field types of the contract: texts, names, ids, times, metadata, names of artifacts."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

LONGEST_WAIT_S = 30
"""Longest N of `Prefer: wait=N`."""
MAX_METADATA_BYTES = 1024


class Message(BaseModel):
    """Base of what is stored and exchanged: immutable; unknown fields of a newer version are ignored.

    `cache_strings="keys"`: each id and time occurs once, and Pydantic's cache would keep the last 16,000 of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, cache_strings="keys")


def check_text(text: str) -> str:
    """Return the text unchanged.

    Raises:
        ValueError: if it holds a control character or half a surrogate pair.
    """
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("holds a control character or half a surrogate pair: use printable text")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(check_text)]
Note = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(check_text)]
Person = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(check_text)
]
"""Name or badge of a person."""
NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name) or ".." in name:
        raise ValueError(f"name {name!r} is not allowed: use 1-64 of a-z 0-9 . _ -, first a letter or digit, no '..'")
    return name


Name = Annotated[str, AfterValidator(_check_name)]
"""Of a product or a version."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ArtifactName = Literal["heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image"]
ARTIFACT_NAMES: tuple[ArtifactName, ...] = get_args(ArtifactName)
ScreenPictureName = Literal["preview.jpg", "thumbnail.jpg", "heat.png"]
"""Pictures for screens, drawn when somebody asks. `Result.artifacts` does not list them: older clients would refuse a
name that they do not know."""
SCREEN_PICTURE_NAMES: tuple[ScreenPictureName, ...] = get_args(ScreenPictureName)


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is true or false, and must be a number")
    return value


NotBool = BeforeValidator(_refuse_bool)
"""For numbers of requests: Pydantic would read true as 1."""


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


def to_utc_ms(value: datetime) -> datetime:
    """Return the time in UTC, to the millisecond.

    Raises:
        ValueError: if it lies outside the years 1 to 9999 there.
    """
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
            return to_utc_ms(parse(value))
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


def _parse_metadata(value: object) -> object:
    """Return the object of a JSON text, as a form or query carries it, or the given object; check size and depth."""
    if isinstance(value, str):
        try:
            size = len(value.encode())
            if size > MAX_METADATA_BYTES:
                raise ValueError(f"is {size} bytes; at most {MAX_METADATA_BYTES} are allowed")
            value = json.loads(value, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise ValueError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f'is a JSON {type(value).__name__}: give an object, such as {{"shift": 2}}')
    _check_json_value(value)
    return value


def _refuse_constant(constant: str) -> object:
    raise ValueError(f"holds {constant}, which is not JSON")


def _check_json_value(value: object, depth: int = 0) -> None:
    if depth > 16:
        raise ValueError("is nested deeper than 16 levels")
    match value:
        case dict():
            for key, item in value.items():
                check_text(str(key))
                _check_json_value(item, depth + 1)
        case list():
            for item in value:
                _check_json_value(item, depth + 1)
        case str():
            check_text(value)
        case float() if not math.isfinite(value):
            raise ValueError("holds a number that is too large for JSON")
        case _:
            pass


def _metadata_size(value: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"is {size} bytes of JSON; at most {MAX_METADATA_BYTES} are allowed")
    return value


Metadata = Annotated[dict[str, Any], BeforeValidator(_parse_metadata), AfterValidator(_metadata_size)]

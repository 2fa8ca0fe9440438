"""What the service adds to the contract's types: new ids, the present time, and what is stored beside the artifacts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import uuid6
from pydantic import AfterValidator, BaseModel, BeforeValidator

from glad_client.fields import (
    ARTIFACT_NAMES,
    SCREEN_PICTURE_NAMES,
    ArtifactName,
    ScreenPictureName,
    Text,
    to_utc_ms,
)

LONGEST_INFER_WAIT_S = 60
"""Longest wait of an inference request under /v2: its usual clients wait no longer for an answer."""
DOT_SEGMENTS = frozenset({".", ".."})
"""Parts of a path that clients and proxies resolve, however they are written (RFC 3986, 5.2.4)."""
CALLS_OF_STATIONS = frozenset({"hold", "inspections", "limit-samples"})
"""What follows a station's name in the addresses of its calls."""
IMAGE: ArtifactName = "image"
RECONSTRUCTION: ArtifactName = "reconstruction.png"
DrawingName = Literal["drawing.npz"]
DRAWING: DrawingName = "drawing.npz"
"""What the pictures of a part that passed are drawn from, when somebody asks for one; no artifact that clients see."""
PREVIEW: ScreenPictureName = "preview.jpg"
THUMBNAIL: ScreenPictureName = "thumbnail.jpg"
HEAT: ScreenPictureName = "heat.png"
OF_NO_ATTEMPT = frozenset({IMAGE, PREVIEW, THUMBNAIL})
"""Show the image alone, so that they are the same whichever worker inspected it."""
StoredName = ArtifactName | ScreenPictureName | DrawingName
STORED_NAMES: tuple[StoredName, ...] = (*ARTIFACT_NAMES, *SCREEN_PICTURE_NAMES, DRAWING)


def check_station(name: str) -> str:
    """Return the name of a station unchanged.

    Raises:
        ValueError: if its address, `/v1/stations/{name}`, would be that of another call, or of another name.
    """
    parts = name.split("/")
    if not {"", *DOT_SEGMENTS}.isdisjoint(parts) or not CALLS_OF_STATIONS.isdisjoint(parts[1:]):
        raise ValueError(
            "cannot be an address: between slashes a part of it is empty, '.' or '..', or behind a slash one is "
            f"{', '.join(sorted(CALLS_OF_STATIONS))}. Use a name such as line-3 or line/3"
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


def check_visible(text: str) -> str:
    """Return the text unchanged.

    Raises:
        ValueError: if nobody can see it: it has spaces and invisible letters alone.
    """
    if not any(unicodedata.category(letter) not in _UNSEEN_KINDS and letter not in _BLANK_LETTERS for letter in text):
        raise ValueError("has no letter that can be seen: write it out")
    return text


_UNSEEN_KINDS = frozenset({"Cc", "Cf", "Cn", "Zl", "Zp", "Zs"})
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Fillers of Hangul and an empty sign of Braille: letters by their kind."""
VisibleText = Annotated[Text, AfterValidator(check_visible)]
"""Who did something, or why, as a request gives it. What is stored may be older: `Text`."""


def only_fields_of(model: type[BaseModel]) -> BeforeValidator:
    """Return the check that a request names no field that the model has not: what is stored may, of a newer version."""

    def check(value: object) -> object:
        unknown = sorted(set(value) - set(model.model_fields)) if isinstance(value, Mapping) else ()
        if unknown:
            raise ValueError(f"has no field {unknown[0]!r:.100}: it has {', '.join(model.model_fields)}")
        return value

    return BeforeValidator(check)


StationName = Annotated[Text, AfterValidator(check_station)]
"""The name of a station as a request gives it, as a field or as an address. What is stored may be older: `Text`."""
SerialNumber = Annotated[Text, AfterValidator(check_serial)]
"""The serial number of a part as a request gives it, as a field or as an address."""


def artifact_links(inspection_id: str, names: tuple[ArtifactName, ...]) -> dict[ArtifactName, str]:
    """Return name -> path on this service, in the order of the contract."""
    return {name: f"/v1/inspections/{inspection_id}/{name}" for name in ARTIFACT_NAMES if name in names}


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


def now() -> datetime:
    """Return the time in UTC, to the millisecond."""
    return to_utc_ms(datetime.now(UTC))

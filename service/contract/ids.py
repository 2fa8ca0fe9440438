"""Inspection ids: UUIDv7, which sort by the time they were made."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import uuid6
from pydantic import AfterValidator


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

"""What an operator found on an inspected part."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from service.contract.texts import Note, Text
from service.contract.times import Timestamp
from service.contract.types import Message


class Decision(StrEnum):
    """What an operator found."""

    OK = "ok"
    DEFECT = "defect"


class Review(Message):
    """An operator's judgement of an inspected part. Reviews are never changed; the last one counts."""

    decision: Decision
    note: Note | None = Field(None, description="for people", examples=["scratch is on the fixture"])
    by: Text = Field(description="who judged, as the caller says", examples=["a.meier"])
    key: Text | None = Field(
        None, description="name of the API key that sent it; null where no key was needed", examples=["console"]
    )
    at: Timestamp = Field(description="when it was recorded")

"""The settings of the method that a bundle stores: schedule, score, framing, zones; the published presets. No torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """The base of every settings and contract object that is stored: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

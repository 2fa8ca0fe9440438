"""The base of what is stored and exchanged."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Base of what is stored and exchanged: immutable; unknown fields of a newer version are ignored.

    Ids and times come once and never again: Pydantic's cache of strings would only keep the last 16,000 of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, cache_strings="keys")

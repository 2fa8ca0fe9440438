"""The settings of the method that a bundle stores: schedule, score, framing, zones; the published presets. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """The base of every settings and contract object that is stored: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def json_schema(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a JSON Schema that says by which rules it is read, and under a name of its own."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:glad:schema:{name}", **content}


def with_changes(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables in which each changed value stands in its place; a table of another `kind` replaces its own.

    Args:
        content: of a settings or recipe file.
        changes: with the same keys.
    """
    merged = dict(content)
    for name, new in changes.items():
        old = content.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and new.get("kind") in (None, old.get("kind")):
            merged[name] = with_changes(old, new)
        else:
            merged[name] = new
    return merged

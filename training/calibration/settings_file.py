"""Settings laid over a bundle's own from a file: zones, framing, foreground, or any other."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from glad.settings.method import MethodSettings


def overlaid(base: MethodSettings, file: Path) -> MethodSettings:
    """The base with what the file says, field by field; the rest stays. TOML, or JSON by its name's end.

    A delta of the base that would no longer belong to the settings is kept, and no longer said to be found under them:
    calibrate it anew. ValueError names the file and what is wrong in it.
    """
    given = _read(file)
    free = base.model_copy(update={"trigger": base.trigger.model_copy(update={"calibrated_for": None})})
    try:
        changed = MethodSettings.model_validate(_merged(free.model_dump(mode="json"), given))
    except ValidationError as error:
        raise ValueError(f"{file}: {error}") from error
    same = changed.delta_basis == base.delta_basis and changed.trigger.delta == base.trigger.delta
    return base.changed(**changed.model_dump(exclude={"trigger"})) if same else changed


def _read(file: Path) -> Mapping[str, Any]:
    content = file.read_text(encoding="utf-8")
    try:
        found = json.loads(content) if file.suffix.lower() == ".json" else tomllib.loads(content)
    except ValueError as error:
        raise ValueError(f"{file} is neither TOML nor, named .json, JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds {type(found).__name__}; give fields of the settings, such as zones or framing")
    return found


def _merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Field by field; what has a `kind`, such as a framing, is replaced whole when its kind changes."""
    merged = dict(base)
    for name, value in given.items():
        own = base.get(name)
        if isinstance(own, Mapping) and isinstance(value, Mapping) and value.get("kind") in (None, own.get("kind")):
            merged[name] = _merged(own, value)
        else:
            merged[name] = value
    return merged

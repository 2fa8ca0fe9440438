"""A submission's free JSON object: what it may hold, and how much."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from service.contract.texts import check_text

MAX_METADATA_BYTES = 1024


def _parse_metadata(value: object) -> object:
    """JSON text as a form or query carries it becomes an object; an object passes; both are measured."""
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

"""Parameters that several calls share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path
from pydantic import StringConstraints

from service.contract import LONGEST_WAIT_S

InspectionPath = Annotated[str, Path(alias="id", description="the inspection's id, a UUIDv7")]
IdempotencyKeyText = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[\x21-\x7e]+$")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="same key, same inspection, per API key and product; kept as long as the result",
        examples=["line-3-000123-top"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(alias="Prefer", description=f"`wait=N`: hold the answer up to N s, at most {LONGEST_WAIT_S}"),
]


def wait_seconds(prefer: str | None) -> int:
    """N of `Prefer: wait=N`, at most 30; 0 without one. A preference that is not understood is ignored (RFC 7240)."""
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit() and len(digits) < 10:
            return min(int(digits), LONGEST_WAIT_S)
    return 0

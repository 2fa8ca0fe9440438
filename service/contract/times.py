"""Times as they are stored and sent: UTC, to the millisecond, RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, PlainSerializer


def now() -> datetime:
    """The time in UTC, to the millisecond."""
    return _to_utc_ms(datetime.now(UTC))


def _to_utc_ms(value: datetime) -> datetime:
    try:
        utc = value.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from error
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _refuse_numbers(value: object) -> object:
    """Numbers, also as text, would be read as seconds since 1970: 20261123 is a day to whoever sends it."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-", value)):
        return value
    raise ValueError("is no time of RFC 3339: send such as 2026-11-23T08:15:30Z")


def rfc3339(value: datetime) -> str:
    """`2026-11-23T08:15:30.120Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_refuse_numbers),
    AfterValidator(_to_utc_ms),
    PlainSerializer(rfc3339, return_type=str),
]

"""Times as they are stored and sent: UTC, to the millisecond, RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, PlainSerializer


def now() -> datetime:
    """The time in UTC, to the millisecond."""
    return _to_utc_ms(datetime.now(UTC))


def _to_utc_ms(value: datetime) -> datetime:
    try:
        utc = value.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from error
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def rfc3339(value: datetime) -> str:
    """`2026-11-23T08:15:30.120Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[AwareDatetime, AfterValidator(_to_utc_ms), PlainSerializer(rfc3339, return_type=str)]

"""Parts as CSV (RFC 4180), for a spreadsheet: a line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from glad_client.fields import rfc3339
from model_store.csv_lines import csv_line
from service.queue.clock import from_ms
from service.queue.parts import CountedPart, disposition_of

CSV_TYPE = "text/csv; charset=utf-8"
COLUMNS = (
    "serial",
    "verdict",
    "ended_at",
    "product",
    "station",
    "view",
    "defect_codes",
    "disposition",
    "no_result",
    "views",
    "inspection_id",
)


def prefers_csv(accept: str | None) -> bool:
    """Return whether an `Accept` header names CSV before JSON."""
    for item in (accept or "").lower().split(","):
        kind = item.partition(";")[0].strip()
        if kind in {"text/csv", "application/json", "*/*"}:
            return kind == "text/csv"
    return False


def csv_lines(parts: Iterable[CountedPart], dispositions: Mapping[str, str]) -> Iterator[str]:
    """Yield the heading and a line for each part. Product, station and view are those of the view that decides.

    Args:
        parts: to write.
        dispositions: inspection -> what was decided to do with the part.
    """
    yield csv_line(COLUMNS)
    for part in parts:
        worst = part.worst
        yield csv_line(
            (
                part.serial,
                part.verdict.value,
                rfc3339(from_ms(part.ended_ms)),
                worst.product,
                worst.station,
                worst.view,
                " ".join(sorted(code for code in part.defect_codes if code is not None)),
                disposition_of(part, dispositions),
                "yes" if part.lacks_result else None,
                len(part.views),
                None if worst.image is None else worst.image.id,
            )
        )

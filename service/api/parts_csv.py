"""Parts as CSV (RFC 4180), for a spreadsheet: a line each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping

from glad_client.types import rfc3339
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
_BEGINS_FORMULA = re.compile(r"(?:^|(?<=;))(?=\s*[=+\-@＝＋－＠])")
"""Where a spreadsheet may see a formula begin: of a cell, or behind a semicolon, which is what parts cells for one that
is set to German. The wide signs count where Chinese or Japanese is set."""


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
    yield _line(COLUMNS)
    for part in parts:
        worst = part.worst
        yield _line(
            (
                part.serial or "",
                part.verdict.value,
                rfc3339(from_ms(part.ended_ms)),
                worst.product or "",
                worst.station or "",
                worst.view or "",
                " ".join(sorted(code for code in part.defect_codes if code is not None)),
                disposition_of(part, dispositions) or "",
                "yes" if part.lacks_result else "",
                str(len(part.views)),
                "" if worst.image is None else worst.image.id,
            )
        )


def _line(cells: Iterable[str]) -> str:
    target = io.StringIO()
    csv.writer(target).writerow(map(_as_text, cells))
    return target.getvalue()


def _as_text(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: serials and stations are what a line has sent."""
    return _BEGINS_FORMULA.sub("'", cell)

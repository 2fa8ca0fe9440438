r"""Lines of CSV files that we write, safe to open in a spreadsheet; all our CSV files are made of them.

A spreadsheet calculates a cell that begins with a sign such as =, and many cells hold what others chose: a serial, a
station, a file's name. Such a text gets an apostrophe before it, by which spreadsheets know a text:

    =HYPERLINK("…")     '=HYPERLINK("…")
    SN-7;=1+1           SN-7;'=1+1         a spreadsheet that is set to German parts cells at semicolons
    -0.5                '-0.5              as a text, such as a serial
    -0.5                -0.5               as a number

`unguarded` gives the text as it was.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from numbers import Number

_CELL_BEGINS = r"(?:^|(?<=[;\t\r\n]))"
r"""Where a spreadsheet may see a cell begin: at its beginning, and behind what parts cells or lines for some. A
spreadsheet that parts at semicolons does not heed the quotes of a cell that began behind a comma."""
_FORMULA_BEGINS = r"[\s'\"]*[=+\-@＝＋－＠\t\r]"
"""What it may take for the beginning of a formula. The wide signs count where Chinese or Japanese is set; a tab or a
carriage return is skipped by some. Apostrophes stand here so that a guard can be taken off again without doubt."""
_UNGUARDED = re.compile(f"{_CELL_BEGINS}(?={_FORMULA_BEGINS})")
_GUARD = re.compile(f"{_CELL_BEGINS}'(?={_FORMULA_BEGINS})")


def csv_line(cells: Iterable[object]) -> str:
    r"""Return a line of a CSV file (RFC 4180), with its end `\r\n`.

    Args:
        cells: numbers stay numbers, None is an empty cell, and everything else is a text that no spreadsheet takes for
            a formula.
    """
    line = io.StringIO()
    csv.writer(line).writerow(
        cell if cell is None or isinstance(cell, Number) else guarded(str(cell)) for cell in cells
    )
    return line.getvalue()


def guarded(text: str) -> str:
    """Return a text with an apostrophe wherever a spreadsheet would take the rest for a formula."""
    return _UNGUARDED.sub("'", text)


def unguarded(text: str) -> str:
    """Return the text of which `guarded` has made this one; a text without a guard is returned as it is."""
    return _GUARD.sub("", text)

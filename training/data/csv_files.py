"""CSV files of a data folder, as spreadsheets write them: encoding and separator are found, or named in an error."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.data.image_files import DataError

SEPARATORS = ",;\t"
"""A spreadsheet writes semicolons where the comma separates decimals, and tabs into its Unicode text."""
WITH_MARK = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
SAVE_AS = "save it as UTF-8, in a spreadsheet as `CSV UTF-8`"


@dataclass(frozen=True)
class CsvLine:
    """A line of a CSV file."""

    number: int
    """Of the file's line, from 1."""
    fields: Mapping[str, str | None]


@dataclass(frozen=True)
class CsvFile:
    """A CSV file with a line of column names."""

    columns: tuple[str, ...]
    lines: tuple[CsvLine, ...]


def read_csv(path: Path) -> CsvFile:
    """Return a CSV file's columns and lines.

    UTF-8 is read, and UTF-16 and UTF-32 with a byte order mark; columns may be separated by commas, semicolons or tabs.

    Raises:
        DataError: for another encoding, or quotes that do not close; names the file, the line and what to do.
    """
    text = _decoded(path, path.read_bytes())
    header = text.partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)  # the first of them, a comma, where there is none
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = tuple(reader.fieldnames or ())
        return CsvFile(columns, tuple(CsvLine(reader.line_num, fields) for fields in reader))
    except csv.Error as error:
        raise DataError(f"{path} is not CSV from line {reader.line_num} on ({error}): look at its quotes") from error


def _decoded(path: Path, content: bytes) -> str:
    encoding = next((name for mark, name in WITH_MARK if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content:
        raise DataError(f"{path} holds bytes of 0, as UTF-16 without a byte order mark does: {SAVE_AS}")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        likely = ", but probably Windows-1252 or Latin-1" if encoding == "utf-8" else ""
        raise DataError(
            f"line {line} of {path} is not {encoding.upper().removesuffix('-SIG')}{likely} (the byte "
            f"0x{content[error.start]:02x}): {SAVE_AS}"
        ) from error

"""Closing the archive's days: one file for each day that is over, made of its parts, which are then removed."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import structlog

from service.outbox.archive_parts import SUFFIX, Part, place
from service.storage.artifacts import ArtifactFolder

log = structlog.get_logger(__name__)


def close_days(folder: ArtifactFolder, parts: Iterable[Part]) -> tuple[str, ...]:
    """Makes one file of each day's parts; returns the days that could not be made: they stay in parts, to be tried
    again."""
    in_order = sorted(parts, key=lambda part: (part.day, place(part.first)))
    days = [(day, [part.name for part in of_day]) for day, of_day in groupby(in_order, lambda part: part.day)]
    return tuple(day for day, names in days if not _is_closed(folder, day, names))


def _is_closed(folder: ArtifactFolder, day: str, parts: Sequence[str]) -> bool:
    try:
        _close(folder, f"{day}{SUFFIX}", parts)
    except Exception as error:  # a damaged file raises what it likes: zlib.error, EOFError, KeyError
        log.error("day of the archive left in parts", day=day, error=str(error), kind=type(error).__name__)
        return False
    return True


def _close(folder: ArtifactFolder, name: str, parts: Sequence[str]) -> None:
    begun = [name] if name in folder.names() else []
    whole = io.BytesIO()
    with gzip.GzipFile(fileobj=whole, mode="wb", mtime=0) as target:
        for line in _once(_lines(folder, file) for file in [*begun, *parts]):
            target.write(line)
    folder.put(name, whole.getvalue())
    for part in parts:
        folder.remove(part)
    log.info("day of the archive written", file=name, parts=len(parts), bytes=whole.tell())


def _lines(folder: ArtifactFolder, name: str) -> Iterator[bytes]:
    """One by one: a day unpacked is ten times as large."""
    with gzip.open(io.BytesIO(folder.get(name))) as file:
        yield from file


def _once(files: Iterable[Iterator[bytes]]) -> Iterator[bytes]:
    """The lines of these files, each event once."""
    seen: set[str] = set()
    for lines in files:
        for line in lines:
            event_id = json.loads(line)["event_id"]
            if event_id not in seen:
                seen.add(event_id)
                yield line

"""The files that a hot folder moves away. Those that are written on after that go back: they were not complete.

A rename keeps the file that its writer has open: what is still written arrives in the new place. So the place is looked
at, and a file that changes there is moved back, settles, and is posted as it then is.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from glad_client.camera.journal import Journal, SentFile, Stamp, stamp_of

_URI = "file://"
_REFUSED_S, _ACCEPTED_S = 86_400.0, 60.0
"""How long a file that was moved away is looked at, in seconds. What becomes whole later than that is not found."""


@dataclass(frozen=True)
class MovedFile:
    """A file in the place that it was moved to."""

    path: Path
    home: Path
    """The path that it was moved away from."""
    stamp: Stamp
    inode: int | None
    """None: any change counts. Else another file in its place is another program's: nobody has written on this one."""
    until: float
    """Until when it is looked at; a time of time.monotonic."""

    def was_written_on(self) -> bool:
        """Return whether it has changed since it was moved.

        Raises:
            FileNotFoundError: if it is gone.
        """
        status = self.path.stat()
        same_file = self.inode in (None, status.st_ino)
        return same_file and self.stamp != Stamp(status.st_size, status.st_mtime_ns)


class MovedFiles:
    """Moves files away and finds those that were written on: refused ones for a day, accepted ones for a minute.

    The journal lists the refused ones by their file URIs, which no name within the hot folder can be; so a restart
    knows them.
    """

    def __init__(self, journal: Journal, folder: Path) -> None:
        """Find the refused files that an earlier run has moved out of this folder."""
        self._journal = journal
        until = time.monotonic() + _REFUSED_S
        found = [(line, _path_of(line.file), _path_of(line.moved_from)) for line in journal.lines() if line.moved_from]
        self._moved = {
            path: MovedFile(path, home, line.stamp, None, until)
            for line, path, home in found
            if home.is_relative_to(folder)  # not, if the folder was renamed since then
        }

    def names(self) -> frozenset[str]:
        """Return the names under which the journal lists the files that are looked at."""
        return frozenset(path.as_uri() for path in self._moved)

    def move(self, source: Path, target: Path, sent: SentFile) -> None:
        """Move a file that was sent; one that has changed since then stays: the next poll posts it.

        Raises:
            OSError: if it cannot be moved.
        """
        if stamp_of(source) != sent.stamp:
            return
        if sent.refused is not None:  # before the move, so that a crash between the two forgets nothing
            self._journal.add(sent.model_copy(update={"file": target.as_uri(), "moved_from": source.as_uri()}))
        if not move_file(source, target):
            return
        inode = None if sent.refused is not None else target.stat().st_ino
        until = time.monotonic() + (_ACCEPTED_S if sent.refused is None else _REFUSED_S)
        self._moved[target] = MovedFile(target, source, sent.stamp, inode, until)

    def take_back(self) -> Iterator[tuple[MovedFile, OSError | None]]:
        """Move back the files that were written on; yield each one, with the error if it cannot be moved.

        While another file of its name lies in its old place, a file waits for that one to be moved away.
        """
        for moved in list(self._moved.values()):
            try:
                if not self._is_to_go_back(moved):
                    continue
                move_file(moved.path, moved.home)
            except OSError as error:
                yield moved, error
            else:
                yield moved, None
            del self._moved[moved.path]

    def _is_to_go_back(self, moved: MovedFile) -> bool:
        """Return whether a file is to be moved back now; forget one that is gone, or was looked at for long enough."""
        try:
            if moved.was_written_on():
                return not moved.home.exists()
        except FileNotFoundError:
            del self._moved[moved.path]
            return False
        except OSError:  # a network share that is away comes back
            return False
        if time.monotonic() >= moved.until:
            del self._moved[moved.path]
        return False


def move_file(source: Path, target: Path) -> bool:
    """Move a file, also to another file system; return whether it was moved.

    A copy to another file system would lose what is written to the source meanwhile: a source that changes stays.

    Raises:
        OSError: if it cannot be moved.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except FileNotFoundError:
        raise
    except OSError:
        return _copy_and_remove(source, target)
    return True


def _copy_and_remove(source: Path, target: Path) -> bool:
    before = stamp_of(source)
    copy = target.with_name(f".{uuid4().hex}.tmp")  # a reader of the folder never meets half a file
    try:
        shutil.copy2(source, copy)
        if stamp_of(source) != before:
            return False
        copy.replace(target)
    finally:
        copy.unlink(missing_ok=True)
    source.unlink()
    return True


def _path_of(uri: str) -> Path:
    """Return the path of a file URI, exactly, also where its name is not UTF-8."""
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix(_URI))))

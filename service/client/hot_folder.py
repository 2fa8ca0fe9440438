"""A hot folder: image files that a camera or another program puts there are posted, each one once.

    look → settled → sent → written to the journal → moved away, or left

A file is complete when its size and time have stood still for a while; what is moved in stands still from the start.
The journal remembers what was sent, so that a restart sends nothing again. Where the journal was lost, or the restart
came between sending and remembering, the Idempotency-Key made of name and content makes it the same inspection.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.client.camera import SUFFIXES, Shot, image_key
from service.client.client import ApiError, Client, ClientError
from service.client.destination import Destination, NameDoesNotMatch
from service.client.journal import JOURNAL, Journal, Sent, Stamp

REFUSED = "refused"
"""Folder for images that the service does not take, under the one that files are moved to."""
_OF_THE_IMAGE = frozenset({400, 413, 415, 422})
"""Statuses that the same image would get again."""
_KNOWN = 409
"""Name and content make the key: before the journal was lost the image was posted, and the options were others then."""
PUT_OFF_S = 5.0
"""Between two looks where nothing can be posted."""
_POLLED_AT_ONCE = 50


class PutOff(Exception):
    """Nothing can be posted now: the service, the folder or the journal is away. The next look tries again."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


class Settling:
    """Knows which files have stood still for long enough."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._since: dict[str, tuple[Stamp, float]] = {}

    def settled(self, files: Mapping[str, Stamp], now: float) -> list[str]:
        """Those that have not changed for `settle_s`, by the times of these calls, the oldest first. An empty file is
        one that somebody is about to write."""
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == stamp else (stamp, now)
            for name, stamp in files.items()
        }
        still = [name for name, (stamp, since) in self._since.items() if stamp.size and now - since >= self._settle_s]
        return sorted(still, key=lambda name: (files[name].modified_ns, name))


@dataclass(frozen=True)
class _Waiting:
    """A shot whose result is awaited."""

    shot: Shot
    until: float


class HotFolder:
    """Posts what appears in a folder."""

    def __init__(
        self,
        client: Client,
        addressee: Destination,
        folder: Path,
        *,
        move_to: Path | None = None,
        settle_s: float = 1.0,
        every_s: float = 0.5,
    ) -> None:
        """`move_to`: where files go when the service has them; None: they stay. `every_s`: between two looks. OSError
        if the folder or its journal cannot be read and written."""
        self._client, self._addressee = client, addressee
        self._folder = folder.resolve()
        self._move_to = None if move_to is None else move_to.resolve()
        self._every_s = every_s
        self._journal = Journal(folder / JOURNAL)
        self._settling = Settling(settle_s)
        self._unmovable: set[str] = set()
        self._left: dict[str, Stamp] = {}

    def run(self, stopped: threading.Event, wait_s: float | None) -> Iterator[Shot]:
        """Each image's outcome, as it comes, until stopped. `wait_s`: for its result; None: not."""
        waiting: list[_Waiting] = []
        told: str | None = None
        while not stopped.is_set():
            pause_s = self._every_s
            try:
                for shot in self.poll():
                    told = None
                    if wait_s is None or shot.inspection is None or shot.inspection.state.final:
                        yield shot
                    else:
                        waiting.append(_Waiting(shot, time.monotonic() + wait_s))
                    if stopped.is_set():
                        return
            except PutOff as error:
                pause_s = PUT_OFF_S
                if told != (told := error.reason):
                    yield Shot(file=error.file, error=f"tried again later: {error.reason}")
            yield from self._developed(waiting, stopped)
            stopped.wait(pause_s)

    def poll(self) -> Iterator[Shot]:
        """Posts what is complete and was not posted yet. PutOff where nothing can be posted now."""
        files = self._files()
        for name in self._settling.settled(files, time.monotonic()):
            known = self._journal.of(name)
            if known is not None and known.stamp == files[name]:
                self._move_once(known)
                continue
            shot = self._post(name, files[name], known)
            if shot is not None:
                yield shot

    def _files(self) -> dict[str, Stamp]:
        try:
            if not self._folder.is_dir():
                raise FileNotFoundError(f"{self._folder} is not there")
            files = dict(_images(self._folder, self._move_to))
            self._journal.keep_only(files)
        except OSError as error:
            raise PutOff(str(self._folder), str(error)) from error
        self._left = {name: stamp for name, stamp in self._left.items() if name in files}
        self._unmovable &= files.keys()
        return files

    def _post(self, name: str, stamp: Stamp, known: Sent | None) -> Shot | None:
        """None: nothing to post, after all."""
        try:
            content = (self._folder / name).read_bytes()
            if _stamp(self._folder / name) != stamp:
                return None
        except OSError as error:
            return self._told_once(name, stamp, error)
        digest = hashlib.sha256(content).hexdigest()
        sent = Sent(file=name, size=stamp.size, modified_ns=stamp.modified_ns, sha256=digest)
        try:
            if known is not None and known.sha256 == digest:  # touched, or written again as it was
                self._finish(known.model_copy(update={"size": stamp.size, "modified_ns": stamp.modified_ns}))
                return None
            return self._send(sent, content)
        except NameDoesNotMatch as error:
            return self._told_once(name, stamp, error)
        except (ClientError, OSError) as error:
            raise PutOff(name, str(error)) from error

    def _told_once(self, name: str, stamp: Stamp, error: Exception) -> Shot | None:
        """It stays, and is looked at again; to say so once is enough."""
        if isinstance(error, FileNotFoundError) or self._left.get(name) == stamp:
            return None
        self._left[name] = stamp
        return Shot(file=name, error=str(error))

    def _send(self, sent: Sent, content: bytes) -> Shot:
        key = image_key("", sent.file, content)
        try:
            inspection = self._addressee.post(self._client, sent.file, content, key)
        except ApiError as error:
            if error.status == _KNOWN:
                return Shot(file=sent.file, error=self._finish(sent) or f"posted before, with other fields: {error}")
            if error.status not in _OF_THE_IMAGE:
                raise
            problem = self._finish(sent.model_copy(update={"refused": str(error)}))
            return Shot(file=sent.file, error=problem or str(error))
        problem = self._finish(sent.model_copy(update={"inspection_id": inspection.id}))
        return Shot(file=sent.file, inspection=inspection, error=problem)

    def _finish(self, sent: Sent) -> str | None:
        """Remembers, and moves the file away where that is wanted; what went wrong with that."""
        self._journal.add(sent)
        return self._move_once(sent)

    def _move_once(self, sent: Sent) -> str | None:
        if self._move_to is None or sent.file in self._unmovable:
            return None
        source = self._folder / sent.file
        try:
            if _stamp(source) != sent.stamp:  # written anew meanwhile: the next look posts it
                return None
            _move(source, self._target(self._move_to, sent))
        except FileNotFoundError:  # somebody else took it away
            return None
        except OSError as error:
            self._unmovable.add(sent.file)
            return f"done with, but not moved: {error}"
        return None

    def _target(self, move_to: Path, sent: Sent) -> Path:
        target = (move_to / REFUSED if sent.refused else move_to) / sent.file
        if not target.exists():
            return target
        return target.with_name(f"{target.stem}-{sent.sha256[:8]}{target.suffix}")

    def _developed(self, waiting: list[_Waiting], stopped: threading.Event) -> Iterator[Shot]:
        """Those that have ended, or were waited for long enough: taken out of the list. A service that is away is asked
        once: each question lasts as long as the client is patient."""
        for one in waiting[:_POLLED_AT_ONCE]:
            if stopped.is_set():
                return
            try:
                shot = self._asked(one)
            except ClientError:
                return
            if shot is not None:
                waiting.remove(one)
                yield shot

    def _asked(self, waiting: _Waiting) -> Shot | None:
        """The shot with its result; None while it may still come. ClientError: there is no service to ask."""
        assert waiting.shot.inspection is not None
        try:
            found = self._client.get(waiting.shot.inspection.id)
        except ApiError as error:
            return waiting.shot.model_copy(update={"error": str(error)})
        if found.state.final:
            return waiting.shot.model_copy(update={"inspection": found})
        if time.monotonic() < waiting.until:
            return None
        return waiting.shot.model_copy(update={"error": f"inspection {found.id} is still {found.state.value}"})


def _images(folder: Path, move_to: Path | None) -> Iterator[tuple[str, Stamp]]:
    """Name relative to the folder, and stamp, of every image file there; hidden ones are being written by somebody."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        moved = move_to is not None and path.is_relative_to(move_to)
        if hidden or moved or path.suffix.lower() not in SUFFIXES:
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield name.as_posix(), _stamp(path)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)

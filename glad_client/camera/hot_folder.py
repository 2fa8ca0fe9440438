"""A hot folder: image files that a camera or another program puts into it are posted, each one once.

    found → settled → sent → written to the journal → moved away, or left

A file counts as complete when its size and time have not changed for a while; a file that is moved into the folder does
not change from the start. A camera that stalls for longer leaves a half, which the service refuses: so a refused file
stays for a minute more, and is posted again when it changes; one that changes after it was moved comes back
(`glad_client.camera.moved_files`).

The journal lists what was sent, so a restart sends nothing again. If the journal was lost, or the restart came between
sending and writing, the idempotency key, made of name and content, makes it the same inspection.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glad_client.camera.destination import Destination, NameDoesNotMatch
from glad_client.camera.journal import JOURNAL, Journal, SentFile, Stamp, stamp_of
from glad_client.camera.line_camera import (
    SUFFIXES,
    CameraShot,
    accepted_without_result,
    image_key,
    readable_name,
)
from glad_client.camera.moved_files import MovedFiles
from glad_client.client import Client
from glad_client.errors import ApiError, ClientError

REFUSED = "refused"
"""Name of the folder for images that the service refuses; it lies in the folder that files are moved to."""
REFUSED_S = 60.0
"""Seconds without change after which a refused file is moved away: until then it may be the half of a slow writer."""
_OF_THE_IMAGE = frozenset({400, 413, 415, 422})
"""Statuses that are due to the image: it would get them again."""
_POSTED_BEFORE = 409
"""Status for a key that was used with other options: the image was posted before, and the journal was lost."""
PUT_OFF_S = 5.0
"""Seconds between two polls of the folder while nothing can be posted."""
_RESULTS_PER_POLL = 50
"""Awaited results that are asked for between two polls of the folder."""


class PutOff(Exception):
    """Nothing can be posted now: the service, the folder or the journal is not available. The next poll tries again."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


class Settling:
    """Finds the files that have not changed for long enough."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._since: dict[str, tuple[Stamp, float]] = {}

    def settled(self, files: Mapping[str, Stamp], now: float) -> list[str]:
        """Return the names of the files that have not changed for `settle_s`, the oldest first.

        How long a file has not changed is measured between these calls, not by its time, which another machine's clock
        may have set. An empty file never counts as complete: its content is still to be written.
        """
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == stamp else (stamp, now)
            for name, stamp in files.items()
        }
        still = [name for name, stamp in files.items() if stamp.size and self.unchanged_s(name, now) >= self._settle_s]
        return sorted(still, key=lambda name: (files[name].modified_ns, name))

    def unchanged_s(self, name: str, now: float) -> float:
        """Return for how long a file of the last call has not changed, in seconds."""
        return now - self._since[name][1]


@dataclass(frozen=True)
class _Found:
    """An image file that lies in the folder."""

    path: Path
    stamp: Stamp


@dataclass(frozen=True)
class _Waiting:
    """An image whose result is awaited, until a time of time.monotonic."""

    shot: CameraShot
    until: float


class HotFolder:
    """Posts the images that appear in a folder."""

    def __init__(
        self,
        client: Client,
        destination: Destination,
        folder: Path,
        *,
        move_to: Path | None = None,
        settle_s: float = 1.0,
        refused_s: float = REFUSED_S,
        every_s: float = 0.5,
    ) -> None:
        """Open the folder and its journal.

        Args:
            move_to: folder for files that the service has accepted; None: they stay where they are.
            settle_s: how long a file must not change before it is posted, in seconds.
            refused_s: how long a refused file must not change before it is moved, in seconds.
            every_s: seconds between two polls of the folder.

        Raises:
            OSError: if the folder or its journal cannot be read and written.
        """
        self._client, self._destination = client, destination
        self._folder = folder.resolve()
        self._move_to = None if move_to is None else move_to.resolve()
        self._refused_s, self._every_s = refused_s, every_s
        self._journal = Journal(folder / JOURNAL)
        self._settling = Settling(settle_s)
        self._moved = MovedFiles(self._journal, self._folder)
        self._found: dict[str, _Found] = {}
        self._unmovable: set[str] = set()
        self._left: dict[str, Stamp | None] = {}

    def run(self, stopped: threading.Event, wait_s: float | None) -> Iterator[CameraShot]:
        """Yield each image's outcome as it comes, until `stopped` is set.

        Args:
            wait_s: how long to wait for each result, in seconds; None: do not wait.
        """
        waiting: list[_Waiting] = []
        last_reason: str | None = None
        while not stopped.is_set():
            pause_s = self._every_s
            try:
                for shot in self.poll():
                    last_reason = None
                    if wait_s is None or shot.inspection is None or shot.inspection.state.final:
                        yield shot
                    else:
                        waiting.append(_Waiting(shot, time.monotonic() + wait_s))
                    if stopped.is_set():
                        return
            except PutOff as error:
                pause_s = PUT_OFF_S
                if last_reason != (last_reason := error.reason):  # a lasting outage is reported once
                    yield CameraShot(file=error.file, error=f"tried again later: {error.reason}")
            yield from self._results(waiting, stopped)
            stopped.wait(pause_s)

    def poll(self) -> Iterator[CameraShot]:
        """Post the files that are complete and not posted yet; yield their outcomes.

        Raises:
            PutOff: if nothing can be posted now.
        """
        yield from self._take_back()
        yield from self._look()
        files = {name: found.stamp for name, found in self._found.items()}
        for name in self._settling.settled(files, time.monotonic()):
            known = self._journal.find(name)
            if known is not None and known.stamp == files[name]:
                shot = self._moved_now(known)
            else:
                shot = self._post(name, files[name], known)
            if shot is not None:
                yield shot

    def _take_back(self) -> Iterator[CameraShot]:
        """Move back the files that were written on after they were moved away."""
        for moved, error in self._moved.take_back():
            name = readable_name(moved.home.relative_to(self._folder).as_posix())
            changed = f"it changed after it was moved to {readable_name(moved.path)}"
            went = "moved back, and posted again" if error is None else f"not moved back, see to it: {error}"
            yield CameraShot(file=name, error=f"{changed}: {went}")

    def _look(self) -> Iterator[CameraShot]:
        """Find the files of the folder; yield those that cannot be looked at."""
        try:
            if not self._folder.is_dir():
                raise FileNotFoundError(f"folder {readable_name(self._folder)} does not exist")
            found, closed = _images(self._folder, self._move_to)
            self._journal.keep_only(found.keys() | self._moved.names())
        except OSError as error:
            raise PutOff(readable_name(self._folder), str(error)) from error
        self._found = found
        self._left = {name: stamp for name, stamp in self._left.items() if name in found or name in closed}
        self._unmovable &= found.keys()
        for name, problem in closed.items():
            if (shot := self._report_once(name, None, problem)) is not None:
                yield shot

    def _post(self, name: str, stamp: Stamp, known: SentFile | None) -> CameraShot | None:
        """Post one file; return None if it turns out that there is nothing to post or to report."""
        try:
            content = self._found[name].path.read_bytes()
            if stamp_of(self._found[name].path) != stamp:  # it changed while it was read: the next poll finds it again
                return None
        except OSError as error:
            return self._report_once(name, stamp, error)
        digest = hashlib.sha256(content).hexdigest()
        sent = SentFile(file=name, size=stamp.size, modified_ns=stamp.modified_ns, sha256=digest)
        try:
            if known is not None and known.sha256 == digest:  # touched, or written again as it was
                self._finish(known.model_copy(update={"size": stamp.size, "modified_ns": stamp.modified_ns}))
                return None
            return self._send(sent, content)
        except NameDoesNotMatch as error:
            return self._report_once(name, stamp, error)
        except (ClientError, OSError) as error:
            raise PutOff(name, str(error)) from error

    def _report_once(self, name: str, stamp: Stamp | None, error: Exception) -> CameraShot | None:
        """Return the error of a file that stays and is tried again; None if it was reported before."""
        if isinstance(error, FileNotFoundError) or self._left.get(name, ...) == stamp:
            return None
        self._left[name] = stamp
        return CameraShot(file=name, error=str(error))

    def _send(self, sent: SentFile, content: bytes) -> CameraShot:
        key = image_key("", sent.file, content)
        try:
            inspection = self._destination.post(self._client, sent.file, content, key)
        except ApiError as error:
            if error.status == _POSTED_BEFORE:
                conflict = self._finish(sent) or f"posted before, with other fields: {error}"
                return CameraShot(file=sent.file, error=conflict)
            if error.status not in _OF_THE_IMAGE:
                raise
            problem = self._finish(sent.model_copy(update={"refused": str(error)}))
            return CameraShot(file=sent.file, error=problem or f"{error} (posted again when the file changes)")
        problem = self._finish(sent.model_copy(update={"inspection_id": inspection.id}))
        return CameraShot(file=sent.file, inspection=inspection, error=problem)

    def _finish(self, sent: SentFile) -> str | None:
        """Write the file to the journal and move it away if wanted; return why it was not moved."""
        self._journal.add(sent)
        return self._move_once(sent)

    def _moved_now(self, sent: SentFile) -> CameraShot | None:
        """Move a file away that was sent before; return why that failed, the first time only."""
        problem = self._move_once(sent)
        return None if problem is None else CameraShot(file=sent.file, error=problem)

    def _move_once(self, sent: SentFile) -> str | None:
        """Move the file away if wanted; return why that failed, the first time only."""
        if self._move_to is None or sent.file in self._unmovable or self._may_be_half(sent):
            return None
        source = self._found[sent.file].path
        try:
            self._moved.move(source, self._target(self._move_to, source, sent), sent)
        except FileNotFoundError:  # another program removed it
            return None
        except OSError as error:
            self._unmovable.add(sent.file)
            return f"posted, but not moved: {error}"
        return None

    def _may_be_half(self, sent: SentFile) -> bool:
        """Whether a file was refused and has changed lately: then its writer may have stalled only."""
        unchanged_s = self._settling.unchanged_s(sent.file, time.monotonic())
        return sent.refused is not None and unchanged_s < self._refused_s

    def _target(self, move_to: Path, source: Path, sent: SentFile) -> Path:
        target = (move_to / REFUSED if sent.refused else move_to) / source.relative_to(self._folder)
        if not target.exists():
            return target
        return target.with_name(f"{target.stem}-{sent.sha256[:8]}{target.suffix}")

    def _results(self, waiting: list[_Waiting], stopped: threading.Event) -> Iterator[CameraShot]:
        """Yield images whose inspection has ended, or was awaited for long enough, and remove them from the list."""
        for one in waiting[:_RESULTS_PER_POLL]:
            if stopped.is_set():
                return
            try:
                shot = self._result(one)
            except ClientError:  # the service is away, and each further request would take the client's whole patience
                return
            if shot is not None:
                waiting.remove(one)
                yield shot

    def _result(self, waiting: _Waiting) -> CameraShot | None:
        """Return the image with its result; None while the result may still come.

        Raises:
            ClientError: if the service cannot be reached.
        """
        assert waiting.shot.inspection is not None
        try:
            inspection = self._client.get(waiting.shot.inspection.id)
        except ApiError as error:
            return waiting.shot.model_copy(update={"error": accepted_without_result(error)})
        if inspection.state.final:
            return waiting.shot.model_copy(update={"inspection": inspection})
        if time.monotonic() < waiting.until:
            return None
        problem = f"inspection {inspection.id} is still {inspection.state.value}"
        return waiting.shot.model_copy(update={"error": problem})


def _images(folder: Path, move_to: Path | None) -> tuple[dict[str, _Found], dict[str, PermissionError]]:
    """Return the image files by name (relative to the folder), and those that may not be looked at.

    Hidden files are still being written.
    """
    found: dict[str, _Found] = {}
    closed: dict[str, PermissionError] = {}
    for path in folder.rglob("*"):
        within = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in within.parts)
        moved = move_to is not None and path.is_relative_to(move_to)
        if hidden or moved or path.suffix.lower() not in SUFFIXES:
            continue
        name = readable_name(within.as_posix())
        try:
            if path.is_file():
                found[name] = _Found(path, stamp_of(path))
        except FileNotFoundError:  # moved away meanwhile
            continue
        except PermissionError as error:
            closed[name] = error
    return found, closed

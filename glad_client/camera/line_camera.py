"""A simulated line camera: posts a folder's images at a fixed rate and yields the verdicts as they come."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from glad_client.camera.destination import Destination, NameDoesNotMatch
from glad_client.client import Client
from glad_client.errors import ClientError
from glad_client.results import Result, State

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
CONNECTIONS = 32


class CameraShot(BaseModel):
    """One image and its outcome: an inspection, an error, or both."""

    file: str
    inspection: Result | None = None
    error: str | None = None
    accept_ms: float | None = None
    """From the beginning of the POST to its answer; None: it was not sent."""

    @property
    def has_result(self) -> bool:
        """Whether the inspection is done and has a verdict."""
        return self.inspection is not None and self.inspection.state is State.DONE

    @property
    def is_accepted(self) -> bool:
        """Whether the service accepted the image."""
        return self.inspection is not None


class CameraReport(BaseModel):
    """All outcomes of one run; `glad camera --json` writes it."""

    url: str
    product: str | None
    station: str | None
    images: int
    results: int
    seconds: float
    shots: tuple[CameraShot, ...]


@dataclass(frozen=True)
class LineCamera:
    """Posts images in an open loop: each at its time, however long the answers to earlier ones take."""

    client: Client
    destination: Destination
    rate: float
    """Images per second."""
    run: str = ""
    """Part of every idempotency key: within one run an image is inspected once, even if it is posted several times."""

    def shoot(self, root: Path, files: Sequence[Path], wait_s: float | None) -> Iterator[CameraShot]:
        """Post the files and yield each one's outcome, in their order.

        Args:
            root: folder that the files' names are relative to.
            wait_s: how long to wait for each result, in seconds; None: do not wait.
        """
        stopped = threading.Event()
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="camera") as pool:
            began = time.monotonic()
            sent: list[Future[CameraShot]] = [
                pool.submit(self._post_at, began + number / self.rate, root, file, stopped)
                for number, file in enumerate(files)
            ]
            try:
                for future in sent:
                    shot = future.result()
                    yield shot if wait_s is None else self._with_result(shot, wait_s)
            finally:
                stopped.set()  # wakes the threads that wait for an image's time
                pool.shutdown(cancel_futures=True)

    def _post_at(self, when: float, root: Path, file: Path, stopped: threading.Event) -> CameraShot:
        name = readable_name(file.relative_to(root).as_posix())
        if stopped.wait(max(0.0, when - time.monotonic())):
            return CameraShot(file=name, error="not sent: stopped before its time")
        try:
            content = file.read_bytes()
            key, began = image_key(self.run, name, content), time.monotonic()
            inspection = self.destination.post(self.client, name, content, key)
            return CameraShot(file=name, inspection=inspection, accept_ms=1e3 * (time.monotonic() - began))
        except (ClientError, NameDoesNotMatch, OSError) as error:
            return CameraShot(file=name, error=str(error))

    def _with_result(self, shot: CameraShot, wait_s: float) -> CameraShot:
        if shot.inspection is None or shot.inspection.state.final:
            return shot
        try:
            return shot.model_copy(update={"inspection": self.client.wait(shot.inspection.id, wait_s)})
        except ClientError as error:
            return shot.model_copy(update={"error": accepted_without_result(error)})


def accepted_without_result(error: ClientError) -> str:
    """Return what a person reads of an image that the service has, and whose result cannot be had here."""
    return f"accepted; no result here: {error}"


def readable_name(name: str | Path) -> str:
    r"""Return a file's name as text that can be printed, sent and stored: bytes that are not UTF-8 become `\xe4`.

    A camera or an old Windows program may write names in another encoding; such an image is an image like any other.
    """
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def image_key(run: str, name: str, content: bytes) -> str:
    """Return the idempotency key of an image file: within one run, the same name and content are the same image.

    Args:
        name: as `readable_name` gives it.
    """
    return hashlib.sha256(f"{run}\0{name}\0".encode() + content).hexdigest()


def find_images(folder: Path, limit: int | None = None) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted by path; at most `limit`.

    Raises:
        ValueError: if the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one that holds images")
    images = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not images:
        raise ValueError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}): give another folder")
    return images[:limit]


def make_report(camera: LineCamera, shots: Sequence[CameraShot], seconds: float) -> CameraReport:
    """Return the report of a run that took this many seconds."""
    return CameraReport(
        url=camera.client.url,
        product=camera.destination.product,
        station=camera.destination.station,
        images=len(shots),
        results=sum(shot.has_result for shot in shots),
        seconds=seconds,
        shots=tuple(shots),
    )


def header() -> str:
    """Return the first line of the table of outcomes."""
    return "  ".join(title.ljust(width) if not n else title.rjust(width) for n, (title, width, _) in enumerate(COLUMNS))


def row(shot: CameraShot) -> str:
    """Return the table's line for one outcome; an error or the reason of a verdict follows the columns."""
    cells = [(text(shot), width) for _, width, text in COLUMNS]
    line = "  ".join(cell.ljust(width) if not n else cell.rjust(width) for n, (cell, width) in enumerate(cells))
    return f"{line}  {explanation}" if (explanation := _explanation(shot)) else line


def _verdict(shot: CameraShot) -> str:
    if shot.inspection is None:
        return "missing"
    return str(shot.inspection.verdict or shot.inspection.state)


def _explanation(shot: CameraShot) -> str:
    if shot.error is not None:
        return shot.error
    if shot.inspection is None:
        return ""
    if shot.inspection.unfit and shot.inspection.quality is not None:
        return "; ".join(reason.detail for reason in shot.inspection.quality.reasons)
    failure = shot.inspection.error
    return f"{failure.code}: {failure.detail}" if failure else ""


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _latency(shot: CameraShot) -> str:
    timings = shot.inspection.timings_ms if shot.inspection else None
    return "-" if timings is None else f"{timings.total:.0f} ms"


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else "…" + name[-(width - 1) :]


COLUMNS: tuple[tuple[str, int, Callable[[CameraShot], str]], ...] = (
    ("file", 44, lambda shot: _shortened(shot.file, 44)),
    ("verdict", 8, _verdict),
    ("score", 9, lambda shot: _number(shot.inspection.score if shot.inspection else None, ".4f")),
    ("step", 5, lambda shot: _number(shot.inspection.denoising_step if shot.inspection else None, "d")),
    ("latency", 9, _latency),
)

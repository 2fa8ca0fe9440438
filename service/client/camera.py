"""A line camera for trying the service: posts a folder's images at a fixed rate and shows the verdicts as they come."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from service.client.client import Client, ClientError
from service.client.destination import Destination, NameDoesNotMatch
from service.contract import Result, State

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
CONNECTIONS = 32


class Shot(BaseModel):
    """One image and what became of it."""

    file: str
    inspection: Result | None = None
    error: str | None = None

    @property
    def has_result(self) -> bool:
        """It was inspected to the end, with a verdict."""
        return self.inspection is not None and self.inspection.state is State.DONE

    @property
    def is_accepted(self) -> bool:
        """The service has taken it."""
        return self.inspection is not None


class Report(BaseModel):
    """What `--json` writes."""

    url: str
    product: str | None
    station: str | None
    images: int
    results: int
    seconds: float
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Camera:
    """Posts images in an open loop: the next one goes at its time, however long the last one takes."""

    client: Client
    addressee: Destination
    rate: float
    """Images per second."""
    run: str = ""
    """Part of every idempotency key: within one run an image is inspected once, however often it is posted."""

    def shoot(self, root: Path, files: Sequence[Path], wait_s: float | None) -> Iterator[Shot]:
        """Posts the files; yields each one's outcome in the order posted. `wait_s`: for its result; None: not."""
        stopped = threading.Event()
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="camera") as pool:
            began = time.monotonic()
            sent: list[Future[Shot]] = [
                pool.submit(self._post_at, began + number / self.rate, root, file, stopped)
                for number, file in enumerate(files)
            ]
            try:
                for future in sent:
                    shot = future.result()
                    yield shot if wait_s is None else self._developed(shot, wait_s)
            finally:
                stopped.set()
                pool.shutdown(cancel_futures=True)

    def _post_at(self, when: float, root: Path, file: Path, stopped: threading.Event) -> Shot:
        name = file.relative_to(root).as_posix()
        if stopped.wait(max(0.0, when - time.monotonic())):
            return Shot(file=name, error="not sent: stopped before its time")
        try:
            content = file.read_bytes()
            key = image_key(self.run, name, content)
            return Shot(file=name, inspection=self.addressee.post(self.client, name, content, key))
        except (ClientError, NameDoesNotMatch, OSError) as error:
            return Shot(file=name, error=str(error))

    def _developed(self, shot: Shot, wait_s: float) -> Shot:
        if shot.inspection is None or shot.inspection.state.final:
            return shot
        try:
            return shot.model_copy(update={"inspection": self.client.wait(shot.inspection.id, wait_s)})
        except ClientError as error:
            return shot.model_copy(update={"error": str(error)})


def image_key(run: str, name: str, content: bytes) -> str:
    """The idempotency key of one image file: the same name and content are the same part."""
    return hashlib.sha256(f"{run}\0{name}\0".encode() + content).hexdigest()


def find_images(folder: Path, limit: int | None = None) -> list[Path]:
    """The images under a folder, sorted by path; ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one that holds images")
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}): give another folder")
    return found[:limit]


def report(camera: Camera, shots: Sequence[Shot], seconds: float) -> Report:
    """All outcomes together."""
    return Report(
        url=camera.client.url,
        product=camera.addressee.product,
        station=camera.addressee.station,
        images=len(shots),
        results=sum(shot.has_result for shot in shots),
        seconds=seconds,
        shots=tuple(shots),
    )


def header() -> str:
    """The table's first line."""
    return "  ".join(title.ljust(width) if not n else title.rjust(width) for n, (title, width, _) in enumerate(COLUMNS))


def row(shot: Shot) -> str:
    """One line of the table."""
    cells = [(text(shot), width) for _, width, text in COLUMNS]
    line = "  ".join(cell.ljust(width) if not n else cell.rjust(width) for n, (cell, width) in enumerate(cells))
    return f"{line}  {why}" if (why := _why(shot)) else line


def _verdict(shot: Shot) -> str:
    if shot.inspection is None:
        return "missing"
    return str(shot.inspection.verdict or shot.inspection.state)


def _why(shot: Shot) -> str:
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


def _latency(shot: Shot) -> str:
    timings = shot.inspection.timings_ms if shot.inspection else None
    return "-" if timings is None else f"{timings.total:.0f} ms"


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else "…" + name[-(width - 1) :]


COLUMNS: tuple[tuple[str, int, Callable[[Shot], str]], ...] = (
    ("file", 44, lambda shot: _shortened(shot.file, 44)),
    ("verdict", 8, _verdict),
    ("score", 9, lambda shot: _number(shot.inspection.score if shot.inspection else None, ".4f")),
    ("step", 5, lambda shot: _number(shot.inspection.denoising_step if shot.inspection else None, "d")),
    ("latency", 9, _latency),
)

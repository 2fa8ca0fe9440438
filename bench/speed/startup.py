"""How soon `glad serve` judges its first image, and how soon again after its worker was killed.

Everything is taken from outside, as a line would see it, so that versions can be compared: each is an interpreter that
has one of them installed. Their turns alternate.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from bench.support.servers import STOP_S, NotServed, log_tail
from service.host.child_process import Child

POLL_S = 0.02
WAIT_S = 120.0
UNDER_WAY = ("queued", "running")
WORKER = "service.worker.main"


@dataclass(frozen=True)
class Startup:
    """The seconds of one start."""

    help_s: float
    """`glad --help`, from its start to its end."""
    api_s: float
    """From the start of `glad serve` until its API answers."""
    first_verdict_s: float
    """Until the first image is judged, which is posted as soon as the API takes it."""
    one_image_s: float
    """From a post to its verdict where everything is warm."""
    after_kill_s: float
    """From SIGKILL of the worker to the verdict of an image posted at once."""


def measure_startups(
    pythons: Sequence[Path], rounds: int, image: bytes, product: str, progress: Callable[[str, int, int], None]
) -> dict[str, list[Startup]]:
    """Return the starts of each interpreter's version, whose turns alternate.

    Args:
        pythons: interpreters, each with a version of the project installed.
        rounds: of each.
        image: a file that the product can judge.
        product: that every version ships.
        progress: is told each start.

    Raises:
        NotServed: if a version does not start, or does not judge.
    """
    for python in pythons:
        _refuse_without_project(python)
    found: dict[str, list[Startup]] = {str(python): [] for python in pythons}
    for turn in range(rounds):
        for python in pythons:
            found[str(python)].append(measure_startup(python, image, product))
            progress(str(python), turn + 1, rounds)
    return found


def measure_startup(python: Path, image: bytes, product: str) -> Startup:
    """Start `glad serve` of an interpreter's version in an empty folder, and stop it again.

    Raises:
        NotServed: if it does not start, or does not judge.
    """
    with TemporaryDirectory(prefix="glad-startup-") as scratch:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GLAD_")}
        environment.pop("PYTHONPATH", None)
        environment["PYTHONSAFEPATH"] = "1"  # the version is the interpreter's own, and not that of this folder
        began = time.perf_counter()
        subprocess.run([python, "-m", "glad", "--help"], env=environment, cwd=scratch, check=True, capture_output=True)
        help_s = time.perf_counter() - began
        log = Path(scratch) / "serve.log"
        port, data = _free_port(), Path(scratch) / "data"
        command = [str(python), "-m", "glad", "serve", "--port", str(port), "--data-dir", str(data)]
        child = Child("glad serve", command, env=environment, log=log)
        began = time.perf_counter()
        child.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
                _until(lambda: _answers(client), child, log)
                api_s = time.perf_counter() - began
                _judge(client, product, image, child, log)
                first_verdict_s = time.perf_counter() - began
                one_image_s = min(_seconds(client, product, image, child, log) for _ in range(5))
                _worker_of(child.pid or 0).send_signal(signal.SIGKILL)
                after_kill_s = _seconds(client, product, image, child, log)
        finally:
            child.signal(signal.SIGTERM)
            child.wait(STOP_S)
            child.kill()
    return Startup(help_s, api_s, first_verdict_s, one_image_s, after_kill_s)


def _refuse_without_project(python: Path) -> None:
    try:
        outcome = subprocess.run([python, "-m", "glad", "--version"], check=False, capture_output=True, text=True)
    except OSError as error:
        raise NotServed(
            f"{python}: {error.strerror}; give an interpreter, such as ../before/.venv/bin/python"
        ) from error
    if outcome.returncode:
        last = outcome.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise NotServed(f"{python} runs no `glad`: {last[0]}; give an interpreter that has the project installed")


def startup_figures(startups: dict[str, list[Startup]]) -> dict[str, Any]:
    """Return the median of each figure and every start, by interpreter, as plain JSON."""
    return {
        python: {
            "median": {name: median(getattr(one, name) for one in of) for name in Startup.__dataclass_fields__},
            "starts": [asdict(one) for one in of],
        }
        for python, of in startups.items()
    }


def sample_image() -> bytes:
    """Return a good part of the sample product, as a PNG file."""
    from training.sample_product import write_dataset

    with TemporaryDirectory(prefix="glad-startup-") as folder:
        write_dataset(Path(folder), seed=1, train=0, calibration=0, good=1, defects=0)
        (image,) = (Path(folder) / "test" / "good").glob("*.png")
        return image.read_bytes()


def _seconds(client: httpx.Client, product: str, image: bytes, child: Child, log: Path) -> float:
    began = time.perf_counter()
    _judge(client, product, image, child, log)
    return time.perf_counter() - began


def _judge(client: httpx.Client, product: str, image: bytes, child: Child, log: Path) -> None:
    """Post an image and wait for its verdict, however often the API has to be asked."""
    posted: list[httpx.Response] = []

    def accepted() -> bool:
        try:
            answer = client.post(f"/v1/products/{product}/inspections", content=image, headers={"Prefer": "wait=30"})
        except httpx.TransportError:
            return False
        posted.append(answer)
        return answer.status_code in (200, 201, 202)

    _until(accepted, child, log)
    place = posted[-1].headers["Location"]
    _until(lambda: _state(client, place) not in UNDER_WAY, child, log)
    if (state := _state(client, place)) != "done":
        raise NotServed(f"the image was not judged: its inspection is {state}")


def _state(client: httpx.Client, place: str) -> str:
    return str(client.get(place).json()["state"])


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], bool], child: Child, log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if not child.running or time.monotonic() > deadline:
            raise NotServed(f"`glad serve` did not get ready in {WAIT_S:.0f} s; the end of its log:\n{log_tail(log)}")
        time.sleep(POLL_S)


def _free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _worker_of(pid: int) -> psutil.Process:
    for child in psutil.Process(pid).children(recursive=True):
        if WORKER in child.cmdline():
            return child
    raise NotServed("`glad serve` has no worker process")

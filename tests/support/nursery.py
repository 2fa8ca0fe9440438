"""Real worker processes at once: a nursery imports torch a single time, then forks a worker for every request.

    with Nursery() as nursery:
        worker = nursery.start({"GLAD_REDIS_URL": ..., ...}, log=tmp_path / "worker.log")
        worker.kill()

The nursery runs no model and starts no thread, so that its children begin as a fresh process would after its imports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.processes import is_running


@dataclass(frozen=True)
class Worker:
    """One worker process."""

    nursery: Nursery
    pid: int
    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return is_running(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit status, negative for a signal."""
        return int(self.nursery.ask({"wait": self.pid})["status"])


class Nursery:
    """Forks workers that have torch imported already."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end_all()
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def start(self, env: Mapping[str, str], log: Path, *, odd: bool = False) -> Worker:
        """Start a worker with this added to the environment; `odd`: with the models of `tests.support.odd_models`."""
        pid = int(self.ask({"start": dict(env), "log": str(log), "odd": odd})["pid"])
        self._workers.append(Worker(self, pid, log))
        return self._workers[-1]

    def end_all(self) -> None:
        """Kill the workers that still run."""
        for worker in self._workers:
            if worker.running:
                worker.kill()
        self._workers.clear()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one line of JSON and return the one that comes back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def serve() -> None:
    """Serve requests, one per line, in the nursery's own process."""
    import tests.support.odd_models  # noqa: F401 - imported before the first fork, with torch
    from service.worker.main import run  # noqa: F401

    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = _fork(request)
            children.add(pid)
            answer = {"pid": pid}
        else:
            children.discard(request["wait"])
            answer = {"status": _reap(request["wait"])}
        print(json.dumps(answer), flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(_work(request))
        finally:
            os._exit(1)
    return pid


def _work(request: dict[str, Any]) -> int:
    from service.settings import Settings
    from service.worker.main import run
    from tests.support.odd_models import load_odd_models

    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(request["start"])
    try:
        return run(Settings(), load=load_odd_models if request["odd"] else None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1


if __name__ == "__main__":
    serve()

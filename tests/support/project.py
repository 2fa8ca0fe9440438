"""A compose project whose containers are plain processes: up, restarted, made anew, and down."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from service.host.child_process import Child
from tests.support.containers import Container
from tests.support.processes import eventually

PROBE_TIMEOUT_S = 10.0
PROBE_EVERY_S = 0.5
"""A probe is a process: more of them would slow down what they ask."""


@dataclass(frozen=True)
class Stopped:
    """How a container ended."""

    status: int
    """0: by itself; negative: by that signal, SIGKILL where the grace period was not enough."""
    seconds: float


class Project:
    """Starts nothing by itself; as a context manager it leaves nothing running."""

    def __init__(self, containers: Iterable[Container], logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.containers = {one.name: one for one in containers}
        self._logs = logs
        self._children = {name: self._child(name) for name in self.containers}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self._children.values():
            child.kill()

    def change(self, name: str, **environment: str) -> None:
        """Made anew, not started: these variables have other values from now on."""
        assert not self._children[name].running, f"{name} runs: stop it first"
        found = self.containers[name]
        self.containers[name] = replace(found, environment={**found.environment, **environment})
        self._children[name] = self._child(name)

    def start(self, name: str) -> None:
        """`docker compose start`."""
        self._children[name].start()

    def stop(self, name: str) -> Stopped:
        """`docker compose stop`: SIGTERM, and SIGKILL after the grace period."""
        child, began = self._children[name], time.monotonic()
        child.signal(signal.SIGTERM)
        child.wait(self.containers[name].grace_s)
        child.kill()
        assert child.exit_status is not None
        return Stopped(child.exit_status, time.monotonic() - began)

    def empty(self, name: str) -> None:
        """What a container that is made anew has lost: all that is in no volume."""
        folder = self.containers[name].tmpfs
        shutil.rmtree(folder)
        folder.mkdir()

    def healthy(self, name: str) -> bool:
        """Its health check says so. AssertionError if it has ended."""
        assert self._children[name].running, f"{name} has ended:\n{self.log(name)[-4000:]}"
        return self._run(name, self.containers[name].healthcheck).returncode == 0

    def up(self, *names: str) -> None:
        """Starts these, and waits until they are healthy."""
        for name in names:
            self.start(name)
        for name in names:
            self.wait(name)

    def wait(self, name: str) -> None:
        """Until it is healthy."""
        eventually(lambda: self.healthy(name), patience_s=300, every_s=PROBE_EVERY_S)

    def run(self, name: str, *command: str) -> str:
        """`docker compose exec`: what the command printed. AssertionError if it failed."""
        done = self._run(name, command, timeout_s=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self, name: str) -> str:
        """`docker compose logs`."""
        return (self._logs / f"{name}.log").read_text(errors="replace")

    def url(self, name: str) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.containers[name].port}"

    def _child(self, name: str) -> Child:
        found = self.containers[name]
        return Child(name, found.command, env=found.environment, log=self._logs / f"{name}.log")

    def _run(
        self, name: str, command: Iterable[str], timeout_s: float = PROBE_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        environment: Mapping[str, str] = self.containers[name].environment
        words = list(command)
        try:
            return subprocess.run(
                words, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 1, "", f"no end within {timeout_s:g} s")

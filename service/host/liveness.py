"""How the supervisor finds out that a child is ready, and that it is stuck.

started → port known → warm

A worker or an outbox reports its health port and, later, that it is warm. The port is probed as soon as it is known, so
that a warm-up that hangs is found too. The API is probed at its own port, and Redis by PING: both from their first
answer on, because the socket of the API is open before anybody serves it, and Redis reads its data first.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Probing:
    """How often a child is probed, and when it counts as stuck."""

    open_port_s: float = 300.0
    """Seconds from its start to its open port, or its first answer: imports from a cold disk, and the search for a
    device."""
    every_s: float = 15.0
    timeout_s: float = 10.0
    missed: int = 3
    """Consecutive probes without an answer, or with the answer "stuck", before it is killed."""


class ReadyPipe:
    """A pipe on which a child reports in lines of JSON: first `{"port": ...}`, later `{"warm": true}`."""

    def __init__(self) -> None:
        self.port: int | None = None
        self._warm = False
        self._reader: int | None = None
        self._partial_line = b""

    @contextmanager
    def writer(self) -> Iterator[int]:
        """Make a new pipe and yield the descriptor that the child inherits; it is closed here afterwards."""
        self.close()
        self.port, self._warm, self._partial_line = None, False, b""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        try:
            yield writer
        finally:
            os.close(writer)

    def poll(self) -> bool:
        """Read what the child has reported and return whether it is warm; `port` is set from its first line on."""
        if not self._warm and self._reader is not None:
            try:
                self._partial_line += os.read(self._reader, 4096)
            except BlockingIOError:
                return False
            *lines, self._partial_line = self._partial_line.split(b"\n")
            for line in lines:
                report = json.loads(line)
                self.port = report.get("port", self.port)
                self._warm = self._warm or report.get("warm", False)
        return self._warm

    def close(self) -> None:
        """Close the pipe."""
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None


class LivenessProbe:
    """Decides when a child must be killed. `check` may be called many times a second; it probes every `every_s`."""

    def __init__(
        self, answers: Callable[[], bool | None], probing: Probing, *, from_first_answer: bool = False
    ) -> None:
        """Make a probe of one child.

        Args:
            answers: asks the child; None: it cannot be asked yet.
            probing: how often, and how long it may take.
            from_first_answer: until the child has answered once since its start, it counts as not to be asked yet.
        """
        self._answers, self._probing, self._from_first_answer = answers, probing, from_first_answer
        self._started_at = self._probe_at = 0.0
        self._missed, self._answered = 0, False

    @classmethod
    def of_port(cls, host: str, ready: ReadyPipe, probing: Probing) -> LivenessProbe:
        """Return the probe of a child that reports its health port on a pipe."""

        def answers() -> bool | None:
            ready.poll()
            return None if ready.port is None else is_alive(host, ready.port, timeout_s=probing.timeout_s)

        return cls(answers, probing)

    def started(self, now: float) -> None:
        """Reset the probe: the child was started, or started again."""
        self._started_at, self._probe_at = now, now + self._probing.every_s
        self._missed, self._answered = 0, False

    def check(self, now: float) -> str | None:
        """Return why the running child must be killed; None if it need not be."""
        if now < self._probe_at:
            return None
        self._probe_at = now + self._probing.every_s
        answered = self._answers()
        self._answered = self._answered or answered is True
        if answered is None or (self._from_first_answer and not self._answered):
            return self._late(now, "no open port" if answered is None else "no answer")
        self._missed = 0 if answered else self._missed + 1
        return f"{self._missed} probes missed" if self._missed >= self._probing.missed else None

    def _late(self, now: float, lacks: str) -> str | None:
        limit_s = self._probing.open_port_s
        return f"{lacks} {limit_s:g} s after its start" if now - self._started_at >= limit_s else None


def is_alive(host: str, port: int, timeout_s: float) -> bool:
    """Return whether GET /health/live answers 200. A host that means all addresses is called on the loopback."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    connection = http.client.HTTPConnection(target, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        answer.read()  # to the end: the other side would find the connection broken, and say so in its log
        return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

"""How the supervisor finds out that a worker or an outbox is ready, and that it is stuck.

started → port known → warm

The child reports its health port and, later, that it is warm. The port is probed as soon as it is known, so that a
warm-up that hangs is found too.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Probing:
    """How often a child is probed, and when it counts as stuck."""

    open_port_s: float = 300.0
    """Seconds from its start to its open port: imports from a cold disk, and the search for a device."""
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

    def __init__(self, host: str, ready: ReadyPipe, probing: Probing) -> None:
        self._host, self._ready, self._probing = host, ready, probing
        self._started_at = self._probe_at = 0.0
        self._missed = 0

    def started(self, now: float) -> None:
        """Reset the probe: the child was started, or started again."""
        self._started_at, self._probe_at, self._missed = now, now + self._probing.every_s, 0

    def check(self, now: float) -> str | None:
        """Return why the running child must be killed; None if it need not be."""
        if now < self._probe_at:
            return None
        self._probe_at = now + self._probing.every_s
        self._ready.poll()
        if self._ready.port is None:
            late = now - self._started_at >= self._probing.open_port_s
            return f"no open port {self._probing.open_port_s:g} s after its start" if late else None
        answered = is_alive(self._host, self._ready.port, timeout_s=self._probing.timeout_s)
        self._missed = 0 if answered else self._missed + 1
        return f"{self._missed} probes missed" if self._missed >= self._probing.missed else None


def is_alive(host: str, port: int, timeout_s: float) -> bool:
    """Return whether GET /health/live answers 200. A host that means all addresses is called on the loopback."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    connection = http.client.HTTPConnection(target, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

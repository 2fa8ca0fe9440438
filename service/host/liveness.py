"""Is the worker alive? It says on which port it answers, and when it is warm; from then on its port is asked.

started → port known (asked from here on: a warm-up that stands still is found too) → warm
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
    """How often the worker is asked, and when it counts as stuck; in seconds."""

    open_port_s: float = 300.0
    """From its start to its open port: imports, from a cold disk, and looking for the device."""
    every_s: float = 15.0
    timeout_s: float = 10.0
    missed: int = 3
    """So many unanswered probes in a row, or answers that say "stuck"."""


class ReadyPipe:
    """The worker's word on an inherited descriptor, in lines of JSON: first its port, later that it is warm."""

    def __init__(self) -> None:
        self.port: int | None = None
        self._warm = False
        self._reader: int | None = None
        self._text = b""

    @contextmanager
    def writer(self) -> Iterator[int]:
        """A fresh pipe; gives the end that the child inherits."""
        self.close()
        self.port, self._warm, self._text = None, False, b""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        try:
            yield writer
        finally:
            os.close(writer)

    def poll(self) -> bool:
        """True once the worker is warm; from its first line on, `port` is known."""
        if not self._warm and self._reader is not None:
            try:
                self._text += os.read(self._reader, 4096)
            except BlockingIOError:
                return False
            *lines, self._text = self._text.split(b"\n")
            for line in lines:
                word = json.loads(line)
                self.port = word.get("port", self.port)
                self._warm = self._warm or word.get("warm", False)
        return self._warm

    def close(self) -> None:
        """Closes the pipe."""
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None


class LivenessProbe:
    """Says when a worker must be killed. Its `look` is called many times a second, and asks now and then."""

    def __init__(self, host: str, ready: ReadyPipe, probing: Probing) -> None:
        self._host, self._ready, self._probing = host, ready, probing
        self._started_at = self._probe_at = 0.0
        self._missed = 0

    def started(self, now: float) -> None:
        """The worker is started, or started again."""
        self._started_at, self._probe_at, self._missed = now, now + self._probing.every_s, 0

    def look(self, now: float) -> str | None:
        """Why the running worker must be killed; None: it need not be."""
        if now < self._probe_at:
            return None
        self._probe_at = now + self._probing.every_s
        self._ready.poll()
        if self._ready.port is None:
            late = now - self._started_at >= self._probing.open_port_s
            return f"no open port {self._probing.open_port_s:g} s after its start" if late else None
        answered = alive(self._host, self._ready.port, timeout_s=self._probing.timeout_s)
        self._missed = 0 if answered else self._missed + 1
        return f"{self._missed} probes missed" if self._missed >= self._probing.missed else None


def alive(host: str, port: int, timeout_s: float) -> bool:
    """GET /health/live answers 200. A host that means every address is asked by the loopback."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    connection = http.client.HTTPConnection(target, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

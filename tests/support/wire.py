"""The wire to a server, which a test may cut, silence, slow down, or rob of its replies."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Wire:
    """Carries bytes between a TCP port and a server: a Redis's unix socket, or a TCP port.

    with Wire(server.url) as wire:
        queue = JobQueue(connect(wire.url))
        wire.cut()
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self.connections = 0
        """So many were made, those that were cut at once among them."""
        self._whole = True
        self._requests_pass = self._replies_pass = True
        self._late_s = 0.0

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    @property
    def url(self) -> str:
        """What a client at this end connects to."""
        scheme = "redis" if self._target.scheme == "unix" else self._target.scheme
        return f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"

    def cut(self) -> None:
        """Every connection ends, and new ones end at once."""
        with self._lock:
            self._whole = False
            self._close_all()

    def silence(self) -> None:
        """Connections stay, and nothing arrives, either way."""
        self._requests_pass = self._replies_pass = False

    def lose_replies(self) -> None:
        """What is asked is done, and nobody hears of it."""
        self._replies_pass = False

    def delay_replies(self, seconds: float) -> None:
        """Each reply comes so late."""
        self._late_s = seconds

    def mend(self) -> None:
        """As new. Connections that have lost bytes end."""
        with self._lock:
            self._close_all()
            self._whole = self._requests_pass = self._replies_pass = True

    def _close_all(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self._join(near)

    def _join(self, near: socket.socket) -> None:
        far, address = self._far_end()
        with self._lock:
            self.connections += 1
            self._ends += [near, far]
            try:
                far.connect(address)
            except OSError:
                near.close()
                return
            if not self._whole:
                self._close_all()
                return
        for source, target, asking in ((near, far, True), (far, near, False)):
            threading.Thread(target=self._pump, args=(source, target, asking), daemon=True).start()

    def _far_end(self) -> tuple[socket.socket, str | tuple[str, int]]:
        if self._target.scheme == "unix":
            return socket.socket(socket.AF_UNIX), self._target.path
        return socket.socket(), (str(self._target.hostname), int(self._target.port or 0))

    def _pump(self, source: socket.socket, target: socket.socket, asking: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not asking:
                    time.sleep(self._late_s)
                if self._requests_pass if asking else self._replies_pass:
                    target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

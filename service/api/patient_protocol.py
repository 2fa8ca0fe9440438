"""uvicorn's HTTP protocol with an end to its patience: a request's head takes neither for ever nor any size."""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 15.0
MAX_HEAD_BYTES = 64 << 10


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers are not whole in time, or too long to be meant well."""

    head_timeout_s = HEAD_TIMEOUT_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._head_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """From here on the first head is waited for."""
        super().connection_made(transport)
        self._expect_head()

    def on_message_begin(self) -> None:
        """The next head on a kept connection. Between two, uvicorn's own timeout counts."""
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_came()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, and counts what a head has brought so far."""
        super().data_received(data)
        self._head_bytes += len(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._head_came()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_came()
        self.transport.close()

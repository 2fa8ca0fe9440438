"""The connections of one API process: how many there are, and for how long each of them may keep the service waiting.

uvicorn itself has a limit for the pause between two requests alone. Here every connection has one at every stage:

    no or half a head  → `head_timeout_s`, `MAX_HEAD_BYTES`; at the limit of connections these are the first to go
    body               → the service's own limits while it reads: service.api.middleware.body_limits
    trailers           → as part of the body's time; `MAX_HEAD_BYTES` without a byte of body
    answered, unread   → the answer says `Connection: close`; the rest is thrown away for `head_timeout_s` at most
    answer not read    → `write_timeout_s` without progress
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from asyncio.events import TimerHandle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.auth.rate_limit import client_address
from service.settings import Settings

HEAD_TIMEOUT_S = 15.0
"""Longest wait for a request line and its headers, and for the rest of a body that nobody reads any more."""
WRITE_TIMEOUT_S = 30.0
"""Longest wait for a client that has more than a socket's buffer of its answer to read, and reads nothing."""
MAX_HEAD_BYTES = 64 << 10
MAX_DISCARDED_BYTES = 64 << 20
"""Of a body that is no longer read: as much as the largest image of the default settings."""
MAX_PIPELINED = 64
"""Requests that may wait on one connection behind the one that is being answered."""
FILES_BESIDE_CONNECTIONS = 256
"""File descriptors for everything else: listening sockets, libraries, images that are written."""
LOG_EVERY_S = 60.0
LET_IN = "let_in"
"""In a request's state: its caller may make the call, so that it is worked on to its end."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """The most connections at a time, in one process."""

    total: int
    per_address: int
    """Of one address; a trusted proxy's own is not counted, for all cameras behind it have the same one."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the limits that the settings ask for, or lower ones if the system allows fewer open files."""
        total = min(settings.max_connections, allow_files(settings.max_connections))
        return cls(total, min(settings.max_connections_per_address, total))


def allow_files(connections: int) -> int:
    """Raise the soft limit of open files for so many connections, as far as may be, and return how many then fit.

    Each may need one connection to Redis beside its own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + FILES_BESIDE_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    fitting = max(1, (soft - FILES_BESIDE_CONNECTIONS) // 2)
    log.warning("the limit of open files allows fewer connections", connections=fitting, asked=connections, files=soft)
    return fitting


class ConnectionRegistry:
    """All connections of a server, the oldest first. At a limit, one that nobody with a key needs makes room."""

    def __init__(self, limits: ConnectionLimits, is_proxy: Callable[[str], bool]) -> None:
        """Start without connections.

        Args:
            limits: of this process.
            is_proxy: whether this host is one whose X-Forwarded-For is believed.
        """
        self.limits, self._is_proxy = limits, is_proxy
        self._address_of: dict[LimitedHttpProtocol, str | None] = {}
        self._count_of: Counter[str] = Counter()
        self._logged_at = float("-inf")

    def admit(self, connection: LimitedHttpProtocol, client: tuple[str, int] | None) -> bool:
        """Return whether there is room for a new connection, and count it if there is."""
        counted = client is not None and not self._is_proxy(client[0])
        address = client_address(client) if counted else None
        if address is not None and self._count_of[address] >= self.limits.per_address:
            admitted = self._make_room(lambda other: self._address_of[other] == address)
        else:
            admitted = len(self._address_of) < self.limits.total or self._make_room(lambda other: True)
        if admitted:
            self._address_of[connection] = address
            self._count_of.update([address] if address else [])
        return admitted

    def remove(self, connection: LimitedHttpProtocol) -> None:
        """Forget a connection that has ended; one that is not known is ignored."""
        address = self._address_of.pop(connection, None)
        if address is not None:
            self._count_of[address] -= 1
            if not self._count_of[address]:
                del self._count_of[address]

    def _make_room(self, may_go: Callable[[LimitedHttpProtocol], bool]) -> bool:
        """End the oldest connection without a request that was let in; those that never had an answer come first."""
        expendable = [other for other in self._address_of if other.is_expendable and may_go(other)]
        self._log(ended=len(expendable) > 0)
        if not expendable:
            return False
        oldest = next((other for other in expendable if not other.had_answer), expendable[0])
        self.remove(oldest)
        oldest.abort()
        return True

    def _log(self, *, ended: bool) -> None:
        # Once a minute: a flood of connections must not become a flood of log lines.
        if time.monotonic() - self._logged_at >= LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.warning(
                "too many connections: one without a request that was let in is ended for a new one"
                if ended
                else "too many connections: a new one is refused",
                connections=len(self._address_of),
                limit=self.limits.total,
                limit_of_one_address=self.limits.per_address,
            )


class _LingeringTransport:
    """A transport that closes as its protocol says; everything else is the real one's."""

    def __init__(self, transport: asyncio.Transport, protocol: LimitedHttpProtocol) -> None:
        self._transport, self._protocol = transport, protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._protocol.close()

    def is_closing(self) -> bool:
        return self._protocol.lingers or self._transport.is_closing()


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit for every wait: see the head of this module."""

    head_timeout_s = HEAD_TIMEOUT_S
    write_timeout_s = WRITE_TIMEOUT_S

    def __init__(self, *arguments: Any, registry: ConnectionRegistry, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._registry = registry
        self._real: asyncio.Transport | None = None
        self._deadline: TimerHandle | None = None
        self._write_deadline: TimerHandle | None = None
        self._message_open = self._stopping = self._keeps_alive = False
        self._without_body = self._discarded = 0
        self.lingers = False
        """The answer is sent, and the rest of its request is thrown away until the client closes."""

    @property
    def waits_for_client(self) -> bool:
        """Whether no request is at work: it would be lost with the connection."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def had_answer(self) -> bool:
        """Whether it waits for a further request."""
        return self.cycle is not None and self.cycle.response_complete

    @property
    def is_expendable(self) -> bool:
        """Whether there is no request at work of a caller who was let in: probes, and calls whose key is looked at."""
        return self.waits_for_client or not self.cycle.scope.get("state", {}).get(LET_IN, False)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first head, or refuse a connection too many."""
        self._real = transport
        super().connection_made(cast("asyncio.Transport", _LingeringTransport(transport, self)))
        if self._registry.admit(self, self.client):
            self._start_deadline()
        else:
            transport.write(refusal(self._registry.limits))
            self.close()

    def on_message_begin(self) -> None:
        """Start the time of a further head.

        Raises:
            ValueError: if too many requests wait for their turn; the connection is closed with 400.
        """
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError(f"more than {MAX_PIPELINED} requests wait on one connection")
        super().on_message_begin()
        self._without_body = 0
        if self._deadline is None:
            self._start_deadline()

    def on_headers_complete(self) -> None:
        """End the time of the head. Until the message is complete, an answer says that the connection is closed."""
        self._stop_deadline()
        super().on_headers_complete()
        self._message_open, self._keeps_alive = True, self.cycle.keep_alive
        self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Note that a byte of the body has come: what follows is counted anew."""
        self._without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Keep the connection for another request, unless the answer has said otherwise."""
        self._message_open = False
        if not self.cycle.response_started and not self._stopping:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and close the connection if head, chunk headers or trailers have become too long."""
        if self.lingers:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.abort()
            return
        self._without_body += len(data)
        super().data_received(data)
        awaits_more = self._message_open or self._deadline is not None
        if awaits_more and self._without_body > MAX_HEAD_BYTES:
            self.abort()
        elif self._deadline is None and not self._message_open and self.waits_for_client:
            self._start_deadline()  # empty lines begin no message, and have ended uvicorn's keep-alive timer

    def pause_writing(self) -> None:
        """Start the time in which the client must read on."""
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(self.write_timeout_s, self.abort)

    def resume_writing(self) -> None:
        """End that time."""
        self._stop_write_deadline()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all times: nothing more comes."""
        self._registry.remove(self)
        self._stop_deadline()
        self._stop_write_deadline()
        self._message_open = self.lingers = False
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection, after the answer that is under way."""
        self._stopping = True
        if self.lingers:
            self.abort()
        else:
            super().shutdown()

    def close(self) -> None:
        """Close the connection once all is sent; with a request that is not complete, once the client has its answer.

        A socket that is closed with bytes unread resets the connection, and the client may never see the answer.
        """
        assert self._real is not None
        if self.lingers or self._real.is_closing():
            return
        self._start_deadline()
        if not self._message_open:
            self._real.close()
            return
        self.lingers = True
        self._unset_keepalive_if_required()
        if self._real.can_write_eof():
            self._real.write_eof()
        self.flow.resume_reading()

    def abort(self) -> None:
        """End the connection now."""
        assert self._real is not None
        self._stop_deadline()
        self._real.abort()

    def _start_deadline(self) -> None:
        self._stop_deadline()
        self._deadline = self.loop.call_later(self.head_timeout_s, self._expire)

    def _expire(self) -> None:
        assert self._real is not None
        service_works = self.flow.read_paused or not self.waits_for_client
        if service_works and not self.lingers and not self._real.is_closing():
            self._start_deadline()  # half a request behind one that is at work: it has its time once that is answered
        else:
            self.abort()

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None


def refusal(limits: ConnectionLimits) -> bytes:
    """Return the answer to a connection too many, whose request is not read."""
    detail = (
        f"this process takes at most {limits.total} connections (GLAD_MAX_CONNECTIONS), and {limits.per_address} of "
        "one address (GLAD_MAX_CONNECTIONS_PER_ADDRESS): close some, or try again later"
    )
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": detail}
    body = json.dumps(problem).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "retry-after: 2",
        "connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body

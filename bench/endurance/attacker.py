"""A client that means ill: what it knows of the service, its tools, and a tally of what came of each try.

It comes from 127.0.0.1, which the API takes for a proxy of its own: as behind an ingress, no limit of one address
protects the cameras.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

PAUSE_S = 0.05
"""Between two tries of one session: the attacker's processor is the service's, too."""
OPEN_FILES = 8192
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Target:
    """A service, and what the attacker has of it."""

    url: str
    product: str
    key: str
    """With the scopes `submit` and `read`."""
    read_key: str
    health_ports: tuple[int, ...]
    """Of the worker and of the outbox."""
    image_folder: str
    """Where the service keeps images."""

    @property
    def port(self) -> int:
        """The API's port."""
        return int(self.url.rpartition(":")[2])

    @property
    def images(self) -> str:
        """The path that takes images."""
        return f"/v1/products/{self.product}/inspections"

    @property
    def infer(self) -> str:
        """The path that takes inference requests."""
        return f"/v2/models/{self.product}/infer"


@dataclass
class Attacker:
    """The tools of an attack, and its tally."""

    target: Target
    http: httpx.AsyncClient
    begin: Callable[[], None]
    """Starts the time of the attack."""
    tally: Counter[str] = field(default_factory=Counter)

    async def repeat(self, count: int, session: Callable[[], Awaitable[None]], *, pause_s: float = PAUSE_S) -> None:
        """Run so many sessions at a time, each again and again, until the time of the attack is over."""
        self.begin()
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._repeat(session, pause_s))

    async def _repeat(self, session: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await session()
            except (OSError, EOFError, httpx.TransportError) as error:
                self.tally[f"cut ({type(error).__name__})"] += 1
            await asyncio.sleep(pause_s)

    async def connect(self, port: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a new connection, to the API if no port is given."""
        return await asyncio.open_connection("127.0.0.1", port or self.target.port)

    async def answer(self, reader: asyncio.StreamReader) -> None:
        """Read the head of an answer, and count it."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.tally[f"answered {int(head.split(maxsplit=2)[1])}"] += 1

    async def stay_silent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say nothing more until the service ends the connection."""
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        self.tally["ended by the service"] += 1
        writer.close()

    async def call(
        self, method: str, path: str, key: str | None, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """Make a call, and count its answer."""
        given = {**(headers or {}), **({"X-API-Key": key} if key else {})}
        answer = await self.http.request(method, path, headers=given, **options)
        self.tally[f"answered {answer.status_code}"] += 1
        return answer


def request_head(method: str, path: str, *headers: str, key: str | None = None) -> bytes:
    """Return a request's head; the header that says how long the body is is the caller's."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, *([f"X-API-Key: {key}"] if key else [])]
    return "\r\n".join([*lines, "", ""]).encode()


def attack_for(attack: Callable[[Attacker], Awaitable[None]], target: Target, seconds: float) -> Counter[str]:
    """Attack for so long, once all is prepared; return the tally.

    For a process of its own: it may open many files from now on.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return asyncio.run(_attack(attack, target, seconds))


async def _attack(attack: Callable[[Attacker], Awaitable[None]], target: Target, seconds: float) -> Counter[str]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=target.url, limits=limits, timeout=PATIENCE_S) as http:
        loop, clock = asyncio.get_running_loop(), asyncio.timeout(None)
        attacker = Attacker(target, http, begin=lambda: clock.reschedule(loop.time() + seconds))
        with suppress(TimeoutError):
            async with clock:
                await attack(attacker)
    return attacker.tally

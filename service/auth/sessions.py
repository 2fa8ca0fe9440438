"""Sessions of people who sign in on a web page: a random token in a cookie, and what it stands for.

The token is 256 random bits, made anew at every sign-in; what a browser sends of its own choice never becomes one.
Redis, which all API processes share, keeps its SHA-256 with the person's name and the id of the API key until the
session ends. The token against forged requests (CSRF) is made from the session's: another site's page can read neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import redis.asyncio
import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from service.contract import Message, Person, Timestamp, now
from service.queue import keys

COOKIE = "glad_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing: a forged one would do no harm, and no page of another site reads its answer."""
TOKEN_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")
CHECK_AGAIN_S = 2.0
"""How often it is asked whether a session that an event stream belongs to still lasts; API keys are read as often."""
READ_TIMEOUT_S = 1.0
MOST_REMEMBERED = 1000

log = structlog.get_logger(__name__)


class StoredSession(Message):
    """What is kept of a session."""

    person: Person
    key_id: str
    """Of the API key that was signed in with; "" where none was needed."""
    expires_at: Timestamp


@dataclass(frozen=True)
class OpenSession:
    """A session with its token, which only the browser keeps."""

    token: str
    stored: StoredSession

    @property
    def digest(self) -> str:
        """Name of the session in this service."""
        return token_digest(self.token)

    @property
    def csrf(self) -> str:
        """What the header `X-CSRF-Token` of a call that changes something has to be."""
        return hmac.new(self.token.encode(), b"csrf", hashlib.sha256).hexdigest()

    def accepts_csrf(self, sent: str | None) -> bool:
        """Return whether this is the session's token against forged requests. Takes the same time for every text."""
        return hmac.compare_digest((sent or "").encode(), self.csrf.encode())


def token_digest(token: str) -> str:
    """Return the SHA-256 of a session's token."""
    return hashlib.sha256(token.encode()).hexdigest()


def session_token(headers: Mapping[str, str]) -> str | None:
    """Return the token in the cookie of a request; None without one that has its form.

    None too if there are several: other services on the same host can set cookies of any name, and the browser does not
    tell whose is whose.
    """
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    sent = {value for name, _, value in pairs if name == COOKIE}
    token = sent.pop() if len(sent) == 1 else ""
    return token if TOKEN_PATTERN.fullmatch(token) else None


class Sessions:
    """The sessions in Redis. Methods raise RedisError if Redis is away, or TimeoutError."""

    def __init__(self, client: redis.asyncio.Redis, *, lifetime_s: int) -> None:
        """Make them; nothing connects yet.

        Args:
            client: of the service's Redis.
            lifetime_s: how long a session lasts, in seconds.
        """
        self._redis, self.lifetime_s = client, lifetime_s
        self._asked: dict[str, tuple[float, bool]] = {}
        """Session -> when it was last asked for, and whether it lasted then."""

    async def open(self, person: str, key_id: str, until: datetime | None = None) -> OpenSession:
        """Open a session and return it; it lasts as long as all do, or `until` then."""
        at = now()
        expires_at = until or at + timedelta(seconds=self.lifetime_s)
        left_s = max(1, round((expires_at - at).total_seconds()))
        opened = OpenSession(
            secrets.token_urlsafe(32), StoredSession(person=person, key_id=key_id, expires_at=expires_at)
        )
        await self._redis.set(keys.session(opened.digest), opened.stored.model_dump_json(), ex=left_s)
        return opened

    async def find(self, token: str) -> OpenSession | None:
        """Return the session of a token; None if there is none any more."""
        call = self._redis.get(keys.session(token_digest(token)))
        text = await asyncio.wait_for(cast("Any", call), READ_TIMEOUT_S)
        try:
            return OpenSession(token, StoredSession.model_validate_json(text)) if text else None
        except ValidationError:
            log.warning("session record cannot be read")
            return None

    async def end(self, session: OpenSession) -> None:
        """End a session."""
        await self._redis.delete(keys.session(session.digest))
        self._asked.pop(session.digest, None)

    async def lasts(self, digest: str) -> bool:
        """Return whether a session lasts, or did `CHECK_AGAIN_S` ago. While Redis is away, what it said last counts."""
        asked_at, lasted = self._asked.get(digest, (-CHECK_AGAIN_S, True))
        if time.monotonic() - asked_at < CHECK_AGAIN_S:
            return lasted
        try:
            call = self._redis.exists(keys.session(digest))
            lasted = bool(await asyncio.wait_for(cast("Any", call), READ_TIMEOUT_S))
        except (RedisError, TimeoutError) as error:
            log.warning("session not looked up", error=str(error), kind=type(error).__name__)
        if len(self._asked) >= MOST_REMEMBERED:
            self._asked.clear()
        self._asked[digest] = time.monotonic(), lasted
        return lasted

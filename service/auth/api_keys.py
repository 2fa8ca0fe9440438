"""API keys: their form, the store that the `glad key` commands write, and its copy in the memory of an API process.

A key is `glad_{id}_{secret}`. The id names it in lists and logs; the secret is 192 random bits and is shown once. Only
the secret's SHA-256 is kept: a slow hash would protect a password, which can be guessed; 192 random bits cannot.

Keys are kept in Redis, which all API processes share: a key that is created or revoked on one machine counts on all,
and is backed up with the rest. A revoked key stays in the list, so that the service does not become open again when the
last key is revoked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio
import structlog
from pydantic import Field, ValidationError
from redis.exceptions import RedisError

from model_store.manifest import Name
from service.auth.scopes import Scope
from service.contract import Message, Timestamp, now
from service.queue import keys

KEY_PATTERN = re.compile(r"glad_([0-9a-f]{12})_([0-9a-f]{48})")
REFRESH_S = 2.0
READ_TIMEOUT_S = 1.0
FIRST_READ_TIMEOUT_S = 5.0
"""While no keys are known: every call would be refused, at the start of a process that is busy with its first ones."""
_NO_DIGEST = "0" * 64

log = structlog.get_logger(__name__)


class KeyNameTaken(ValueError):
    """A key of this name is in use."""


class NoSuchKey(ValueError):
    """No key in use has this name or id."""


class ApiKey(Message):
    """The stored record of a key, without its secret."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: Name
    scopes: frozenset[Scope] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the secret")
    created_at: Timestamp
    revoked_at: Timestamp | None = None

    def accepts(self, secret: str) -> bool:
        """Return whether this is the key's secret and the key is not revoked. Takes the same time for every secret."""
        return same_digest(secret, self.sha256) and self.revoked_at is None


def split_key(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of a key's text; None if the text has not the form of a key."""
    match = KEY_PATTERN.fullmatch(text)
    return (match[1], match[2]) if match else None


def same_digest(secret: str, digest: str = _NO_DIGEST) -> bool:
    """Return whether the secret has this SHA-256. The comparison takes the same time for every secret."""
    return hmac.compare_digest(_sha256(secret), digest)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_keys(stored: dict[str, str]) -> dict[str, ApiKey]:
    """Return the keys by id. A record that this version cannot read is left out: its key is not accepted."""
    parsed = {}
    for key_id, text in stored.items():
        try:
            parsed[key_id] = ApiKey.model_validate_json(text)
        except ValidationError:
            log.warning("API key record cannot be read", key=key_id)
    return parsed


class KeyStore:
    """The keys in Redis: create, list and revoke them."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def create(self, name: str, scopes: Iterable[Scope]) -> str:
        """Create a key and return its full text, which is kept nowhere.

        Raises:
            KeyNameTaken: if a key of this name is in use.
            ValidationError: if the name is malformed, or `scopes` is empty.
        """
        key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
        new_key = ApiKey(id=key_id, name=name, scopes=frozenset(scopes), sha256=_sha256(secret), created_at=now())

        def write(pipe: redis.client.Pipeline) -> None:
            if self._active(name, pipe) is not None:
                raise KeyNameTaken(f"a key {name!r} is in use: choose another name, or revoke that one first")
            pipe.multi()
            pipe.hset(keys.API_KEYS, key_id, new_key.model_dump_json())

        self._redis.transaction(write, keys.API_KEYS)
        return f"glad_{key_id}_{secret}"

    def list_keys(self) -> list[ApiKey]:
        """Return all keys, revoked ones included, the oldest first."""
        return sorted(self._read(self._redis).values(), key=lambda key: (key.created_at, key.id))

    def ring(self) -> KeyRing:
        """Return all keys as they are now, to look up those that callers present."""
        stored = cast("dict[str, str]", self._redis.hgetall(keys.API_KEYS))
        return KeyRing(parse_keys(stored), any_created=bool(stored))

    def revoke(self, name_or_id: str) -> ApiKey:
        """Revoke a key for good and return its record.

        Raises:
            NoSuchKey: if no key in use has this name or id.
        """

        def write(pipe: redis.client.Pipeline) -> ApiKey:
            key = self._active(name_or_id, pipe)
            if key is None:
                raise NoSuchKey(f"no key in use has the name or id {name_or_id!r}: `glad key list` shows them")
            revoked = key.model_copy(update={"revoked_at": now()})
            pipe.multi()
            pipe.hset(keys.API_KEYS, revoked.id, revoked.model_dump_json())
            return revoked

        return cast(ApiKey, self._redis.transaction(cast("Any", write), keys.API_KEYS, value_from_callable=True))

    def _active(self, name_or_id: str, client: redis.Redis) -> ApiKey | None:
        named = (key for key in self._read(client).values() if name_or_id in (key.name, key.id))
        return next((key for key in named if key.revoked_at is None), None)

    def _read(self, client: redis.Redis) -> dict[str, ApiKey]:
        return parse_keys(cast("dict[str, str]", client.hgetall(keys.API_KEYS)))


@dataclass(frozen=True)
class KeyRing:
    """All keys at one moment."""

    by_id: dict[str, ApiKey]
    any_created: bool
    """Whether a key was ever created. One that this version cannot read counts too: the service needs keys then."""

    def find_key(self, presented: str) -> ApiKey | None:
        """Return the key in use that has this text; None if there is none."""
        parts = split_key(presented)
        if parts is None:
            return None
        key_id, secret = parts
        key = self.by_id.get(key_id)
        if key is None:
            same_digest(secret)  # an unknown id takes as long as a wrong secret, so that time does not tell ids
            return None
        return key if key.accepts(secret) else None


class KeyCache:
    """The keys in the memory of an API process, so that a request waits for Redis only every `refresh_s`.

    While Redis is away, the last keys that were read count.
    """

    def __init__(self, client: redis.asyncio.Redis, *, refresh_s: float = REFRESH_S) -> None:
        self._redis, self._refresh_s = client, refresh_s
        self._reading = asyncio.Lock()
        self._ring: KeyRing | None = None
        self._due_at = 0.0

    async def current_keys(self) -> KeyRing | None:
        """Return the keys, at most `refresh_s` old; None if they could never be read."""
        if time.monotonic() >= self._due_at:
            async with self._reading:
                if time.monotonic() >= self._due_at:  # another request may have read them while this one waited
                    await self._read()
        return self._ring

    async def _read(self) -> None:
        limit_s = FIRST_READ_TIMEOUT_S if self._ring is None else READ_TIMEOUT_S
        try:
            stored = await asyncio.wait_for(cast("Any", self._redis.hgetall(keys.API_KEYS)), limit_s)
            self._ring = KeyRing(parse_keys(stored), any_created=bool(stored))
        except (RedisError, TimeoutError) as error:
            log.warning("API keys could not be read", error=str(error), kind=type(error).__name__)
        self._due_at = time.monotonic() + self._refresh_s

"""API keys: what one looks like, and where they are kept.

A key is `glad_{id}_{secret}`. The id names it in lists and logs; the secret is 192 random bits, shown once. Kept is
only the secret's SHA-256: a slow hash protects passwords, which can be guessed; 192 random bits cannot.

Kept in Redis, on one machine and on many: it is what all API processes share already, so a key made or revoked anywhere
counts everywhere, and it is backed up with the rest. A revoked key stays in the list, so that the service does not fall
back to being open when the last key is revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Any, cast

import redis
import structlog
from pydantic import Field, ValidationError

from model_store.manifest import Name
from service.auth.scopes import Scope
from service.contract import Message, Timestamp, now
from service.queue import keys

KEY_PATTERN = re.compile(r"glad_([0-9a-f]{12})_([0-9a-f]{48})")
_NO_DIGEST = "0" * 64

log = structlog.get_logger(__name__)


class KeyNameTaken(ValueError):
    """A key of this name is in use."""


class NoSuchKey(ValueError):
    """No key in use has this name or id."""


class ApiKey(Message):
    """What is kept of a key."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: Name
    scopes: frozenset[Scope] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the secret")
    created_at: Timestamp
    revoked_at: Timestamp | None = None

    def opens(self, secret: str) -> bool:
        """This is the key's secret, and the key has not been revoked. Takes the same time for every secret."""
        return same_digest(secret, self.sha256) and self.revoked_at is None


def split_key(text: str) -> tuple[str, str] | None:
    """(id, secret) of a presented key; None if it is none."""
    found = KEY_PATTERN.fullmatch(text)
    return (found[1], found[2]) if found else None


def same_digest(secret: str, digest: str = _NO_DIGEST) -> bool:
    """The secret has this SHA-256, compared in constant time."""
    return hmac.compare_digest(digest_of(secret), digest)


def digest_of(secret: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_keys(stored: dict[str, str]) -> dict[str, ApiKey]:
    """id -> key, of what Redis holds. A record that this version does not understand lets nobody in."""
    found = {}
    for key_id, text in stored.items():
        try:
            found[key_id] = ApiKey.model_validate_json(text)
        except ValidationError:
            log.warning("key not understood", key=key_id)
    return found


class KeyStore:
    """Makes, lists and revokes keys: the command's side."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def create(self, name: str, scopes: Iterable[Scope]) -> str:
        """A new key's full text, which is kept nowhere. KeyNameTaken, or ValidationError for a malformed name."""
        key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
        made = ApiKey(id=key_id, name=name, scopes=frozenset(scopes), sha256=digest_of(secret), created_at=now())

        def write(pipe: redis.client.Pipeline) -> None:
            if self._active(name, pipe) is not None:
                raise KeyNameTaken(f"a key {name!r} is in use: choose another name, or revoke that one first")
            pipe.multi()
            pipe.hset(keys.API_KEYS, key_id, made.model_dump_json())

        self._redis.transaction(write, keys.API_KEYS)
        return f"glad_{key_id}_{secret}"

    def all(self) -> list[ApiKey]:
        """All keys ever made, oldest first."""
        return sorted(self._read(self._redis).values(), key=lambda key: (key.created_at, key.id))

    def revoke(self, name_or_id: str) -> ApiKey:
        """Ends a key for good. NoSuchKey if none in use has this name or id."""

        def write(pipe: redis.client.Pipeline) -> ApiKey:
            found = self._active(name_or_id, pipe)
            if found is None:
                raise NoSuchKey(f"no key in use has the name or id {name_or_id!r}: `glad key list` shows them")
            ended = found.model_copy(update={"revoked_at": now()})
            pipe.multi()
            pipe.hset(keys.API_KEYS, ended.id, ended.model_dump_json())
            return ended

        return cast(ApiKey, self._redis.transaction(cast("Any", write), keys.API_KEYS, value_from_callable=True))

    def _active(self, name_or_id: str, client: redis.Redis) -> ApiKey | None:
        found = (key for key in self._read(client).values() if name_or_id in (key.name, key.id))
        return next((key for key in found if key.revoked_at is None), None)

    def _read(self, client: redis.Redis) -> dict[str, ApiKey]:
        return parse_keys(cast("dict[str, str]", client.hgetall(keys.API_KEYS)))

"""Who needs an API key, and whether the service may start without one.

| GLAD_AUTH | meaning |
|---|---|
| `auto` | on the loopback address: no key needed until the first is made. Elsewhere: keys, and no start without one |
| `keys` | every call needs a key; while none is made, every call is refused |
| `off` | no call needs a key: access is controlled elsewhere, such as by a proxy |
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal, Self

import redis
from redis.exceptions import RedisError

from service.auth.api_keys import KeyStore
from service.auth.rate_limit import Rate
from service.errors import StartError
from service.settings import Settings

Auth = Literal["auto", "keys", "off"]


@dataclass(frozen=True)
class AuthPolicy:
    """The settings that decide whether a call is accepted."""

    auth: Auth
    host: str
    """The address that the API listens on."""
    rate: Rate | None
    """Limit of one key, or of one address where no key is needed; None: no limit."""
    failures: Rate
    """Limit of calls without a valid key, from one address."""
    retry_after_s: int
    cors_origins: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the policy that the settings describe."""
        return cls(
            auth=settings.auth,
            host=settings.host,
            rate=Rate(settings.rate_per_s, settings.rate_burst) if settings.rate_per_s else None,
            failures=Rate(settings.failures_per_minute / 60, settings.failures_per_minute),
            retry_after_s=settings.retry_after_s,
            cors_origins=settings.cors_origins,
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def needs_key(auth: Auth, host: str, *, any_key_made: bool) -> bool:
    """Return whether a call needs a key."""
    return auth == "keys" or (auth == "auto" and (any_key_made or not is_loopback(host)))


def check_may_start(auth: Auth, host: str, client: redis.Redis) -> None:
    """Check that an address which other machines reach has a key in use, if GLAD_AUTH is `auto`.

    While Redis does not answer, the keys are unknown: the service starts, and refuses calls until it has read them.

    Raises:
        StartError: if it has none.
    """
    if auth != "auto" or is_loopback(host):
        return
    try:
        made = KeyStore(client).list_keys()
    except RedisError:
        return
    if not any(key.revoked_at is None for key in made):
        raise StartError(
            f"GLAD_HOST is {host}, which other machines reach, and there is no API key: make one with "
            "`glad key create NAME --scope submit,read`; or set GLAD_AUTH=keys to start without (every call is refused "
            "until a key is made), or GLAD_AUTH=off to serve everybody who reaches this address"
        )

"""Authentication: whether a request needs an API key, whose key it has, and how often its caller may call.

| GLAD_AUTH | meaning |
|---|---|
| `auto` | on the loopback address: no key needed until the first is made. Elsewhere: keys, and no start without one |
| `keys` | every call needs a key; while none is made, every call is refused |
| `off` | no call needs a key: access is controlled elsewhere, such as by a proxy |
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from service.auth.api_keys import KeyCache, KeyRing, KeyStore
from service.auth.scopes import ANONYMOUS, Caller
from service.errors import ForeignPage, QueueUnavailable, RateExceeded, StartError, Unauthorized
from service.queue import keys
from service.queue.scripts import load
from service.settings import Settings

ANSWER_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rate:
    """A limit: calls a second in the long run, and calls at once."""

    per_s: float
    burst: int


class RateLimiter:
    """Counts calls in Redis. While Redis is away nothing is counted: calls that need Redis are refused then anyway."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._script = client.register_script(load("token_bucket"))

    async def count_call(self, kind: Literal["calls", "failures"], caller: str, rate: Rate) -> int:
        """Count one call and return the seconds to wait: 0 if it may pass.

        Args:
            kind: each kind of calls has a bucket of its own.
            caller: a key's id, or an address of `authenticator.client_address`.
            rate: the limit.
        """
        call = self._script(keys=[keys.rate(kind, caller)], args=[rate.per_s, rate.burst])
        try:
            wait_ms = await asyncio.wait_for(cast("Any", call), ANSWER_TIMEOUT_S)
        except (RedisError, TimeoutError) as error:
            log.warning("call not counted by the rate limit", error=str(error), kind=type(error).__name__)
            return 0
        return math.ceil(int(wait_ms) / 1000)


Auth = Literal["auto", "keys", "off"]
HOW_TO_GET_A_KEY = "make one on the service's machine with `glad key create NAME --scope submit,read`"


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


class Authenticator:
    """Decides whether a request is accepted, and finds its caller."""

    def __init__(self, policy: AuthPolicy, keys: KeyCache, limiter: RateLimiter) -> None:
        self._policy, self._keys, self._limiter = policy, keys, limiter

    async def authenticate(self, headers: Mapping[str, str], client: tuple[str, int] | None) -> Caller:
        """Return the caller of a request, and count the call.

        Args:
            headers: of the request, found by names in lower case.
            client: host and port of the connection; None for a unix socket.

        Raises:
            Unauthorized: if a key is needed and the request has none that is in use.
            ForeignPage: if no key is needed, and the request comes from another site's page in a browser.
            RateExceeded: if the caller calls too often.
            QueueUnavailable: if the keys could never be read.
        """
        address = client_address(client)
        caller = await self._identify(headers, address)
        if self._policy.rate is not None:
            await self._count("calls", caller.id or address, self._policy.rate)
        return caller

    async def is_still_valid(self, caller: Caller) -> bool:
        """Return whether the caller's key is still in use. Event streams ask again and again while they last."""
        ring = await self._keys.current_keys()
        if ring is None or not self._needs_key(ring):
            return True
        key = ring.by_id.get(caller.id)
        return key is not None and key.revoked_at is None

    async def _identify(self, headers: Mapping[str, str], address: str) -> Caller:
        if self._policy.auth == "off":
            return ANONYMOUS
        ring = await self._keys.current_keys()
        if ring is None:
            raise QueueUnavailable(
                "the API keys cannot be read now: try again later", retry_after_s=self._policy.retry_after_s
            )
        if not self._needs_key(ring):
            self._refuse_foreign_host(headers.get("host", ""))
            self._refuse_foreign_page(headers)
            return ANONYMOUS
        presented = presented_key(headers)
        key = ring.find_key(presented) if presented else None
        if key is None:
            await self._count("failures", address, self._policy.failures)
            raise _unauthorized(headers, ring)
        return Caller(key.id, key.name, key.scopes)

    def _needs_key(self, ring: KeyRing) -> bool:
        return needs_key(self._policy.auth, self._policy.host, any_key_made=ring.any_created)

    def _refuse_foreign_host(self, host: str) -> None:
        # DNS rebinding: a page of another site makes its own name resolve to this machine. To the browser the page is
        # then no foreign one, and it sends no Origin; but it still sends that name in Host.
        if (
            host
            and not is_loopback(_hostname(host))
            and not any(origin.endswith(f"//{host}") for origin in self._policy.cors_origins)
        ):
            raise ForeignPage(
                f"this machine was called {host[:100]}; without API keys it answers to localhost, 127.0.0.1 and [::1] "
                "only: call one of these, make keys with `glad key create`, or set GLAD_AUTH=off where a proxy "
                "controls access"
            )

    def _refuse_foreign_page(self, headers: Mapping[str, str]) -> None:
        # A page of another site, open in a browser on this machine, reaches the loopback address too. Browsers name
        # the page's site in Origin with every request that could change something.
        origin = headers.get("origin")
        this_site = f"//{headers.get('host', '')}"
        if origin is not None and not origin.endswith(this_site) and origin not in self._policy.cors_origins:
            raise ForeignPage(
                f"a page of {origin[:100]} called; without API keys only pages of this service may: "
                "name that site in GLAD_CORS_ORIGINS, or make keys with `glad key create`"
            )

    async def _count(self, kind: Literal["calls", "failures"], caller: str, rate: Rate) -> None:
        wait_s = await self._limiter.count_call(kind, caller, rate)
        if wait_s:
            calls = "calls without a valid API key" if kind == "failures" else "calls"
            raise RateExceeded(
                f"too many {calls} from {caller}: {rate.per_s:g} a second and {rate.burst} at once are allowed; "
                f"try again in {wait_s} s",
                retry_after_s=wait_s,
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


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the text of `Authorization: Bearer …`, else of `X-API-Key: …`; None without either."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return headers.get("x-api-key")


def _hostname(host: str) -> str:
    """Return the name or address in a `Host` header, without the port; "" if it has none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


def _unauthorized(headers: Mapping[str, str], ring: KeyRing) -> Unauthorized:
    if presented_key(headers):
        return Unauthorized("this API key is not in use: it was mistyped, or revoked; `glad key list` shows all keys")
    none_yet = "" if ring.any_created else "; none has been made yet"
    return Unauthorized(f"send an API key as `Authorization: Bearer glad_…`{none_yet}: {HOW_TO_GET_A_KEY}")


def client_address(client: tuple[str, int] | None) -> str:
    """Return the address that identifies a client: IPv4, or the /64 network of IPv6, which one client has for itself.

    Args:
        client: host and port of the connection; None for a unix socket.
    """
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a unix socket, or the name that an ASGI test client gives
        return host[:64] or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)

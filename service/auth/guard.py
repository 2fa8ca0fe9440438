"""The door: finds out who calls before a byte of the body is read, and how often they have called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers

from service.auth.caller import ANYBODY, Caller
from service.auth.key_cache import KeyRing, SharedKeys
from service.auth.policy import Auth, is_loopback, needs_key
from service.auth.rate_limit import Rate, RateLimiter, address_of
from service.errors import ForeignPage, QueueUnavailable, RateExceeded, Unauthorized
from service.settings import Settings

HOW_TO_GET_A_KEY = "make one on the service's machine with `glad key create NAME --scope submit,read`"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class AuthPolicy:
    """What the door goes by."""

    auth: Auth
    host: str
    """The address that the API listens on."""
    rate: Rate | None
    """Of one key, or of one address where no key is needed; None: no limit."""
    failures: Rate
    """Of calls without a valid key, from one address."""
    retry_after_s: int
    cors_origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(
            auth=settings.auth,
            host=settings.host,
            rate=Rate(settings.rate_per_s, settings.rate_burst) if settings.rate_per_s else None,
            failures=Rate(settings.failures_per_minute / 60, settings.failures_per_minute),
            retry_after_s=settings.retry_after_s,
            cors_origins=settings.cors_origins,
        )


class Authenticator:
    """Decides who may pass."""

    def __init__(self, rules: AuthPolicy, keys: SharedKeys, limiter: RateLimiter) -> None:
        self._rules, self._keys, self._limiter = rules, keys, limiter

    async def admit(self, headers: Headers, client: tuple[str, int] | None) -> Caller:
        """The caller. Unauthorized, ForeignPage, RateExceeded; QueueUnavailable if the keys could not be read yet."""
        address = address_of(client)
        caller = await self._identify(headers, address)
        if self._rules.rate is not None:
            await self._count("calls", caller.id or address, self._rules.rate)
        return caller

    async def still_admits(self, caller: Caller) -> bool:
        """Whether this caller would pass again: for answers without end. Costs at most the key ring's own reading."""
        ring = await self._keys.ring()
        if ring is None or not needs_key(self._rules.auth, self._rules.host, any_key_made=ring.any_made):
            return True
        key = ring.by_id.get(caller.id)
        return key is not None and key.revoked_at is None

    async def _identify(self, headers: Headers, address: str) -> Caller:
        if self._rules.auth == "off":
            return ANYBODY
        ring = await self._keys.ring()
        if ring is None:
            raise QueueUnavailable(
                "the API keys cannot be read now: try again later", retry_after_s=self._rules.retry_after_s
            )
        if not needs_key(self._rules.auth, self._rules.host, any_key_made=ring.any_made):
            self._refuse_foreign_name(headers.get("host", ""))
            self._refuse_foreign_page(headers)
            return ANYBODY
        caller = _owner(ring, presented_key(headers))
        if caller is None:
            await self._count("failures", address, self._rules.failures)
            raise _unauthorized(headers, ring)
        return caller

    def _refuse_foreign_name(self, host: str) -> None:
        """A page of another site may make its own name mean this machine (DNS rebinding), and is then no foreign page
        to the browser. But the browser still says by which name it came.
        """
        if (
            host
            and not is_loopback(_name_in(host))
            and not any(origin.endswith(f"//{host}") for origin in self._rules.cors_origins)
        ):
            raise ForeignPage(
                f"this machine was called {host[:100]}; without API keys it answers to localhost, 127.0.0.1 and [::1] "
                "only: call one of these, make keys with `glad key create`, or set GLAD_AUTH=off where a proxy keeps "
                "the door"
            )

    def _refuse_foreign_page(self, headers: Headers) -> None:
        """A page of another site, open in a browser on this machine, may not use that the door is open to the machine.

        Browsers name the site in `Origin` with all that could change something.
        """
        origin = headers.get("origin")
        own = f"//{headers.get('host', '')}"
        if origin is not None and not origin.endswith(own) and origin not in self._rules.cors_origins:
            raise ForeignPage(
                f"a page of {origin[:100]} called; without API keys only pages of this service may: "
                "name that site in GLAD_CORS_ORIGINS, or make keys with `glad key create`"
            )

    async def _count(self, what: str, who: str, rate: Rate) -> None:
        wait_s = await self._limiter.wait_s(what, who, rate)
        if wait_s:
            kind = "calls without a valid API key" if what == "failures" else "calls"
            raise RateExceeded(
                f"too many {kind} from {who}: {rate.per_s:g} a second and {rate.burst} at once are allowed; "
                f"try again in {wait_s} s",
                retry_after_s=wait_s,
            )


def _name_in(host: str) -> str:
    """The name or address of a `Host` header, without its port; "" if it has none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


def presented_key(headers: Headers) -> str | None:
    """The text of `Authorization: Bearer …`, else of `X-API-Key: …`."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return headers.get("x-api-key")


def _owner(ring: KeyRing, presented: str | None) -> Caller | None:
    key = ring.find(presented) if presented else None
    return Caller(key.id, key.name, key.scopes) if key else None


def _unauthorized(headers: Headers, ring: KeyRing) -> Unauthorized:
    if presented_key(headers):
        return Unauthorized("this API key is not in use here: it was mistyped, or revoked; `glad key list` shows those")
    none_yet = "" if ring.any_made else "; none has been made yet"
    return Unauthorized(f"send an API key as `Authorization: Bearer glad_…`{none_yet}: {HOW_TO_GET_A_KEY}")

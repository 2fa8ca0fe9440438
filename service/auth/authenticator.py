"""Authentication: whether a request needs an API key, whose key it has, and how often its caller may call.

| GLAD_AUTH | meaning |
|---|---|
| `auto` | on the loopback address: no key needed until the first is made. Elsewhere: keys, and no start without one |
| `keys` | every call needs a key; while none is made, every call is refused |
| `off` | no call needs a key: access is controlled elsewhere, such as by a proxy |
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self
from urllib.parse import urlsplit

import redis
from redis.exceptions import RedisError

from service.auth.api_keys import KeyCache, KeyRing, KeyStore
from service.auth.rate_limit import CALLS_IN_WORDS, Counted, Rate, RateLimiter, client_address
from service.auth.scopes import ANONYMOUS, Caller
from service.auth.sessions import CSRF_HEADER, SAFE_METHODS, OpenSession, Sessions, session_token
from service.errors import CsrfTokenMissing, ForeignPage, QueueUnavailable, RateExceeded, StartError, Unauthorized
from service.settings import Settings

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
    """Limit of calls without a valid key, from one address; and of sign-ins."""
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


@dataclass(frozen=True)
class SignedIn:
    """Who made a request, and what it may do."""

    needs_key: bool
    """Whether calls of the service need a key."""
    caller: Caller | None
    """None: a key is needed, and there is neither key nor session."""
    session: OpenSession | None


class Authenticator:
    """Decides whether a request is accepted, and finds its caller."""

    def __init__(self, policy: AuthPolicy, keys: KeyCache, limiter: RateLimiter, sessions: Sessions) -> None:
        self._policy, self._keys, self._limiter, self._sessions = policy, keys, limiter, sessions

    async def authenticate(
        self, headers: Mapping[str, str], client: tuple[str, int] | None, method: str = "GET"
    ) -> Caller:
        """Return the caller of a request, and count the call.

        A key in a header counts before the cookie of a session.

        Args:
            headers: of the request, found by names in lower case.
            client: host and port of the connection; None for a unix socket.
            method: of the request.

        Raises:
            Unauthorized: if a key is needed, and the request has none that is in use, and no session.
            ForeignPage: if it comes from another site's page in a browser, with a session or where no key is needed.
            CsrfTokenMissing: if a session's cookie came alone, and the method may change something.
            RateExceeded: if the caller calls too often.
            QueueUnavailable: if the keys could never be read.
        """
        address = client_address(client)
        caller = await self._identify(headers, address, method)
        if self._policy.rate is not None:
            await self._count("calls", caller.id or address, self._policy.rate)
        return caller

    async def is_still_valid(self, caller: Caller) -> bool:
        """Return whether the caller's key and session still count. Event streams ask again and again."""
        if caller.session and not await self._sessions.lasts(caller.session):
            return False
        ring = await self._keys.current_keys()
        if ring is None or not self._needs_key(ring):
            return True
        key = ring.by_id.get(caller.id)
        return key is not None and key.revoked_at is None

    async def sign_in(
        self, headers: Mapping[str, str], client: tuple[str, int] | None, *, person: str, key: str | None
    ) -> SignedIn:
        """Open a session for a person. The one that the request came with ends.

        Who is signed in may hand over to another person without the key; that session ends when the first one would.

        Args:
            headers: of the request, found by names in lower case.
            client: host and port of the connection; None for a unix socket.
            person: who signs in, as they say.
            key: the text of an API key; None: the one of the present session; not looked at where none is needed.

        Raises:
            Unauthorized: if a key is needed, and this is none that is in use.
            ForeignPage: if the request comes from another site's page in a browser.
            RateExceeded: if too many sign-ins came from the address, or too many failed.
            QueueUnavailable: if Redis is away.
        """
        address = client_address(client)
        self._refuse_foreign_origin(headers)
        ring, former = await self._ring_if_needed(headers), await self._find_session(headers)
        handed_over = None if ring is None or key is not None else _caller_of_session(ring, former)
        if former is not None and handed_over is not None:
            self._refuse_forged(headers, "POST", former)
        caller = handed_over or (ANONYMOUS if ring is None else await self._caller_of_key(ring, key, address))
        await self._count("sign_ins", address, self._policy.failures)
        try:
            until = former.stored.expires_at if former is not None and handed_over is not None else None
            session = await self._sessions.open(person, caller.id, until)
            if former is not None:
                await self._sessions.end(former)
        except RedisError as error:
            raise self._unavailable("the session cannot be kept now") from error
        return SignedIn(ring is not None, _with_session(caller, session), session)

    async def sign_out(self, headers: Mapping[str, str]) -> None:
        """End the session of the request, if it has one.

        Raises:
            ForeignPage, CsrfTokenMissing: if it may come from another site's page.
            QueueUnavailable: if Redis is away.
        """
        session = await self._find_session(headers)
        if session is None:
            return
        self._refuse_forged(headers, "DELETE", session)
        try:
            await self._sessions.end(session)
        except RedisError as error:
            raise self._unavailable("the session cannot be ended now") from error

    async def describe(self, headers: Mapping[str, str], client: tuple[str, int] | None) -> SignedIn:
        """Return who made a request, and whether calls need a key.

        Raises:
            Unauthorized: if it came with a key that is not in use.
            ForeignPage, RateExceeded, QueueUnavailable: as `authenticate` does.
        """
        address = client_address(client)
        if self._policy.rate is not None:
            await self._count("calls", address, self._policy.rate)
        ring = await self._ring_if_needed(headers)
        if ring is not None and presented_key(headers):
            return SignedIn(True, await self._caller_of_key(ring, presented_key(headers), address), None)
        session = await self._find_session(headers)
        caller = ANONYMOUS if ring is None else _caller_of_session(ring, session)
        if caller is None or session is None:
            return SignedIn(ring is not None, caller, None)
        return SignedIn(ring is not None, _with_session(caller, session), session)

    async def _identify(self, headers: Mapping[str, str], address: str, method: str) -> Caller:
        ring = await self._ring_if_needed(headers)
        if ring is not None and presented_key(headers):
            return await self._caller_of_key(ring, presented_key(headers), address)
        session = await self._find_session(headers)
        if ring is None:
            caller: Caller | None = ANONYMOUS
        elif (caller := _caller_of_session(ring, session)) is None:
            await self._count("failures", address, self._policy.failures)
            raise _ended_session() if session_token(headers) else _no_key(ring)
        assert caller is not None
        if session is None:
            return caller
        self._refuse_forged(headers, method, session)
        return _with_session(caller, session)

    async def _ring_if_needed(self, headers: Mapping[str, str]) -> KeyRing | None:
        """Return the keys; None where a call needs none, and may be made from the page that it comes from."""
        if self._policy.auth == "off":
            return None
        ring = await self._keys.current_keys()
        if ring is None:
            raise self._unavailable("the API keys cannot be read now")
        if self._needs_key(ring):
            return ring
        self._refuse_foreign_host(headers.get("host", ""))
        self._refuse_foreign_page(headers)
        return None

    async def _caller_of_key(self, ring: KeyRing, presented: str | None, address: str) -> Caller:
        key = ring.find_key(presented) if presented else None
        if key is None:
            await self._count("failures", address, self._policy.failures)
            raise _unknown_key() if presented else _no_key(ring)
        return Caller(key.id, key.name, key.scopes)

    async def _find_session(self, headers: Mapping[str, str]) -> OpenSession | None:
        token = session_token(headers)
        if token is None:
            return None
        try:
            return await self._sessions.find(token)
        except (RedisError, TimeoutError) as error:
            raise self._unavailable("the session cannot be looked up now") from error

    def _unavailable(self, what: str) -> QueueUnavailable:
        return QueueUnavailable(f"{what}: try again later", retry_after_s=self._policy.retry_after_s)

    def _refuse_forged(self, headers: Mapping[str, str], method: str, session: OpenSession) -> None:
        # A browser adds the cookie to a call by itself; only a page that could read the token adds the header.
        if method in SAFE_METHODS:
            return
        self._refuse_foreign_origin(headers)
        if not session.accepts_csrf(headers.get(CSRF_HEADER.lower())):
            raise CsrfTokenMissing(
                f"{method} with the cookie of a session needs the header {CSRF_HEADER}: GET /v1/session says which; a "
                "program sends an API key instead, as `Authorization: Bearer glad_…`"
            )

    def _refuse_foreign_origin(self, headers: Mapping[str, str]) -> None:
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and origin.partition("://")[2] != host:
            raise ForeignPage(
                f"a page of {origin[:100]} called {host[:100]} with a session: only pages of this service may. Behind "
                "a proxy, let it pass on the header Host as it came (nginx: proxy_set_header Host $http_host)"
            )

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

    async def _count(self, kind: Counted, caller: str, rate: Rate) -> None:
        wait_s = await self._limiter.count_call(kind, caller, rate)
        if wait_s:
            raise RateExceeded(
                f"too many {CALLS_IN_WORDS[kind]} from {caller}: {rate.per_s:g} a second and {rate.burst} at once are "
                f"allowed; try again in {wait_s} s",
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


def _caller_of_session(ring: KeyRing, session: OpenSession | None) -> Caller | None:
    """Return the caller of a session whose key is in use; None if it is not, or there is no session."""
    key = None if session is None else ring.by_id.get(session.stored.key_id)
    return None if key is None or key.revoked_at is not None else Caller(key.id, key.name, key.scopes)


def _with_session(caller: Caller, session: OpenSession) -> Caller:
    return replace(caller, person=session.stored.person, session=session.digest)


def _ended_session() -> Unauthorized:
    return Unauthorized("this session has ended, or its API key was revoked: sign in again")


def _unknown_key() -> Unauthorized:
    return Unauthorized("this API key is not in use: it was mistyped, or revoked; `glad key list` shows all keys")


def _no_key(ring: KeyRing) -> Unauthorized:
    none_yet = "" if ring.any_created else "; none has been made yet"
    return Unauthorized(f"send an API key as `Authorization: Bearer glad_…`{none_yet}: {HOW_TO_GET_A_KEY}")

"""Webhooks: each event is one signed POST to each URL, in no particular order: a failing one does not delay the others.

Every attempt is signed (Standard Webhooks), goes to an address that is public or allowed, and follows no redirect.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import anyio
import httpx

from service.host.child_process import Backoff
from service.outbox.relay import FAULTS_OF_EVENTS, DeliveryPolicy, Undelivered, event_message
from service.outbox.settings import Network, OutboxSettings
from service.queue.events import StoredEvent
from service.telemetry.logs import package_version

CONCURRENT_POSTS = 8
MOST_FAILED = 100
"""With so many failed events further ones are tried only as long as these arrive."""
MOST_FAILED_ALONE = 1000
"""With so many failed events no further one is tried, though others arrive."""
MAX_ANSWER_BYTES = 64 << 10
TIMEOUTS_PER_ATTEMPT = 3
"""An attempt may take so many times `webhook_timeout_s`: one each for connecting, sending and the answer. httpx limits
only the wait for the next byte, so a receiver that sends a byte at a time would never time out."""
_NAT64 = ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ip_network("2000::/3")
"""All of IPv6 that is handed out; Python calls some of the rest global, site-local fec0::/10 among it."""
_DOCUMENTATION = ip_network("3fff::/20")
"""Of RFC 9637, which Python 3.11 does not know."""

IpAddress = IPv4Address | IPv6Address


class AddressRefused(Exception):
    """The receiver's name has no address, or none that may be called."""


class WebhookSink:
    """The sink that posts every event to one URL."""

    def __init__(self, url: str, settings: OutboxSettings) -> None:
        """Make the sink; it connects with the first event.

        Raises:
            ValueError: if the certificates to trust cannot be used.
            OSError: if they cannot be read.
        """
        self.name = sink_name(url)
        self.policy = DeliveryPolicy(
            batch=CONCURRENT_POSTS,
            most_failed=MOST_FAILED,
            most_failed_alone=MOST_FAILED_ALONE,
            backoff=Backoff(first_s=5.0, most_s=300.0),
            give_up_after_s=settings.webhook_give_up_after_s,
        )
        self._url, self._keys, self._allowed = httpx.URL(url), settings.webhook_keys, settings.webhook_allow
        self._timeout_s = settings.webhook_timeout_s
        self._loop = (
            asyncio.Runner()
        )  # asyncio, because an attempt can be cancelled when its time is over; a thread cannot
        self._http = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=settings.webhook_ca_file),
            timeout=settings.webhook_timeout_s,
            follow_redirects=False,  # the address that it leads to was not checked
            trust_env=False,  # a proxy would look up the name itself, and could find an address that was not checked
            headers={"User-Agent": f"glad-inspect/{package_version()}", "Content-Type": "application/json"},
        )

    def deliver(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Post these events at the same time; return those that were not answered with a 2xx."""
        return [failed for failed in self._loop.run(self._post_all(events)) if failed is not None]

    def idle(self, now_ms: int) -> None:
        """Do nothing: no work is postponed."""

    def close(self) -> None:
        """Close the connections."""
        self._loop.run(self._http.aclose())
        self._loop.close()

    async def _post_all(self, events: Sequence[StoredEvent]) -> list[Undelivered | None]:
        return await asyncio.gather(*map(self._post, events))

    async def _post(self, event: StoredEvent) -> Undelivered | None:
        limit_s = TIMEOUTS_PER_ATTEMPT * self._timeout_s
        try:
            body = event_message(event).encode()
        except FAULTS_OF_EVENTS as error:
            return Undelivered(event.id, f"cannot be read: {error}"[:300], refused=True)
        try:
            with anyio.fail_after(limit_s):  # httpx cleans up after a cancellation by anyio, and not always by asyncio
                answer = await self._http.send(await self._request(event.id, body), stream=True)
                try:
                    await self._drain(answer)
                finally:
                    await answer.aclose()
        except TimeoutError:
            return Undelivered(event.id, f"no whole answer within {limit_s:g} s")
        except AddressRefused as error:
            return Undelivered(event.id, str(error))
        except (httpx.HTTPError, OSError) as error:
            return Undelivered(event.id, f"{type(error).__name__}: {error}"[:300] + _certificate_hint(error))
        if answer.is_success:
            return None
        hint = ", which is not followed: set the URL that it leads to" if answer.has_redirect_location else ""
        reason = f"answered {answer.status_code} {answer.reason_phrase}"[:100]
        return Undelivered(event.id, reason + hint, _retry_after_s(answer))

    async def _request(self, event_id: str, body: bytes) -> httpx.Request:
        """Return the request for one event, addressed to the IP address that was checked.

        If the URL's name were used, it would be looked up a second time, perhaps with another answer (DNS rebinding).
        The Host header, and the name that the certificate must have, are still those of the URL.
        """
        host = self._url.raw_host.decode()
        address = await asyncio.to_thread(resolve, host, self._url.port or 443, self._allowed)
        return self._http.build_request(
            "POST",
            self._url.copy_with(host=str(address)),
            content=body,
            headers={"Host": self._url.netloc.decode(), **signature_headers(event_id, _now_s(), body, self._keys)},
            extensions={"sni_hostname": host},
        )

    async def _drain(self, answer: httpx.Response) -> None:
        """Read the answer, up to a limit: only a connection whose answer was read to the end can be used again."""
        received_bytes, deadline = 0, time.monotonic() + self._timeout_s
        async for chunk in answer.aiter_raw():
            received_bytes += len(chunk)
            if received_bytes > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                return


def sink_name(url: str) -> str:
    """Return a name such as `webhook:mes.example-1f2e3d4c`: distinct for each URL, without its path or token."""
    return f"webhook:{httpx.URL(url).host}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def signature_headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the headers that sign one attempt, as Standard Webhooks defines them.

    Args:
        timestamp: when the attempt is made, in seconds since 1970.
        keys: each of them signs; a receiver needs to know one of them.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def resolve(host: str, port: int, allowed: Sequence[Network]) -> IpAddress:
    """Return the address to call for this host: one that is public or in an allowed network.

    Raises:
        AddressRefused: if there is none; the message says why.
    """
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressRefused(f"{host} cannot be looked up: {error.strerror or error}") from error
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
    usable = next((address for address in addresses if is_allowed(address, allowed)), None)
    if usable is None:
        raise AddressRefused(
            f"{host} is {', '.join(map(str, dict.fromkeys(addresses)))}, which is not public: allow its network with "
            "GLAD_WEBHOOK_ALLOW, such as 10.20.0.0/16"
        )
    return usable


def is_allowed(address: IpAddress, allowed: Sequence[Network]) -> bool:
    """Return whether the address is public, or in one of these networks."""
    # An IPv6 address can stand for an IPv4 one: ::ffff:10.0.0.1 would reach a private host as 10.0.0.1 does.
    inner = _inner_ipv4(address)
    if any(one.version == network.version and one in network for one in (address, inner) for network in allowed):
        return True
    return _is_public(inner)


def _is_public(address: IpAddress) -> bool:
    if isinstance(address, IPv6Address) and (address not in _GLOBAL_UNICAST or address in _DOCUMENTATION):
        return False  # among it all other forms that hold an IPv4 address: ::a.b.c.d, ::ffff:0:a.b.c.d, 64:ff9b:1::/48
    return address.is_global and not address.is_multicast


def _inner_ipv4(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 one stands for (NAT64, mapped, 6to4); else the address itself."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _certificate_hint(error: Exception) -> str:
    """Return what to do where the receiver's certificate is of an authority that is not known, as in most plants."""
    unknown = ("self-signed certificate", "self signed certificate", "unable to get local issuer")
    if not any(words in str(error) for words in unknown):
        return ""
    return ": name the PEM file of its authority by GLAD_WEBHOOK_CA_FILE"


def _now_s() -> int:
    return int(time.time())


def _retry_after_s(answer: httpx.Response) -> float:
    """Return Retry-After in seconds, from a number or a date; 0 if there is none that can be read."""
    text = answer.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return 0.0

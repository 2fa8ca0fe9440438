"""Webhooks: each event is one signed POST to each URL. No order is kept: one that fails does not hold up the next."""

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

import httpx

from service.host.child_process import Backoff
from service.outbox.relay import Policy, Undelivered, message
from service.outbox.settings import Network, OutboxSettings
from service.queue.events import StoredEvent
from service.telemetry.logs import package_version


def signature_headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of one attempt; `timestamp` in seconds. Each key signs: a receiver needs to know one of them."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


_NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


class AddressRefused(Exception):
    """The name leads nowhere, or nowhere that may be called."""


def resolve(host: str, port: int, allowed: Sequence[Network]) -> Address:
    """The address to call for this host: public, or in an allowed network. AddressRefused says why there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressRefused(f"{host} cannot be looked up: {error.strerror or error}") from error
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    usable = next((address for address in addresses if is_allowed(address, allowed)), None)
    if usable is None:
        raise AddressRefused(
            f"{host} is {', '.join(map(str, dict.fromkeys(addresses)))}, which is not public: allow its network with "
            "GLAD_WEBHOOK_ALLOW, such as 10.20.0.0/16"
        )
    return usable


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Public, or in one of these networks."""
    real = _inner(address)
    if any(one.version == network.version and one in network for one in (address, real) for network in allowed):
        return True
    return real.is_global and not real.is_multicast


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


AT_A_TIME = 8
MOST_FAILED = 100
MOST_ANSWER_BYTES = 64 << 10
PARTS = 3
"""Connecting, sending, the answer: an attempt may take so many times what each of them may. A receiver that sends a
byte at a time keeps to the limit of each read, and would keep us for ever."""


def sink_name(url: str) -> str:
    """`webhook:mes.example-1f2e3d4c`: tells URLs apart, and shows nothing of their paths, which may hold a token."""
    return f"webhook:{httpx.URL(url).host}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


class Webhook:
    """One URL that every event is posted to."""

    def __init__(self, url: str, settings: OutboxSettings) -> None:
        """ValueError or OSError if the certificates to trust cannot be used."""
        self.name = sink_name(url)
        self.policy = Policy(
            batch=AT_A_TIME,
            most_failed=MOST_FAILED,
            backoff=Backoff(first_s=5.0, most_s=300.0),
            give_up_after_s=settings.webhook_give_up_after_s,
        )
        self._url, self._keys, self._allowed = httpx.URL(url), settings.webhook_keys, settings.webhook_allow
        self._timeout_s = settings.webhook_timeout_s
        self._loop = asyncio.Runner()  # what waits can be cancelled, which a thread cannot
        self._http = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=settings.webhook_ca_file),
            timeout=settings.webhook_timeout_s,
            follow_redirects=False,
            trust_env=False,  # a proxy would look the name up again, by itself
            headers={"User-Agent": f"glad-inspect/{package_version()}", "Content-Type": "application/json"},
        )

    def deliver(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Posts these at the same time; returns those that were not answered with a 2xx."""
        return [failed for failed in self._loop.run(self._posted(events)) if failed is not None]

    def idle(self, now_ms: int) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Lets connections go."""
        self._loop.run(self._http.aclose())
        self._loop.close()

    async def _posted(self, events: Sequence[StoredEvent]) -> list[Undelivered | None]:
        return await asyncio.gather(*map(self._post, events))

    async def _post(self, event: StoredEvent) -> Undelivered | None:
        most_s = PARTS * self._timeout_s
        try:
            async with asyncio.timeout(most_s):
                answer = await self._http.send(await self._request(event), stream=True)
                try:
                    await self._drain(answer)
                finally:
                    await answer.aclose()
        except TimeoutError:
            return Undelivered(event.id, f"no whole answer within {most_s:g} s")
        except AddressRefused as error:
            return Undelivered(event.id, str(error))
        except (httpx.HTTPError, OSError) as error:
            return Undelivered(event.id, f"{type(error).__name__}: {error}"[:300])
        if answer.is_success:
            return None
        told = ", which is not followed: set the URL that it leads to" if answer.has_redirect_location else ""
        reason = f"answered {answer.status_code} {answer.reason_phrase}"[:100]
        return Undelivered(event.id, reason + told, _retry_after_s(answer))

    async def _request(self, event: StoredEvent) -> httpx.Request:
        """To the address that was checked, in the name that was set: for the certificate, and for the receiver."""
        host = self._url.raw_host.decode()
        address = await asyncio.to_thread(resolve, host, self._url.port or 443, self._allowed)
        body = message(event).encode()
        return self._http.build_request(
            "POST",
            self._url.copy_with(host=str(address)),
            content=body,
            headers={"Host": self._url.netloc.decode(), **signature_headers(event.id, _now_s(), body, self._keys)},
            extensions={"sni_hostname": host},
        )

    async def _drain(self, answer: httpx.Response) -> None:
        """Reads the answer, so that the connection can be used again; but not for ever."""
        seen, deadline = 0, time.monotonic() + self._timeout_s
        async for chunk in answer.aiter_raw():
            seen += len(chunk)
            if seen > MOST_ANSWER_BYTES or time.monotonic() > deadline:
                return


def _now_s() -> int:
    return int(time.time())


def _retry_after_s(answer: httpx.Response) -> float:
    """Seconds, or a date; 0 where there is none, or none that can be read."""
    text = answer.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return 0.0

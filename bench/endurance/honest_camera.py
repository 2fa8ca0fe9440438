"""A camera that means well, and the probes of its cluster: what they are answered while others misuse the service."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from service.contract import State

CALL_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 5.0
PROBED = {"/health/live": 3, "/health/ready": 2}
"""Path -> failures in a row after which a cluster acts: it kills the pod, or sends it no calls; k8s/base/api.yaml has
these and the timeout, and probes less often."""
PROBE_EVERY_S = 1.0
LOOK_EVERY_S = 2.0
"""Between two looks whether an inspection has ended."""
SETTLE_S = 180.0
"""So long a result may take once the misuse is over."""
CAMERA_ADDRESS, PROBE_ADDRESS = "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True)
class CameraTally:
    """What the camera was answered."""

    posted: int
    accepted: int
    refused: dict[str, int]
    """Call, status and title, or the error of the connection -> how often; of looks for results, too."""
    median_accept_s: float
    slowest_accept_s: float
    slowest_result_s: float
    """From the answer to the verdict."""
    lost: int
    """Accepted, and without a verdict when all was over."""


@dataclass(frozen=True)
class ProbeTally:
    """How a probe was answered."""

    asked: int
    failed: int
    """Not 200, or not within `PROBE_TIMEOUT_S`."""
    in_a_row: int
    """The most failures one after the other."""
    slowest_s: float


@dataclass
class _Seen:
    posted: int = 0
    accept_s: list[float] = field(default_factory=list)
    result_s: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


class HonestCamera:
    """Posts good images at a steady pace, each once and on a connection of its own, and follows its results."""

    def __init__(self, url: str, product: str, key: str, images: Sequence[bytes], every_s: float) -> None:
        self._images, self._every_s, self._seen = itertools.cycle(images), every_s, _Seen()
        self._path = f"/v1/products/{product}/inspections"
        self._http = _client(url, CAMERA_ADDRESS, CALL_TIMEOUT_S, {"X-API-Key": key})

    async def work(self, over: asyncio.Event) -> CameraTally:
        """Post until the misuse is over, wait for what was accepted, and return the tally."""
        async with self._http, asyncio.TaskGroup() as shots:
            while not over.is_set():
                shots.create_task(self._shot(next(self._images), over))
                await asyncio.sleep(self._every_s)
        seen = self._seen
        return CameraTally(
            posted=seen.posted,
            accepted=len(seen.accept_s),
            refused=dict(seen.refused),
            median_accept_s=round(statistics.median(seen.accept_s or [0.0]), 3),
            slowest_accept_s=round(max(seen.accept_s, default=0.0), 3),
            slowest_result_s=round(max(seen.result_s, default=0.0), 3),
            lost=len(seen.accept_s) - len(seen.result_s),
        )

    async def _shot(self, image: bytes, over: asyncio.Event) -> None:
        seen, began = self._seen, time.monotonic()
        seen.posted += 1
        answer = await self._call("POST", self._path, 202, image)
        if answer is None:
            return
        accepted_at = time.monotonic()
        seen.accept_s.append(accepted_at - began)
        if await self._has_verdict(answer.json()["id"], over):
            seen.result_s.append(time.monotonic() - accepted_at)

    async def _has_verdict(self, inspection: str, over: asyncio.Event) -> bool:
        """Return whether the inspection gets a verdict, at the latest `SETTLE_S` after the misuse."""
        give_up_at = float("inf")
        while time.monotonic() < give_up_at:
            await asyncio.sleep(LOOK_EVERY_S)
            if over.is_set():
                give_up_at = min(give_up_at, time.monotonic() + SETTLE_S)
            found = await self._call("GET", f"/v1/inspections/{inspection}", 200)
            if found is not None and (state := State(found.json()["state"])).final:
                return state is State.DONE
        return False

    async def _call(self, method: str, path: str, expected: int, content: bytes | None = None) -> httpx.Response | None:
        """Return the answer; count a refusal, and return None."""
        try:
            answer = await self._http.request(method, path, content=content)
        except httpx.TransportError as error:
            self._seen.refused[f"{method} {type(error).__name__}"] += 1
            return None
        if answer.status_code == expected:
            return answer
        self._seen.refused[f"{method} {answer.status_code} {answer.json()['title']}"] += 1
        return None


async def probe(url: str, path: str, over: asyncio.Event) -> ProbeTally:
    """Probe until the misuse is over, as a cluster does: on new connections, with a limit of time."""
    took_s: list[float] = []
    failed = in_a_row = most_in_a_row = 0
    async with _client(url, PROBE_ADDRESS, PROBE_TIMEOUT_S) as http:
        while not over.is_set():
            began = time.monotonic()
            well = await _is_well(http, path)
            failed, in_a_row = failed + (not well), 0 if well else in_a_row + 1
            most_in_a_row = max(most_in_a_row, in_a_row)
            took_s.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, PROBE_EVERY_S - took_s[-1]))
    return ProbeTally(len(took_s), failed, most_in_a_row, round(max(took_s, default=0.0), 3))


async def _is_well(http: httpx.AsyncClient, path: str) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return (await http.get(path)).status_code == 200
    except (httpx.TransportError, TimeoutError):
        return False


def _client(url: str, address: str, timeout_s: float, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """Return a client whose every call comes from this address, on a new connection."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(local_address=address, limits=limits)
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=timeout_s, headers=headers)

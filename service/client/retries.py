"""What the clients say to the service, and when they say it again: written once, for threads and for asyncio.

A call is a generator of steps: `Send` a request, `Pause` for a while. A client takes each step in its own way, gives
back what came of it, and has the call's return value in the end. Nothing here touches a network or a clock's sleep.

ClientError
 ├── ApiError       the service refused: its problem+json, with status, title and detail
 ├── Unreachable    no answer, or only 429 and 503, for longer than the client's patience
 └── NotFinished    the inspection has not ended in the time given to `wait`
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from service.client.sse import ServerEvent
from service.contract import LONGEST_WAIT_S, ArtifactName, Result

RETRIED_STATUS = frozenset({429, 502, 503, 504})
SILENCE_S = 60.0
"""An event stream that is silent for so long, heartbeats included, is cut off and opened again."""
LONGEST_PAUSE_S = 5.0


class ClientError(Exception):
    """Base of what the client raises."""


class ApiError(ClientError):
    """The service refused a request."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        self.status, self.title, self.detail = status, title, detail
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")


class Unreachable(ClientError):
    """The service gave no answer, or none but "later", for longer than the client's patience."""


class NotFinished(ClientError):
    """The inspection has not ended yet."""


@dataclass(frozen=True)
class HistoryPage:
    """Some ended inspections, in the order in which they ended."""

    inspections: tuple[Result, ...]
    next: str
    """Go on from here, now or later."""
    more: bool
    """False: nothing more for now."""


@dataclass(frozen=True)
class Send:
    """A step: this request. What comes of it is its answer, or the error of the way."""

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    """A step: so many seconds of nothing."""

    seconds: float


Outcome = httpx.Response | httpx.TransportError | None
"""What came of a step; None of a pause."""
T = TypeVar("T")
Steps = Generator[Send | Pause, Outcome, T]


@dataclass(frozen=True)
class Calls:
    """The calls of one service."""

    url: str
    patience_s: float
    """How long one call goes on retrying."""
    timeout_s: float
    """How long one attempt waits for bytes."""

    def submit(
        self, address: str, image: bytes, idempotency_key: str | None, wait_s: int, fields: Mapping[str, str] | None
    ) -> Steps[Result]:
        """Every attempt has the same key, so a retry never makes a second inspection. `address`: see `address_of`."""
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise ValueError(f"wait_s is {wait_s}; it must be 0 to {LONGEST_WAIT_S}: use wait() for longer")
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4()), "Content-Type": "application/octet-stream"}
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        options = {
            "content": image,
            "headers": headers,
            "params": dict(fields or {}),
            "timeout": self.timeout_s + wait_s,
        }
        answer = yield from self._answer(Send("POST", f"{address}/inspections", options))
        return Result.model_validate_json(answer.content)

    def products(self) -> Steps[tuple[str, ...]]:
        """Names of all products."""
        answer = yield from self._answer(Send("GET", "/v1/products"))
        return tuple(entry["product"] for entry in answer.json()["products"])

    def get(self, inspection_id: str) -> Steps[Result]:
        """The inspection as it stands."""
        answer = yield from self._answer(Send("GET", _path("inspections", inspection_id)))
        return Result.model_validate_json(answer.content)

    def wait(self, inspection_id: str, seconds: float, every_s: float) -> Steps[Result]:
        """Asks until the inspection has ended."""
        deadline = time.monotonic() + seconds
        while not (found := (yield from self.get(inspection_id))).state.final:
            if time.monotonic() >= deadline:
                raise NotFinished(f"inspection {inspection_id} is {found.state} after {seconds:g} s: wait longer")
            yield Pause(min(every_s, max(0.0, deadline - time.monotonic())))
        return found

    def history_page(self, after: str | None, limit: int, filters: Mapping[str, str] | None) -> Steps[HistoryPage]:
        """One page behind the cursor."""
        params = {**(filters or {}), "limit": str(limit), **({} if after is None else {"after": after})}
        answer = yield from self._answer(Send("GET", "/v1/inspections", {"params": params}))
        page = answer.json()
        found = tuple(Result.model_validate(one) for one in page["inspections"])
        return HistoryPage(found, page["next"], page["more"])

    def artifact(self, inspection_id: str, name: ArtifactName) -> Steps[bytes]:
        """One picture of an inspection, or its map."""
        return (yield from self._answer(Send("GET", _path("inspections", inspection_id, name)))).content

    def _answer(self, request: Send) -> Steps[httpx.Response]:
        """The request, repeated while the service is away or busy. All calls here may be repeated safely."""
        deadline, attempt = time.monotonic() + self.patience_s, 0
        while True:
            attempt += 1
            outcome = yield request
            assert outcome is not None
            if isinstance(outcome, httpx.Response) and outcome.status_code not in RETRIED_STATUS:
                return _accepted(outcome)
            pause_s = _pause_s(outcome, attempt)
            if time.monotonic() + pause_s > deadline:
                raise Unreachable(
                    f"{self.url} did not take the request in {self.patience_s:g} s; last: {_reason(outcome)}"
                )
            yield Pause(pause_s)


class Trail:
    """Where a reader of the events is, and how long nothing came."""

    def __init__(self, calls: Calls, last_event_id: str | None, product: str | None, station: str | None) -> None:
        given = {"product": product, "station": station}
        self._params = {name: value for name, value in given.items() if value is not None}
        self._calls, self._last_id = calls, last_event_id
        self._failing_since: float | None = None

    def request(self) -> Send:
        """Opens the stream where it broke."""
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        timeout = httpx.Timeout(self._calls.timeout_s, read=SILENCE_S)
        return Send("GET", "/v1/events", {"params": self._params, "headers": headers, "timeout": timeout})

    def passes(self, event: ServerEvent) -> bool:
        """Goes on to this event; True if it is one for the reader."""
        self._last_id = event.id or self._last_id  # `reset` has none: whoever is cut off there asks as before
        self._failing_since = None
        return bool(event.type)

    def pause_s(self, error: httpx.TransportError | ApiError | None) -> float:
        """How long to wait before the stream is opened again. The error, if it is not one of those that pass, or
        Unreachable where they have lasted too long."""
        if isinstance(error, ApiError) and error.status not in RETRIED_STATUS:
            raise error
        self._failing_since = self._failing_since or time.monotonic()
        if time.monotonic() - self._failing_since > self._calls.patience_s:
            reason = "the stream ended" if error is None else f"{type(error).__name__}: {error}"
            raise Unreachable(
                f"{self._calls.url} gave no events for {self._calls.patience_s:g} s; last: {reason}"
            ) from error
        return random.uniform(0.1, 0.5)


def _path(*words: str) -> str:
    """The address of these words, whatever letters they have."""
    return "/".join(("/v1", *(quote(word, safe="") for word in words)))


def problem_of(answer: httpx.Response) -> ApiError:
    """What a refusal says; its body has been read."""
    try:
        content = answer.json()
        return ApiError(answer.status_code, str(content["title"]), str(content.get("detail", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(answer.status_code, answer.reason_phrase, answer.text[:200])


def address_of(product: str | None, station: str | None) -> str:
    """Of a product, or of a station whose product others set."""
    if (product is None) == (station is None):
        raise ValueError("give a product, or None and a station; a product's station goes into the fields")
    if station is not None:
        return _path("stations", station)
    assert product is not None, "exactly one of them is given"
    return _path("products", product)


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise problem_of(answer)


def _reason(outcome: httpx.Response | httpx.TransportError) -> str:
    if isinstance(outcome, httpx.Response):
        return f"{outcome.status_code} {problem_of(outcome).detail}"
    return f"{type(outcome).__name__}: {outcome}"


def _pause_s(outcome: httpx.Response | httpx.TransportError, attempt: int) -> float:
    """As long as the service asks, in seconds; else longer each time, and never quite as long as others wait."""
    text = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    if text.isdigit():
        return float(text)
    return min(LONGEST_PAUSE_S, 0.1 * math.exp2(min(attempt, 10))) * random.uniform(0.5, 1.0)

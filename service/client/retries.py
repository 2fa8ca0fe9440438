"""The requests of the client and their retries, written once for threads and for asyncio; and the client's errors.

A call is a generator of steps: a request to send, or a pause. The client takes each step in its own way (blocking or
awaiting), sends the result back into the generator, and gets the call's return value in the end. Nothing here opens a
connection or sleeps.

ClientError
 ├── ApiError       the service refused: its problem+json, with status, title and detail
 ├── Unreachable    no answer, or only 429 and 503, for longer than the client's patience
 └── NotFinished    the inspection has not ended in the time given to `wait`, or its picture was not drawn in time
"""

from __future__ import annotations

import math
import random
import time
import uuid
from base64 import b64encode
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from service.client.sse import ServerEvent
from service.contract import LONGEST_WAIT_S, ArtifactName, Result

RETRIED_STATUS = frozenset({429, 502, 503, 504})
DIGEST_MISMATCH = "urn:glad:problem:digest-mismatch"
SILENCE_S = 60.0
"""An event stream that is silent for so long, without even a heartbeat, is closed and opened again."""
LONGEST_PAUSE_S = 5.0


class ClientError(Exception):
    """Base of the client's errors."""


class ApiError(ClientError):
    """The service refused a request."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        self.status, self.title, self.detail = status, title, detail
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")


class Unreachable(ClientError):
    """The service gave no answer, or only 429 and 503, for longer than the client's patience."""


class NotFinished(ClientError):
    """The inspection has not ended in the time that was given to `wait`, or its picture was not drawn in time."""


@dataclass(frozen=True)
class InspectionPage:
    """One page of ended inspections, in the order in which they ended."""

    inspections: tuple[Result, ...]
    next: str
    """Cursor of the next page; it stays valid."""
    more: bool
    """Whether there is a further page now."""


@dataclass(frozen=True)
class RequestStep:
    """A step: send this request. Its result is the response, or the error of the connection."""

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PauseStep:
    """A step: wait for this many seconds. Its result is None."""

    seconds: float


StepResult = httpx.Response | httpx.TransportError | None
"""Result of a step."""
T = TypeVar("T")
Steps = Generator[RequestStep | PauseStep, StepResult, T]


@dataclass(frozen=True)
class ApiCalls:
    """The calls to one service, each as a generator of steps."""

    url: str
    patience_s: float
    """How long one call keeps retrying."""
    timeout_s: float
    """How long one attempt waits for bytes."""

    def submit(
        self, address: str, image: bytes, idempotency_key: str | None, wait_s: int, fields: Mapping[str, str] | None
    ) -> Steps[Result]:
        """Submit an image; every attempt has the same key, so a retry never makes a second inspection.

        Args:
            address: the result of `submission_path`.
        """
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise ValueError(f"wait_s is {wait_s}; it must be 0 to {LONGEST_WAIT_S}: use wait() for longer")
        headers = {
            "Idempotency-Key": idempotency_key or str(uuid.uuid4()),
            "Content-Type": "application/octet-stream",
            "Content-Digest": f"sha-256=:{b64encode(sha256(image).digest()).decode()}:",
        }
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        options = {
            "content": image,
            "headers": headers,
            "params": dict(fields or {}),
            "timeout": self.timeout_s + wait_s,
        }
        answer = yield from self._request(RequestStep("POST", f"{address}/inspections", options))
        return Result.model_validate_json(answer.content)

    def products(self) -> Steps[tuple[str, ...]]:
        """Get the names of all products."""
        answer = yield from self._request(RequestStep("GET", "/v1/products"))
        return tuple(entry["product"] for entry in answer.json()["products"])

    def get(self, inspection_id: str) -> Steps[Result]:
        """Get the inspection in its current state."""
        answer = yield from self._request(RequestStep("GET", _path("inspections", inspection_id)))
        return Result.model_validate_json(answer.content)

    def wait(self, inspection_id: str, seconds: float, every_s: float) -> Steps[Result]:
        """Get the inspection again and again until it has ended."""
        deadline = time.monotonic() + seconds
        while not (inspection := (yield from self.get(inspection_id))).state.final:
            if time.monotonic() >= deadline:
                raise NotFinished(f"inspection {inspection_id} is {inspection.state} after {seconds:g} s: wait longer")
            yield PauseStep(min(every_s, max(0.0, deadline - time.monotonic())))
        return inspection

    def history_page(self, after: str | None, limit: int, filters: Mapping[str, str] | None) -> Steps[InspectionPage]:
        """Get one page of ended inspections after the cursor."""
        params = {**(filters or {}), "limit": str(limit), **({} if after is None else {"after": after})}
        answer = yield from self._request(RequestStep("GET", "/v1/inspections", {"params": params}))
        page = answer.json()
        inspections = tuple(Result.model_validate(one) for one in page["inspections"])
        return InspectionPage(inspections, page["next"], page["more"])

    def artifact(self, inspection_id: str, name: ArtifactName) -> Steps[bytes]:
        """Get one picture of an inspection, or its anomaly map; wait for one that has to be drawn."""
        deadline = time.monotonic() + self.patience_s
        while True:
            answer = yield from self._request(RequestStep("GET", _path("inspections", inspection_id, name)))
            if answer.status_code != HTTPStatus.ACCEPTED:
                return answer.content
            pause_s = _pause_s(answer, 1)  # it is drawn by a worker that has no image waiting
            if time.monotonic() + pause_s > deadline:
                raise NotFinished(f"{name} of {inspection_id} was not drawn in {self.patience_s:g} s: ask again later")
            yield PauseStep(pause_s)

    def _request(self, request: RequestStep) -> Steps[httpx.Response]:
        """Send the request, and again while the service is away or busy; return a successful response."""
        # Every call may be repeated: GET changes nothing, and a submission carries its idempotency key. If a connection
        # broke after the service had taken the image, the next attempt gets the same inspection.
        deadline, attempt = time.monotonic() + self.patience_s, 0
        while True:
            attempt += 1
            outcome = yield request
            assert outcome is not None
            if isinstance(outcome, httpx.Response) and not _is_retried(outcome):
                return _successful(outcome)
            # Not `while now < deadline`: a pause that would end after the deadline is not begun, so that the caller is
            # not kept waiting for an attempt that will not be made.
            pause_s = _pause_s(outcome, attempt)
            if time.monotonic() + pause_s > deadline:
                raise Unreachable(
                    f"{self.url} did not take the request in {self.patience_s:g} s; last: {_reason(outcome)}"
                )
            yield PauseStep(pause_s)


class EventCursor:
    """The position of a reader in the event stream, and since when the stream has failed."""

    def __init__(self, calls: ApiCalls, last_event_id: str | None, product: str | None, station: str | None) -> None:
        given = {"product": product, "station": station}
        self._params = {name: value for name, value in given.items() if value is not None}
        self._calls, self._last_id = calls, last_event_id
        self._failing_since: float | None = None

    def request(self) -> RequestStep:
        """Return the request that opens the stream after the last event."""
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        timeout = httpx.Timeout(self._calls.timeout_s, read=SILENCE_S)
        return RequestStep("GET", "/v1/events", {"params": self._params, "headers": headers, "timeout": timeout})

    def advance_to(self, event: ServerEvent) -> bool:
        """Move on to this event; return whether the reader is to see it."""
        # A `reset` has no id: if the stream breaks there, it is opened with the id from before, and sends it again.
        self._last_id = event.id or self._last_id
        self._failing_since = None
        return bool(event.type)

    def pause_s(self, error: httpx.TransportError | ApiError | None) -> float:
        """Return how many seconds to wait before the stream is opened again.

        Args:
            error: how the stream failed; None: it ended.

        Raises:
            ApiError: `error` itself, if opening the stream again cannot help.
            Unreachable: if the stream has failed for longer than the client's patience.
        """
        if isinstance(error, ApiError) and error.status not in RETRIED_STATUS:
            raise error
        self._failing_since = self._failing_since or time.monotonic()
        if time.monotonic() - self._failing_since > self._calls.patience_s:
            reason = "the stream ended" if error is None else f"{type(error).__name__}: {error}"
            raise Unreachable(
                f"{self._calls.url} gave no events for {self._calls.patience_s:g} s; last: {reason}"
            ) from error
        return random.uniform(0.1, 0.5)  # at random, so that after a restart all readers do not come at once


def _path(*words: str) -> str:
    """Return the path of these words, with all special characters quoted."""
    # A word of dots must stay one: `..` would lead to another call.
    quoted = (quote(word, safe="").replace(".", "%2E" if word in {".", ".."} else ".") for word in words)
    return "/".join(("/v1", *quoted))


def problem_of(answer: httpx.Response) -> ApiError:
    """Return the error of a refusal whose body has been read: its problem+json, or whatever else it holds."""
    try:
        content = answer.json()
        return ApiError(answer.status_code, str(content["title"]), str(content.get("detail", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(answer.status_code, answer.reason_phrase, answer.text[:200])


def submission_path(product: str | None, station: str | None) -> str:
    """Return the path of a product, or of a station that has a product.

    Raises:
        ValueError: if not exactly one of them is given.
    """
    if (product is None) == (station is None):
        raise ValueError("give a product, or None and a station; a product's station goes into the fields")
    if station is not None:
        return _path("stations", station)
    assert product is not None, "exactly one of them is given"
    return _path("products", product)


def _is_retried(answer: httpx.Response) -> bool:
    """Return whether the same request may fare better: the service is busy, or other bytes came than were sent."""
    return answer.status_code in RETRIED_STATUS or (
        answer.status_code == HTTPStatus.BAD_REQUEST and DIGEST_MISMATCH.encode() in answer.content
    )


def _successful(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise problem_of(answer)


def _reason(outcome: httpx.Response | httpx.TransportError) -> str:
    if isinstance(outcome, httpx.Response):
        return f"{outcome.status_code} {problem_of(outcome).detail}"
    return f"{type(outcome).__name__}: {outcome}"


def _pause_s(outcome: httpx.Response | httpx.TransportError, attempt: int) -> float:
    """Return the seconds to wait before the next attempt: what Retry-After says, else longer each time."""
    text = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    if text.isdigit():
        return float(text)
    # The random factor keeps cameras that failed together from coming back together.
    return min(LONGEST_PAUSE_S, 0.1 * math.exp2(min(attempt, 10))) * random.uniform(0.5, 1.0)

"""Steps of a call, and how requests are repeated: written once, for threads and for asyncio.

A call is a generator of steps: a request to send, or a pause. A client takes each step in its own way (blocking or
awaiting), sends the result back into the generator, and gets the call's return value in the end. Nothing here opens a
connection or sleeps.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from glad_client.errors import ApiError, Unreachable, problem_of
from glad_client.sse import ServerEvent

SILENCE_S = 60.0
"""An event stream that is silent for so long, without even a heartbeat, is closed and opened again."""
LONGEST_PAUSE_S = 5.0


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
class Patience:
    """Sends requests again while the service is away or busy."""

    url: str
    """Of the service, for messages."""
    patience_s: float
    """How long one call keeps retrying."""

    def send(self, request: RequestStep) -> Steps[httpx.Response]:
        """Send the request until the service takes or refuses it; return a successful response.

        Raises:
            ApiError: if it refuses.
            Unreachable: if it does neither for longer than the patience.
        """
        # Every call may be repeated: most change nothing, or set what was set; a submission carries its idempotency
        # key, so that the next attempt gets the same inspection if a connection broke after the image had been taken.
        deadline, attempt = time.monotonic() + self.patience_s, 0
        while True:
            attempt += 1
            outcome = yield request
            assert outcome is not None
            failure = outcome if isinstance(outcome, httpx.TransportError) else _refusal(outcome)
            if failure is None:
                assert isinstance(outcome, httpx.Response)
                return outcome
            if isinstance(failure, ApiError) and not failure.may_pass:
                raise failure
            # Not `while now < deadline`: a pause that would end after the deadline is not begun, so that the caller is
            # not kept waiting for an attempt that will not be made.
            pause = pause_s(outcome, attempt)
            if time.monotonic() + pause > deadline:
                raise Unreachable(
                    f"{self.url} did not take the request in {self.patience_s:g} s; last: {_reason(failure)}"
                )
            yield PauseStep(pause)


class EventCursor:
    """The position of a reader in the event stream, and since when the stream has failed."""

    def __init__(
        self,
        patience: Patience,
        timeout_s: float,
        last_event_id: str | None,
        product: str | None,
        station: str | None,
    ) -> None:
        given = {"product": product, "station": station}
        self._params = {name: value for name, value in given.items() if value is not None}
        self._patience, self._timeout_s, self._last_id = patience, timeout_s, last_event_id
        self._failing_since: float | None = None

    def request(self) -> RequestStep:
        """Return the request that opens the stream after the last event."""
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        timeout = httpx.Timeout(self._timeout_s, read=SILENCE_S)
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
        if isinstance(error, ApiError) and not error.may_pass:
            raise error
        self._failing_since = self._failing_since or time.monotonic()
        if time.monotonic() - self._failing_since > self._patience.patience_s:
            reason = "the stream ended" if error is None else f"{type(error).__name__}: {error}"
            raise Unreachable(
                f"{self._patience.url} gave no events for {self._patience.patience_s:g} s; last: {reason}"
            ) from error
        return random.uniform(0.1, 0.5)  # at random, so that after a restart all readers do not come at once


def pause_s(outcome: httpx.Response | httpx.TransportError, attempt: int) -> float:
    """Return the seconds to wait before the next attempt: what Retry-After says, else longer each time."""
    text = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    if text.isdigit():
        return float(text)
    # The random factor keeps cameras that failed together from coming back together.
    return min(LONGEST_PAUSE_S, 0.1 * math.exp2(min(attempt, 10))) * random.uniform(0.5, 1.0)


def _refusal(answer: httpx.Response) -> ApiError | None:
    return None if answer.is_success else problem_of(answer)


def _reason(failure: httpx.TransportError | ApiError) -> str:
    if isinstance(failure, ApiError):
        return f"{failure.status} {failure.detail}"
    return f"{type(failure).__name__}: {failure}"

"""The Python client: submit an image, wait for its inspection, fetch its pictures. Retries whatever is safe to retry.

with Client("http://127.0.0.1:8000") as client:
    inspection = client.submit("bracket", Path("part.png").read_bytes(), wait_s=10)
    inspection = client.wait(inspection.id)
    print(inspection.verdict, inspection.score)
    Path("overlay.png").write_bytes(client.artifact(inspection.id, "overlay.png"))

ClientError
 ├── ApiError       the service refused: its problem+json, with status, title and detail
 ├── Unreachable    no answer, or only 429 and 503, for longer than the client's patience
 └── NotFinished    the inspection has not ended in the time given to `wait`
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from service.contract import ArtifactName, Result
from service.server_sent import ServerEvent, read_events

RETRIED_STATUS = frozenset({429, 502, 503, 504})
LONGEST_PREFER_WAIT_S = 30
SILENCE_S = 60.0
"""An event stream that is silent for so long, heartbeats included, is cut off and opened again."""


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


class Client:
    """Speaks to one service. Safe to use from several threads."""

    def __init__(
        self, url: str, *, api_key: str | None = None, patience_s: float = 60.0, timeout_s: float = 10.0
    ) -> None:
        """`patience_s`: how long one call goes on retrying. `timeout_s`: how long one attempt waits for bytes."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout_s, limits=httpx.Limits(max_connections=64)
        )
        self.url, self._patience_s, self._timeout_s = url, patience_s, timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def submit(
        self,
        product: str,
        image: bytes,
        *,
        idempotency_key: str | None = None,
        wait_s: int = 0,
        fields: Mapping[str, str] | None = None,
    ) -> Result:
        """Submits one image; with `wait_s`, the service holds the answer that long for the result.

        A retry never makes a second inspection: without a key of yours, each call has its own. `fields`: serial, lot,
        view, station and the other fields of the REST contract.
        """
        if not 0 <= wait_s <= LONGEST_PREFER_WAIT_S:
            raise ValueError(f"wait_s is {wait_s}; it must be 0 to {LONGEST_PREFER_WAIT_S}: use wait() for longer")
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4()), "Content-Type": "application/octet-stream"}
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        answer = self._request(
            "POST",
            f"/v1/products/{product}/inspections",
            content=image,
            headers=headers,
            params=dict(fields or {}),
            timeout=self._timeout_s + wait_s,
        )
        return Result.model_validate_json(answer.content)

    def products(self) -> tuple[str, ...]:
        """Names of the products that can be inspected."""
        return tuple(entry["product"] for entry in self._request("GET", "/v1/products").json()["products"])

    def get(self, inspection_id: str) -> Result:
        """The inspection as it stands."""
        return Result.model_validate_json(self._request("GET", f"/v1/inspections/{inspection_id}").content)

    def wait(self, inspection_id: str, seconds: float = 60.0, every_s: float = 0.25) -> Result:
        """The ended inspection; NotFinished if it has not ended in that time."""
        deadline = time.monotonic() + seconds
        while not (found := self.get(inspection_id)).state.final:
            if time.monotonic() >= deadline:
                raise NotFinished(f"inspection {inspection_id} is {found.state} after {seconds:g} s: wait longer")
            time.sleep(min(every_s, max(0.0, deadline - time.monotonic())))
        return found

    def history_page(
        self, *, after: str | None = None, limit: int = 100, filters: Mapping[str, str] | None = None
    ) -> HistoryPage:
        """One page of ended inspections behind the cursor `after`. `filters`: product, serial, lot, station, verdict,
        state, since, until, and order."""
        params = {**(filters or {}), "limit": str(limit), **({} if after is None else {"after": after})}
        page = self._request("GET", "/v1/inspections", params=params).json()
        found = tuple(Result.model_validate(one) for one in page["inspections"])
        return HistoryPage(found, page["next"], page["more"])

    def history(self, *, after: str | None = None, filters: Mapping[str, str] | None = None) -> Iterator[Result]:
        """Every ended inspection behind the cursor, page by page, to the end that the history has by then."""
        more = True
        while more:
            page = self.history_page(after=after, limit=500, filters=filters)
            yield from page.inspections
            after, more = page.next, page.more

    def events(
        self, *, last_event_id: str | None = None, product: str | None = None, station: str | None = None
    ) -> Iterator[ServerEvent]:
        """What ends, as it ends, without end; behind `last_event_id`, or from now on. A cut connection is opened again
        where it broke. Keep the `id` of what you have dealt with, to go on there after a restart.

        Each event comes at least once. Unreachable: the service gave no stream for longer than the client's patience.
        """
        given = {"product": product, "station": station}
        params = {name: value for name, value in given.items() if value is not None}
        failing_since: float | None = None
        while True:
            try:
                for event in self._one_stream(params, last_event_id):
                    last_event_id, failing_since = event.id, None
                    if event.type:
                        yield event
                reason = "the stream ended"
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            except ApiError as error:
                if error.status not in RETRIED_STATUS:
                    raise
                reason = str(error)
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > self._patience_s:
                raise Unreachable(f"{self.url} gave no events for {self._patience_s:g} s; last: {reason}")
            time.sleep(random.uniform(0.1, 0.5))

    def _one_stream(self, params: Mapping[str, str], last_event_id: str | None) -> Iterator[ServerEvent]:
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        timeout = httpx.Timeout(self._timeout_s, read=SILENCE_S)
        with self._http.stream("GET", "/v1/events", params=params, headers=headers, timeout=timeout) as answer:
            if not answer.is_success:
                answer.read()
                raise _problem(answer)
            yield from read_events(answer.iter_text())

    def artifact(self, inspection_id: str, name: ArtifactName) -> bytes:
        """One picture of an inspection, or its map."""
        return self._request("GET", f"/v1/inspections/{inspection_id}/{name}").content

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call, repeated while the service is away or busy. All calls of this client may be repeated safely."""
        deadline, attempt = time.monotonic() + self._patience_s, 0
        while True:
            attempt += 1
            try:
                answer = self._http.request(method, path, **options)
                if answer.status_code not in RETRIED_STATUS:
                    return _refuse_problem(answer)
                reason, pause = f"{answer.status_code} {_problem(answer).detail}", _retry_after_s(answer)
            except httpx.TransportError as error:
                reason, pause = f"{type(error).__name__}: {error}", None
            wait_s = pause if pause is not None else min(5.0, 0.1 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)
            if time.monotonic() + wait_s > deadline:
                raise Unreachable(f"{self.url} did not take the request in {self._patience_s:g} s; last: {reason}")
            time.sleep(wait_s)


def _retry_after_s(answer: httpx.Response) -> float | None:
    """Seconds that the service asks to wait; None if it does not say, or in a form other than seconds."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _refuse_problem(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise _problem(answer)


def _problem(answer: httpx.Response) -> ApiError:
    try:
        content = answer.json()
        return ApiError(answer.status_code, str(content["title"]), str(content.get("detail", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(answer.status_code, answer.reason_phrase, answer.text[:200])

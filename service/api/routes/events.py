"""Server-sent events of the inspections that end, resumed where a reader stopped: `GET /v1/events`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from redis.exceptions import RedisError
from starlette.types import Receive, Scope, Send

from model_store.manifest import Name
from service.api.dependencies import CallerDep, Services, ServicesDep
from service.api.openapi import operations as documents
from service.auth.scopes import Caller
from service.contract import Text, rfc3339
from service.errors import TooManyStreams
from service.queue.events import BEGINNING, PAUSE_S, EventFeed, EventPage, ReadEvent

RECONNECT_MS = 2000
"""Pause of a browser before it connects again."""
KEY_REVOKED = ": the API key of this stream is not in use any more: the stream ends\n\n"
UNREAD = ": the events cannot be read at the moment: Redis does not answer\n\n"
SIGNED_OUT = ": the session of this stream has ended: the stream ends\n\n"

router = APIRouter(tags=["history"])
log = structlog.get_logger(__name__)


def _check_event_id(text: str) -> str:
    ms, _, sequence = text.partition("-")
    if not all(part.isascii() and part.isdigit() and int(part) < 2**64 for part in (ms, sequence or "0")):
        raise ValueError(
            f"is {text[:50]!r}; an event's id is digits, a hyphen, digits: send the last one that you saw, or 0 for all"
        )
    return f"{int(ms)}-{int(sequence or '0')}"


EventId = Annotated[str, Field(max_length=50), AfterValidator(_check_event_id)]


class EventsQuery(BaseModel):
    """The query of the event stream."""

    model_config = ConfigDict(extra="forbid")

    product: Name | None = Field(None, examples=["bracket"])
    station: Text | None = Field(None, examples=["line-3"])
    after: EventId | None = Field(
        None, description="as the header Last-Event-ID, which wins over it; 0: all that are kept"
    )
    heartbeats: bool = Field(
        False, description="signs of life are events of the type `heartbeat` and not comments, which browsers hide"
    )

    def matches(self, event: ReadEvent) -> bool:
        """Return whether the event meets the filters."""
        return self.product in (None, event.fields.get("product")) and self.station in (
            None,
            event.fields.get("station"),
        )


LastEventId = Annotated[
    EventId | None, Header(alias="Last-Event-ID", description="the last event that was seen; without it: from now on")
]


@router.get(
    "/v1/events", summary="Follow the events", response_class=StreamingResponse, responses=documents.EVENTS_RESPONSES
)
async def events(
    services: ServicesDep, caller: CallerDep, query: Annotated[EventsQuery, Query()], last_event_id: LastEventId = None
) -> StreamingResponse:
    """Send one event for each inspection that ends, in that order.

    A reader that was cut off sends `Last-Event-ID` and gets the events that it missed. If those are no longer kept, the
    first event is `reset`: it names the part of the history that closes the gap, and the stream goes on with the oldest
    event that is kept.

    An event may come more than once: its `inspection_id` and `type` identify it. Once its API key is revoked or its
    session ends, a reader gets no further event, and the stream ends with a comment that says so.
    """
    _check_room(services, caller)  # the stream checks again, and finally
    start = await _find_start(services.feed, last_event_id or query.after)
    return _EventStream(
        services,
        caller,
        _stream(
            services.feed,
            query,
            start,
            services.settings.heartbeat_s,
            lambda: services.authenticator.is_still_valid(caller),
            ending=SIGNED_OUT if caller.session else KEY_REVOKED,
        ),
    )


class _EventStream(StreamingResponse):
    """An answer that counts as a reader of the events from its first byte to its last."""

    def __init__(self, services: Services, caller: Caller, content: AsyncIterator[str]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._services, self._caller = services, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nothing is awaited between the check and the count, so that no other reader can come between them.
        _check_room(self._services, self._caller)
        with self._services.feed.reading(self._caller.id):
            await super().__call__(scope, receive, send)


def _check_room(services: Services, caller: Caller) -> None:
    """Raise TooManyStreams if all streams are taken, or half of them by the caller's key: the others need some, too."""
    limit = services.settings.max_event_streams
    share = max(1, limit // 2)
    if caller.id and services.feed.readers_of[caller.id] >= share:
        raise TooManyStreams(
            f"{share} clients follow the events with API key {caller.id}, half of GLAD_MAX_EVENT_STREAMS: close one, "
            "give the others a key of their own, or raise GLAD_MAX_EVENT_STREAMS",
            retry_after_s=services.settings.retry_after_s,
        )
    if services.feed.readers >= limit:
        raise TooManyStreams(
            f"{services.feed.readers} clients follow the events; the limit is {limit}: close one, or raise "
            "GLAD_MAX_EVENT_STREAMS",
            retry_after_s=services.settings.retry_after_s,
        )


class StreamStart(BaseModel):
    """The place in the event stream at which a reader begins."""

    after: str
    reset: str | None = None
    """The data of a `reset` event; None if no event before `after` was missed."""


async def _find_start(feed: EventFeed, asked: str | None) -> StreamStart:
    span = await feed.span()
    if asked is None:
        return StreamStart(after=span[1] if span else BEGINNING)
    if asked == BEGINNING:
        return StreamStart(after=BEGINNING)
    if span and _key(span[0]) <= _key(asked) <= _key(span[1]):
        return StreamStart(after=asked)
    gap = {"asked": asked, "oldest": span[0] if span else None, "history": "/v1/inspections"}
    if span and _key(asked) < _key(span[0]):
        since = rfc3339(datetime.fromtimestamp(_key(asked)[0] / 1000, UTC))
        gap["history"] = f"/v1/inspections?since={since}"
    return StreamStart(after=BEGINNING, reset=json.dumps(gap))


def _key(event_id: str) -> tuple[int, int]:
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)


async def _stream(
    feed: EventFeed,
    query: EventsQuery,
    start: StreamStart,
    heartbeat_s: float,
    is_valid: Callable[[], Awaitable[bool]],
    *,
    ending: str,
) -> AsyncIterator[str]:
    """Yield the text of the stream. A lost Redis delays it; a reader that closes its connection cancels it.

    As long as the events cannot be read, no heartbeat says that there are none: a comment keeps the connection.

    Args:
        feed: of this process.
        query: the filters.
        start: of this reader.
        heartbeat_s: longest time without any text.
        is_valid: whether the reader's API key and session still count; called before anything is sent, heartbeats
            included.
        ending: what is sent last once they do not.
    """
    last, is_behind = start.after, True
    if start.reset is None:  # an id at once, so that a reader cut off before the first event resumes here
        first = _heartbeat(last, heartbeat_s) if query.heartbeats else f"id: {last}\n\n"
        yield f"retry: {RECONNECT_MS}\n{first}"
    else:
        yield f"retry: {RECONNECT_MS}\nevent: reset\ndata: {start.reset}\n\n"
    sent_at, was_read = time.monotonic(), True
    while not feed.closed:
        generation = feed.generation
        page = await _read(feed, last, is_behind)
        if not await is_valid():
            yield ending
            return
        if page is None:
            if time.monotonic() - sent_at >= heartbeat_s:
                yield UNREAD
                sent_at = time.monotonic()
            was_read = False
            continue
        if text := "".join(_frame(event) for event in page.events if query.matches(event)):
            yield text
            sent_at = time.monotonic()
        at_end, last, is_behind = page.last == last, page.last, page.is_full
        if time.monotonic() - sent_at >= heartbeat_s or not was_read:
            # The id alone moves Last-Event-ID past events that the filters left out.
            yield _heartbeat(last, heartbeat_s) if query.heartbeats else f"id: {last}\n: heartbeat\n\n"
            sent_at, was_read = time.monotonic(), True
        if at_end:
            await feed.changed(generation, max(0.0, sent_at + heartbeat_s - time.monotonic()))


async def _read(feed: EventFeed, last: str, is_behind: bool) -> EventPage | None:
    """Return the next events; None if Redis is away, after a pause."""
    try:
        if is_behind:
            await feed.wait_for_turn()
        return await feed.page_after(last)
    except RedisError as error:
        log.warning("events not read", error=str(error), kind=type(error).__name__)
        await asyncio.sleep(PAUSE_S)
        return None


def _heartbeat(last: str, heartbeat_s: float) -> str:
    """Return a sign of life as an event: a browser's EventSource tells its page of nothing else."""
    return f'id: {last}\nevent: heartbeat\ndata: {{"every_s": {heartbeat_s}}}\n\n'


def _frame(event: ReadEvent) -> str:
    return f"id: {event.id}\nevent: {event.fields['type']}\ndata: {event.text}\n\n"

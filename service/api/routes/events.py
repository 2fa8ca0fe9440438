"""`GET /v1/events`: what ends, as it ends, as server-sent events that resume where a reader stopped."""

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

from model_store.manifest import Name
from service.api.dependencies import ServicesDep
from service.api.openapi import operations as documents
from service.auth.caller import CallerDep
from service.contract import Text, rfc3339
from service.errors import TooManyStreams
from service.queue.events import BEGINNING, PAUSE_S, EventFeed, StoredEvent

COME_BACK_MS = 2000
"""How long a browser waits before it connects again."""
NO_LONGER_ADMITTED = ": the API key of this stream is not in use any more: the stream ends\n\n"

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
    """Which events."""

    model_config = ConfigDict(extra="forbid")

    product: Name | None = Field(None, examples=["bracket"])
    station: Text | None = Field(None, examples=["line-3"])
    after: EventId | None = Field(
        None, description="as the header Last-Event-ID, which wins over it; 0: all that are kept"
    )

    def wants(self, event: StoredEvent) -> bool:
        """Whether the event is asked for."""
        fields = event.fields
        return self.product in {None, fields["product"]} and self.station in {None, fields.get("station")}


LastEventId = Annotated[
    EventId | None, Header(alias="Last-Event-ID", description="the last event that was seen; without it: from now on")
]


@router.get(
    "/v1/events", summary="Follow the events", response_class=StreamingResponse, responses=documents.EVENTS_RESPONSES
)
async def events(
    services: ServicesDep, caller: CallerDep, query: Annotated[EventsQuery, Query()], last_event_id: LastEventId = None
) -> StreamingResponse:
    """Server-sent events, one per inspection that ends, in that order. A reader that was cut off sends `Last-Event-ID`
    and gets what it missed. Where that is no longer kept, the first event is `reset`: it names the part of the history
    that closes the gap, and the stream goes on with the oldest event that is kept.

    Each event comes at least once: a reader that must not count twice goes by `inspection_id` and `type`. Once its API
    key is revoked, a reader gets no further event, and the stream ends with a comment that says so.
    """
    if services.feed.readers >= services.settings.max_event_streams:
        raise TooManyStreams(
            f"{services.feed.readers} clients follow the events; the limit is "
            f"{services.settings.max_event_streams}: close one, or raise GLAD_MAX_EVENT_STREAMS",
            retry_after_s=services.settings.retry_after_s,
        )
    start = await _start(services.feed, last_event_id or query.after)
    return StreamingResponse(
        _stream(
            services.feed,
            query,
            start,
            services.settings.heartbeat_s,
            lambda: services.authenticator.is_still_valid(caller),
        ),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class Start(BaseModel):
    """Where a reader begins."""

    after: str
    reset: str | None = None
    """The data of a `reset` event: something before `after` is no longer kept."""


async def _start(feed: EventFeed, asked: str | None) -> Start:
    span = await feed.span()
    if asked is None:
        return Start(after=span[1] if span else BEGINNING)
    if asked == BEGINNING:
        return Start(after=BEGINNING)
    if span and _key(span[0]) <= _key(asked) <= _key(span[1]):
        return Start(after=asked)
    gap = {"asked": asked, "oldest": span[0] if span else None, "history": "/v1/inspections"}
    if span and _key(asked) < _key(span[0]):
        since = rfc3339(datetime.fromtimestamp(_key(asked)[0] / 1000, UTC))
        gap["history"] = f"/v1/inspections?since={since}"
    return Start(after=BEGINNING, reset=json.dumps(gap))


def _key(event_id: str) -> tuple[int, int]:
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)


async def _stream(
    feed: EventFeed, query: EventsQuery, start: Start, heartbeat_s: float, admitted: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """The text of the stream. A lost Redis delays it; the reader's going away cancels it. `admitted` is asked before
    anything is told, heartbeats included."""
    last = start.after
    with feed.reading():
        if start.reset is None:  # an id at once: who is cut off before the first event comes back to here
            yield f"retry: {COME_BACK_MS}\nid: {last}\n\n"
        else:
            yield f"retry: {COME_BACK_MS}\nevent: reset\ndata: {start.reset}\n\n"
        shown = time.monotonic()
        while not feed.closed:
            generation = feed.generation
            found = await _read(feed, last)
            if not await admitted():
                yield NO_LONGER_ADMITTED
                return
            if wanted := "".join(_frame(event) for event in found if query.wants(event)):
                yield wanted
                shown = time.monotonic()
            last = found[-1].id if found else last
            if time.monotonic() - shown >= heartbeat_s:
                yield f"id: {last}\n: heartbeat\n\n"  # the id alone moves Last-Event-ID past what was not asked for
                shown = time.monotonic()
            if not found:
                await feed.changed(generation, max(0.0, shown + heartbeat_s - time.monotonic()))


async def _read(feed: EventFeed, last: str) -> list[StoredEvent]:
    try:
        return await feed.after(last)
    except RedisError as error:
        log.warning("events not read", error=str(error), kind=type(error).__name__)
        await asyncio.sleep(PAUSE_S)
        return []


def _frame(event: StoredEvent) -> str:
    return f"id: {event.id}\nevent: {event.fields['type']}\ndata: {event.text}\n\n"

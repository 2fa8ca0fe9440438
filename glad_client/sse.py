"""A parser of server-sent events (WHATWG HTML, section 9.2.6); it does no input or output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from glad_client.events import Event


@dataclass(frozen=True)
class ServerEvent:
    """One event of `GET /v1/events`."""

    id: str | None
    """The last id that the stream sent: pass it as `last_event_id` to continue after this event."""
    type: str
    """`inspection.done` and the like; `reset` where events were lost; "" where only the id changed."""
    data: dict[str, Any]

    @property
    def event(self) -> Event:
        """The event of an inspection.

        Raises:
            ValueError: for a `reset`, and for types that only a newer service has.
        """
        return Event.model_validate(self.data)


class EventReader:
    """Turns text that arrives in pieces into events; an event that the end cuts off is dropped."""

    def __init__(self) -> None:
        self._rest = ""
        self._last_id: str | None = None
        self._fields: dict[str, str] = {}

    def feed(self, chunk: str) -> Iterator[ServerEvent]:
        """Yield the events that this piece completes."""
        # Not splitlines(): the service ends lines with a line feed alone, and the JSON may hold other separators.
        *lines, self._rest = (self._rest + chunk).split("\n")
        for line in lines:
            name, _, value = line.partition(":")
            if line:
                self._fields[name] = value.removeprefix(" ")
            else:
                yield from self._end()

    def _end(self) -> Iterator[ServerEvent]:
        fields, self._fields = self._fields, {}
        self._last_id = fields.get("id", self._last_id)
        if "data" in fields:
            yield ServerEvent(self._last_id, fields.get("event", ""), json.loads(fields["data"]))
        elif "id" in fields:
            yield ServerEvent(self._last_id, "", {})


def read_events(chunks: Iterable[str]) -> Iterator[ServerEvent]:
    """Yield the events of a text that arrives in pieces."""
    reader = EventReader()
    for chunk in chunks:
        yield from reader.feed(chunk)

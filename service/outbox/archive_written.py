"""What stands in the archive's parts already, of the events that may be delivered again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import redis

from service.outbox.archive_parts import Part, parts_in, place
from service.queue import keys
from service.queue.events import StoredEvent
from service.storage.artifacts import ArtifactFolder


class Written:
    """The newest parts. They are listed once; then this process knows what it wrote itself.

    Redis says whether another process has written since: then they are listed anew. So a further part costs as much as
    the first one of its day.
    """

    def __init__(self, folder: ArtifactFolder, client: redis.Redis, sink: str) -> None:
        self._folder, self._redis, self._key = folder, client, keys.outbox_writer(sink)
        self._writer = uuid.uuid4().hex
        self._parts: list[Part] | None = None

    def missing(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Those of these that no part holds. From now on this process is the one that writes. ArtifactsUnavailable."""
        # Not SET with GET: repeated after a lost reply, it would name this process.
        if self._redis.get(self._key) != self._writer:
            self._parts = None
            self._redis.set(self._key, self._writer)
        found = parts_in(self._folder) if self._parts is None else self._parts
        # The stream's order is kept: what came before these was acknowledged.
        self._parts = [part for part in found if place(part.last) >= place(events[0].id)]
        return [event for event in events if not any(part.holds(event.id) for part in self._parts)]

    def add(self, part: Part) -> None:
        """This process wrote it."""
        if self._parts is not None:
            self._parts.append(part)

    def forget(self) -> None:
        """A write failed, or seemed to: what stands there is looked up again."""
        self._parts = None

"""A worker that works in a thread and knows its verdicts beforehand. No torch."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from service.contract import Failure, done_result
from service.queue.claims import ClaimedJob
from service.queue.connection import connect
from service.queue.jobs import JobQueue
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from tests.support.line import findings, picture

MAP = np.arange(600, dtype=np.float32).reshape(20, 30) / 600
"""Of a picture of 30x20 pixels."""


class Worker:
    """Gives every image the score that its place in the queue makes: 0.25, 0.5, 0.75, 1.0 ..."""

    def __init__(self, settings: Settings, failure: Failure | None = None) -> None:
        self._artifacts = ArtifactStore(settings.artifacts)
        self._failure = failure
        self.seen: list[ClaimedJob] = []

    def take(self, claimed: ClaimedJob, queue: JobQueue) -> None:
        self.seen.append(claimed)
        if self._failure is not None:
            queue.fail(claimed, self._failure)
            return
        npy = io.BytesIO()
        np.save(npy, MAP)
        self._artifacts.put(claimed.id, "map.npy", npy.getvalue())
        self._artifacts.put(claimed.id, "overlay.png", picture())
        found = findings(0.25 * len(self.seen), artifacts=("map.npy", "overlay.png"))
        done = done_result(claimed.job, found, started_at=claimed.started_at, attempts=claimed.attempt)
        assert queue.complete(claimed, done)


@contextmanager
def working(settings: Settings, failure: Failure | None = None) -> Iterator[Worker]:
    """A worker in a thread."""
    assert settings.redis_url is not None
    worker, stopped = Worker(settings, failure), threading.Event()

    def work() -> None:
        with connect(str(settings.redis_url)) as own:
            queue = JobQueue(own)
            while not stopped.is_set():
                for claimed in queue.claim(1, block_ms=100):
                    worker.take(claimed, queue)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield worker
    finally:
        stopped.set()
        thread.join()

"""Renews this worker's leases and takes over dead workers' jobs, in a thread that does not depend on the device.

The device loop may be in a long call; the leases do not wait for it. A worker that is stopped, or dead, renews nothing,
and once its lease has ended another worker finds its jobs here.
"""

from __future__ import annotations

import threading

import structlog
from redis.exceptions import RedisError

from service.queue.jobs import JobQueue
from service.telemetry.metrics.worker import WorkerMetrics

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """A thread that renews the claims of this worker, and then looks for jobs whose workers died.

    It does so three times within a lease, so that one round that fails loses nothing.
    """

    def __init__(self, queue: JobQueue, metrics: WorkerMetrics) -> None:
        self._queue, self._metrics, self._every_s = queue, metrics, queue.lease_ms / 3000
        self._lock = threading.Lock()
        self._lost: set[str] = set()
        self._failure: BaseException | None = None
        self.has_news = threading.Event()
        """`take_lost` has something to say; so that the device loop need not ask for the lock each time."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def take_lost(self) -> frozenset[str]:
        """Return the claims (`entry_id`) that others took over since the last call: their work is to be dropped.

        Raises:
            RuntimeError: if the thread has ended: without it every job would be taken over.
        """
        with self._lock:
            if self._failure is not None:
                raise RuntimeError("the lease thread has ended: every job would be taken over") from self._failure
            lost, self._lost = frozenset(self._lost), set()
            self.has_news.clear()
            return lost

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._every_s):
                self.round()
        except BaseException as failure:
            log.exception("lease thread ends")
            with self._lock:
                self._failure = failure
                self.has_news.set()

    def round(self) -> None:
        """Renew this worker's leases and take over dead workers' jobs. The thread does so each third of a lease."""
        try:
            # Renew first: a process that slept past its leases keeps what nobody has taken over yet.
            lost = self._queue.renew()
            reclaimed = self._queue.reclaim()
        except (RedisError, OSError) as error:
            # The next round tries again; if Redis stays away past the lease, the jobs run again elsewhere.
            log.warning("leases not renewed", held=len(self._queue.held), error=str(error))
            return
        if lost:
            log.warning("leases lost", inspections=[claimed.id for claimed in lost])
        if reclaimed.suspects or reclaimed.dead:
            log.warning("jobs of dead workers", suspects=reclaimed.suspects, given_up=reclaimed.dead)
            self._metrics.count_reclaimed(reclaimed)
        with self._lock:
            self._lost |= {claimed.entry_id for claimed in lost}
            if self._lost:
                self.has_news.set()

"""The leases of an outbox process on its sinks: each sink is served by one process at a time, the others stand by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from redis.exceptions import RedisError

from service.queue.outbox import SinkLeases

log = structlog.get_logger(__name__)


class SinkLeaseKeeper:
    """Renews the leases from a thread of its own, so that a slow receiver does not delay it.

    A lease that was not renewed in time counts as lost, even if Redis could not be asked.
    """

    def __init__(
        self, holder: SinkLeases, sinks: Sequence[str], lease_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._holder, self._sinks, self._lease_s, self._clock = holder, sinks, lease_s, clock
        self._lock = threading.Lock()
        self._leased: frozenset[str] = frozenset()
        self._until = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink-lease", daemon=True)

    def is_holder(self, sink: str) -> bool:
        """Return whether this process delivers to the sink now."""
        with self._lock:
            return sink in self._leased and self._clock() < self._until

    def start(self) -> None:
        """Renew once, then regularly from the thread."""
        self.renew()
        self._thread.start()

    def stop(self) -> None:
        """Give the leases up, so that another process need not wait until they end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(RedisError):
            self._holder.release(self._sinks)

    def renew(self) -> None:
        """Take or renew the leases once. An error of Redis is only logged: the leases may last until the next time."""
        # Before the call, not after it: Redis starts the lease at some moment in between, so this is the earliest end.
        asked_at = self._clock()
        try:
            leased = self._holder.acquire(self._sinks)
        except RedisError as error:
            log.warning("leases on the sinks not renewed", error=str(error), kind=type(error).__name__)
            return
        with self._lock:
            if leased != self._leased:
                log.info("delivers to", sinks=sorted(leased), stands_by_for=sorted(set(self._sinks) - leased))
            self._leased, self._until = leased, asked_at + self._lease_s

    def _run(self) -> None:
        while not self._stopping.wait(self._lease_s / 3):
            self.renew()

"""Keeps this process's hold on its sinks, from a thread that does not wait for a slow receiver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from redis.exceptions import RedisError

from service.queue.outbox import Holder

log = structlog.get_logger(__name__)


class SinkLeaseKeeper:
    """Asks for the sinks several times within a lease. What it has not been told lately, it does not hold."""

    def __init__(
        self, holder: Holder, sinks: Sequence[str], lease_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._holder, self._sinks, self._lease_s, self._clock = holder, sinks, lease_s, clock
        self._lock = threading.Lock()
        self._held: frozenset[str] = frozenset()
        self._until = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def is_holder(self, sink: str) -> bool:
        """Whether this process delivers to the sink now."""
        with self._lock:
            return sink in self._held and self._clock() < self._until

    def start(self) -> None:
        """Asks once, then from the thread."""
        self.renew()
        self._thread.start()

    def stop(self) -> None:
        """Lets go, so that another process need not wait for the lease to end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(RedisError):
            self._holder.let_go(self._sinks)

    def renew(self) -> None:
        """One round. RedisError is only logged: the lease may last."""
        asked = self._clock()
        try:
            held = self._holder.hold(self._sinks)
        except RedisError as error:
            log.warning("hold on the sinks not renewed", error=str(error), kind=type(error).__name__)
            return
        with self._lock:
            if held != self._held:
                log.info("delivers to", sinks=sorted(held), stands_by_for=sorted(set(self._sinks) - held))
            self._held, self._until = held, asked + self._lease_s

    def _run(self) -> None:
        while not self._stopping.wait(self._lease_s / 3):
            self.renew()

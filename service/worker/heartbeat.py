"""Tells whether the worker is alive: by the last completed step, or by the last answered claim while it is idle."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Heartbeat:
    """The last sign of life, written by the engine and read by the health server's thread."""

    def __init__(
        self,
        stuck_after_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start as not ready, with a sign of life now.

        Args:
            stuck_after_s: a longer silence, in seconds, means that the worker is not alive.
            clock: monotonic seconds.
            draining: returns whether the worker was asked to stop.
        """
        self._stuck_after_s, self._clock, self._draining = stuck_after_s, clock, draining
        self._lock = threading.Lock()
        self._last = clock()
        self._lanes = 0
        self._ready = False
        self._bundle_found = self._bundle_missed = False

    def warm_up_finished(self) -> None:
        """Record that all models were called once: the worker is ready for jobs."""
        with self._lock:
            self._ready, self._last = True, self._clock()

    def warm_up_progressed(self) -> None:
        """Record that a part of the warm-up is done."""
        with self._lock:
            self._last = self._clock()

    def claim_answered(self) -> None:
        """Record that a claim came back: with jobs, without, or refused; not that it took too long."""
        with self._lock:
            # With lanes occupied only steps count: a stuck device must not hide behind claims that still work.
            if not self._lanes:
                self._last = self._clock()

    def step_completed(self, lanes: int) -> None:
        """Record that the device completed a step of this many lanes."""
        with self._lock:
            self._last, self._lanes = self._clock(), lanes

    def lanes_emptied(self) -> None:
        """Record that no lane is occupied."""
        with self._lock:
            if self._lanes:
                self._last, self._lanes = self._clock(), 0

    def bundle_found(self) -> None:
        """Record that a bundle which a job needs is loaded."""
        with self._lock:
            self._bundle_found = True

    def bundle_missed(self, missed: bool = True) -> None:
        """Record that a bundle which the pool needs cannot be used, or is not there; False: one is there again."""
        with self._lock:
            self._bundle_missed = missed

    @property
    def has_bundle(self) -> bool:
        """Whether the worker can use a bundle: a job's, or none was missed so far.

        What it has loaded does not count by itself: it may be a bundle that no job needs.
        """
        with self._lock:
            return self._bundle_found or not self._bundle_missed

    def ready(self) -> bool:
        """Return whether jobs can be done: the warm-up is over, a bundle can be used, and no stop was requested."""
        usable = self.has_bundle
        with self._lock:
            return self._ready and usable and not self._draining()

    @property
    def lanes(self) -> int:
        """Lanes of the last step; 0 when idle."""
        with self._lock:
            return self._lanes

    @property
    def stuck_after_s(self) -> float:
        """Silence, in seconds, beyond which the worker is not alive."""
        return self._stuck_after_s

    @property
    def age_s(self) -> float:
        """Seconds since the last sign of life."""
        with self._lock:
            return self._clock() - self._last

    @property
    def status(self) -> str:
        """The health server's text."""
        return f"last sign of life {self.age_s:.1f} s ago, {self.lanes} lanes occupied"

    def alive(self) -> bool:
        """Return whether the last sign of life is recent enough."""
        return self.age_s < self._stuck_after_s


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of a device's memory."""

    used: int
    """A GPU's: what the driver has handed out to all programs. A CPU's: what this process holds."""
    size: int


def device_memory(device: str) -> DeviceMemory | None:
    """Return the device's memory now, or None where the system does not say."""
    if torch.device(device).type == "cuda":
        free, size = torch.cuda.mem_get_info(torch.device(device))
        return DeviceMemory(size - free, size)
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return DeviceMemory(resident * page, os.sysconf("SC_PHYS_PAGES") * page)
    except (OSError, ValueError):  # not Linux
        return None


class WorkerGaugesCollector(Collector):
    """Prometheus gauges that are read at the moment of a scrape."""

    def __init__(self, heartbeat: Heartbeat, device: str) -> None:
        self._heartbeat, self._device = heartbeat, device

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector asks nothing of the device."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        silence = "Seconds since the last completed step or, idle, since the last answered claim"
        yield GaugeMetricFamily("glad_worker_silence_seconds", silence, value=self._heartbeat.age_s)
        limit = "Silence beyond which the worker is not alive: GLAD_STUCK_AFTER_S"
        yield GaugeMetricFamily("glad_worker_stuck_after_seconds", limit, value=self._heartbeat.stuck_after_s)
        ready = "1: takes jobs; 0: its models are not all warm yet, it has no usable bundle, or it was asked to stop"
        yield GaugeMetricFamily("glad_worker_ready", ready, value=float(self._heartbeat.ready()))
        used = GaugeMetricFamily("glad_device_memory_used_bytes", "Memory in use on the device", labels=["device"])
        size = GaugeMetricFamily("glad_device_memory_size_bytes", "Memory of the device", labels=["device"])
        if (memory := device_memory(self._device)) is not None:
            used.add_metric([self._device], memory.used)
            size.add_metric([self._device], memory.size)
        yield from (used, size)

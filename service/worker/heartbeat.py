"""Is the worker alive? With lanes occupied: when the last step was completed; idle: when a claim was last answered."""

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
    """Written by the engine, read by the health port."""

    def __init__(
        self,
        stuck_after_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        """`leaving`: whether the worker was asked to stop."""
        self._stuck_after_s, self._clock, self._leaving = stuck_after_s, clock, leaving
        self._lock = threading.Lock()
        self._last = clock()
        self._lanes = 0
        self._ready = False

    def warm(self) -> None:
        """All models were called once: ready for jobs."""
        with self._lock:
            self._ready, self._last = True, self._clock()

    def warming(self) -> None:
        """A part of the warm-up is done."""
        with self._lock:
            self._last = self._clock()

    def claim_answered(self) -> None:
        """Redis answered a claim, with jobs or without."""
        with self._lock:
            if not self._lanes:
                self._last = self._clock()

    def step_completed(self, lanes: int) -> None:
        """The device completed a step of so many lanes."""
        with self._lock:
            self._last, self._lanes = self._clock(), lanes

    def nobody_walks(self) -> None:
        """No lane is occupied."""
        with self._lock:
            if self._lanes:
                self._last, self._lanes = self._clock(), 0

    def ready(self) -> bool:
        """The warm-up is over, and the end has not begun: jobs are taken."""
        with self._lock:
            return self._ready and not self._leaving()

    @property
    def lanes(self) -> int:
        """Lanes of the last step; 0 when idle."""
        with self._lock:
            return self._lanes

    @property
    def stuck_after_s(self) -> float:
        """Beyond this age it is not alive."""
        return self._stuck_after_s

    @property
    def age_s(self) -> float:
        """Seconds since the last sign of life."""
        with self._lock:
            return self._clock() - self._last

    @property
    def status(self) -> str:
        """What the health port says."""
        return f"last sign of life {self.age_s:.1f} s ago, {self.lanes} lanes occupied"

    def alive(self) -> bool:
        """There was a sign of life lately."""
        return self.age_s < self._stuck_after_s


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of a device's memory."""

    used: int
    """A GPU's: what the driver has handed out to all programs. A CPU's: what this process holds."""
    size: int


def device_memory(device: str) -> DeviceMemory | None:
    """The device's memory now; None where that cannot be told."""
    if torch.device(device).type == "cuda":
        free, size = torch.cuda.mem_get_info(torch.device(device))
        return DeviceMemory(size - free, size)
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return DeviceMemory(resident * page, os.sysconf("SC_PHYS_PAGES") * page)
    except (OSError, ValueError):  # not Linux
        return None


class Vitals(Collector):
    """Gauges that are read at the moment of a scrape."""

    def __init__(self, pulse: Heartbeat, device: str) -> None:
        self._pulse, self._device = pulse, device

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked of the device when the collector is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One gauge after the other."""
        silence = "Seconds since the last completed step or, idle, since the last answered claim"
        yield GaugeMetricFamily("glad_worker_silence_seconds", silence, value=self._pulse.age_s)
        limit = "Silence beyond which the worker is not alive: GLAD_STUCK_AFTER_S"
        yield GaugeMetricFamily("glad_worker_stuck_after_seconds", limit, value=self._pulse.stuck_after_s)
        ready = "1: takes jobs; 0: its models are not all warm yet, or it was asked to stop"
        yield GaugeMetricFamily("glad_worker_ready", ready, value=float(self._pulse.ready()))
        used = GaugeMetricFamily("glad_device_memory_used_bytes", "Memory in use on the device", labels=["device"])
        size = GaugeMetricFamily("glad_device_memory_size_bytes", "Memory of the device", labels=["device"])
        if (memory := device_memory(self._device)) is not None:
            used.add_metric([self._device], memory.used)
            size.add_metric([self._device], memory.size)
        yield from (used, size)

"""What a worker shows of itself when it is asked: its last sign of life, and its device's memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.worker.heartbeat import Pulse


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

    def __init__(self, pulse: Pulse, device: str) -> None:
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

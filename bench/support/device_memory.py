"""What work takes of a GPU's memory. ONNX Runtime does not allocate through torch, so the driver is asked as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

Made = TypeVar("Made")


@dataclass(frozen=True)
class DeviceMemory:
    """Gigabytes (10^9 bytes) that a piece of work added to what was in use before."""

    torch_peak_gb: float
    """The most that torch's own allocator had in use at once: its weights, and every engine's inputs and outputs."""
    device_gb: float
    """What the driver has handed out in the meantime and not taken back: all allocators together. Both keep what they
    once had, so that it is the peak of the work, rounded up to their blocks."""


def with_memory(work: Callable[[], Made], device: str) -> tuple[Made, DeviceMemory | None]:
    """What the work makes, and the memory that it took on a GPU; None on a CPU."""
    place = torch.device(device)
    if place.type != "cuda":
        return work(), None
    torch.cuda.synchronize(place)
    torch.cuda.empty_cache()  # so that nothing of it comes from what earlier work left
    torch.cuda.reset_peak_memory_stats(place)
    allocated, free = torch.cuda.memory_allocated(place), torch.cuda.mem_get_info(place)[0]
    made = work()
    torch.cuda.synchronize(place)
    peak = torch.cuda.max_memory_allocated(place) - allocated
    return made, DeviceMemory(peak / 1e9, (free - torch.cuda.mem_get_info(place)[0]) / 1e9)

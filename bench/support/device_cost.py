"""Seconds and memory that work takes on a device.

What is compared is timed in turn, A, B, A, B, so that everything that the machine does meanwhile meets all alike.
ONNX Runtime does not allocate through torch, so the driver is asked for the memory as well.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

ROUND_S = 0.1
"""How long a round of short calls lasts at least: a call of a millisecond is timed as a hundred."""
MOST_REPEATS = 100


@dataclass(frozen=True)
class Rounds:
    """Seconds of one call in each round; their mean where a round has many calls."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.seconds)


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", *, round_s: float = ROUND_S
) -> dict[str, Rounds]:
    """Time calls that do the same thing. Each is called once to warm up; in every round all repeat it equally often.

    Args:
        device: the device that they run on; a GPU's work is awaited.

    Raises:
        ValueError: if there are no rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds are {rounds}; at least 1 is needed")
    place = torch.device(device)
    fastest = min(_warmed_up(call, place, round_s) for call in calls.values())
    repeats = min(MOST_REPEATS, max(1, math.ceil(round_s / fastest)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(_timed(call, repeats, place) / repeats)
    return {name: Rounds(tuple(seconds)) for name, seconds in found.items()}


def _warmed_up(call: Callable[[], object], device: torch.device, enough_s: float) -> float:
    """Return the seconds of the second call; of the first one if it takes long enough not to be repeated in a round."""
    first = _timed(call, 1, device)
    return first if first > enough_s else _timed(call, 1, device)


def _timed(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    settle(device)
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    settle(device)
    return time.perf_counter() - began


def settle(device: torch.device) -> None:
    """Wait until a GPU has done all work that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


Made = TypeVar("Made")


@dataclass(frozen=True)
class MemoryTaken:
    """Gigabytes (10^9 bytes) that a piece of work added to what was in use before."""

    torch_peak_gb: float
    """The most that torch's own allocator had in use at once: its weights, and every engine's inputs and outputs."""
    device_gb: float
    """Memory that the driver has handed out meanwhile and not taken back: all allocators together. They keep what they
    once had, so this is the peak of the work, rounded up to their blocks."""


def with_memory(work: Callable[[], Made], device: str) -> tuple[Made, MemoryTaken | None]:
    """Do the work; return its result and the memory that it took on a GPU, None on a CPU."""
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
    return made, MemoryTaken(peak / 1e9, (free - torch.cuda.mem_get_info(place)[0]) / 1e9)

"""How much memory a piece of work took: of the GPU where there is one, else of this process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch

CLEAR_PEAK = "5"
"""What Linux takes, written to /proc/self/clear_refs, for: forget the peak (man 5 proc)."""


def reset_peak_memory() -> None:
    """Begin a new measurement of `peak_memory_bytes`, where the system allows that."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK, encoding="ascii")
    except OSError:  # another system, or a container that forbids it: the peak is that since the start
        return


def peak_memory_bytes() -> int:
    """Return the largest amount since `reset_peak_memory`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def used_memory_bytes() -> int:
    """Return what is in use now: of the GPU the largest amount so far, for it changes within each step."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return int(psutil.Process().memory_info().rss)


def in_gib(amount: int) -> str:
    """Return bytes as people read them, such as "2.1 GiB"."""
    return f"{amount / 2**30:.1f} GiB"

"""Memory that a process has freed goes back to the system, so that its size says what it holds.

glibc raises the size from which a buffer is mapped on its own to the largest one freed, and gives each thread an arena:
after some thousand images the buffers of decoding lie in many half-empty arenas, and the process looks as if it leaked,
by 2 MiB at a time.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""mallopt(3)."""
LARGE_BYTES = 128 << 10
"""glibc's own first value; setting it keeps it from growing."""
ARENAS = 2


def return_freed_memory() -> bool:
    """From now on large buffers are mapped one by one, and few arenas are made. False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wishes = ((_M_MMAP_THRESHOLD, LARGE_BYTES), (_M_TRIM_THRESHOLD, LARGE_BYTES), (_M_ARENA_MAX, ARENAS))
    taken = [mallopt(option, value) == 1 for option, value in wishes]
    return all(taken)

"""Memory that a process no longer needs goes back to the system, so that its size says what it holds.

CPython looks for cycles among what has lived for a while only once that has grown by a quarter since the last time.
With half a million objects of imported modules that takes hours, in which a process gains megabytes.

glibc raises the size from which a buffer is mapped on its own to the largest one freed, and gives each thread an arena:
the buffers of decoded images then stay in arenas after they were freed.
"""

from __future__ import annotations

import ctypes
import gc

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


def set_startup_aside() -> None:
    """What there is now stays for good: garbage that comes later is looked for, and found, by itself.

    Call it once, when all is imported, and before what may have to be freed again (models, connections).
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # counts what lives: nothing yet, and not all that is set aside

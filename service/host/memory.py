"""Settings of the C library and of Python's garbage collector that keep a long-running process small.

Without them the size of a process grows for hours, although nothing is kept.
"""

from __future__ import annotations

import ctypes
import gc

# Option numbers of mallopt(3), from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
LARGE_BYTES = 128 << 10
"""Buffers from this size on get a mapping of their own. It is glibc's initial value."""
ARENAS = 2
"""Heaps that the threads of the process share. More of them mean less waiting for each other, and more memory that is
free but not returned."""


def return_freed_memory() -> bool:
    """Make glibc give freed image buffers back to the system.

    By default glibc raises the mapping threshold to the size of the largest buffer freed so far, up to 32 MiB, and
    gives every thread an arena of its own. Buffers of decoded images then come from the arenas, and stay there after
    they are freed.

    Call it before threads are started: an arena that was made stays.

    Returns:
        Whether all options were set; False where the C library is not glibc (musl, macOS).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = (
        (_M_MMAP_THRESHOLD, LARGE_BYTES),  # setting it, even to its initial value, stops glibc from raising it
        (_M_TRIM_THRESHOLD, LARGE_BYTES),  # the free end of the heap is returned as soon as it is this long
        (_M_ARENA_MAX, ARENAS),
    )
    accepted = [mallopt(option, value) == 1 for option, value in options]  # each is tried, even if one is refused
    return all(accepted)


def freeze_startup_objects() -> None:
    """Exclude all objects that exist now from garbage collection: they stay until the process ends.

    CPython starts a full collection only after the number of long-lived objects has grown by a quarter. With the half a
    million objects of the imported modules this takes hours, in which a process gains megabytes of garbage cycles.
    Frozen objects are not counted, so later garbage is found early.

    Call it once, after all imports, and before anything is made that may have to be freed (models, connections).
    """
    gc.collect()  # garbage must not be frozen with the rest: it would never be freed
    gc.freeze()
    # This collection counts the long-lived objects anew: there are none yet. Without it CPython would compare with the
    # number from before the freeze.
    gc.collect()

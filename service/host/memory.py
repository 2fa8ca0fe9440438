"""Settings of the C library and of Python's garbage collector: small processes, and workers that need not ask twice.

Without them the size of an API process grows for hours, although nothing is kept. A worker is the other way round: it
needs the same megabytes for every image.
"""

from __future__ import annotations

import ctypes
import gc

# Option numbers of mallopt(3), from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
LARGE_BYTES = 128 << 10
"""Buffers from this size on get a mapping of their own. It is glibc's initial value."""
LARGEST_HEAP_BUFFER = 32 << 20
"""Buffers up to this size come from the heap in a worker; more is not allowed by glibc."""
KEPT_BYTES = 512 << 20
"""So much freed memory at its heap's end a worker keeps."""
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""The environment of a process whose heap may lie in pages of 2 MiB (glibc 2.35, read at its start alone)."""
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
    return _set_options(
        (_M_MMAP_THRESHOLD, LARGE_BYTES),  # setting it, even to its initial value, stops glibc from raising it
        (_M_TRIM_THRESHOLD, LARGE_BYTES),  # the free end of the heap is returned as soon as it is this long
        (_M_ARENA_MAX, ARENAS),
    )


def keep_freed_memory() -> bool:
    """Make glibc keep what a worker frees, for its next image.

    Each layer of a network frees some megabytes that the next one asks for again. From the system they come in pages of
    4 KiB that it fills with zeros one by one, and that takes a third of an image's time where memory is fragmented. At
    most `KEPT_BYTES` at the heap's end are kept.

    Call it before the first large buffer is made.

    Returns:
        As `return_freed_memory`.
    """
    return _set_options(
        (_M_MMAP_THRESHOLD, LARGEST_HEAP_BUFFER),
        (_M_TRIM_THRESHOLD, KEPT_BYTES),
        (_M_TOP_PAD, 64 << 20),  # the heap grows by so much at a time
    )


def _set_options(*options: tuple[int, int]) -> bool:
    """Set options of malloc; return whether all were taken."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
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

"""glibc's allocator, told to keep what torch frees: a CPU pass frees and wants megabytes again at every layer.

By default each of them goes back to the kernel and returns as page faults. Kept, a training step on two cores takes
10 to 20 % less, a decode and a feature pass a fifth (docs/results.md).
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
MOST_IN_HEAP_BYTES = 32 << 20  # the largest M_MMAP_THRESHOLD that glibc takes
KEPT_BYTES = 1 << 30
PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """For this process, from now on. Returns whether it did anything: elsewhere than on glibc nothing is changed."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((M_MMAP_THRESHOLD, MOST_IN_HEAP_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, PAD_BYTES))
    return bool(min(mallopt(what, size) for what, size in wanted) == 1)

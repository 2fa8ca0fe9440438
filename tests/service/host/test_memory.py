"""What an API process has freed it gives back, however large the images before were."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from service.host.memory import return_freed_memory

MAPPED = """
import ctypes, sys
from service.host.memory import LARGE_BYTES, return_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc.mallinfo2.restype = Info
if sys.argv[1] == "steady":
    assert return_freed_memory()
libc.free(libc.malloc(16 * LARGE_BYTES))
before = libc.mallinfo2().hblks
libc.malloc(4 * LARGE_BYTES)
print(libc.mallinfo2().hblks - before)
"""

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 or newer tells this")


def mapped_on_its_own(how: str) -> int:
    """Buffers that a new process maps for one large request, after a larger one was freed."""
    told = subprocess.run([sys.executable, "-c", MAPPED, how], capture_output=True, text=True, check=True)
    return int(told.stdout)


@glibc
def test_a_large_buffer_is_mapped_on_its_own_also_after_a_larger_one() -> None:
    assert mapped_on_its_own("steady") == 1
    assert mapped_on_its_own("as it is") == 0, "or the C library does so by itself now, and ours can go"


FAULTS = """
import ctypes, resource, sys
from service.host.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
if sys.argv[1] == "worker":
    assert keep_freed_memory()

def use():
    buffers = [libc.malloc(24 << 20) for _ in range(4)]
    for buffer in buffers:
        libc.memset(buffer, 1, 24 << 20)
    for buffer in buffers:
        libc.free(buffer)

use()
use()  # glibc raises its threshold when a larger buffer is freed for the first time
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@glibc
def test_a_worker_asks_the_system_once_for_what_every_image_needs() -> None:
    def faults(how: str) -> int:
        told = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(told.stdout)

    assert faults("worker") < 1000  # 240,000 pages of 4 KiB are used
    assert faults("as it is") > 10_000, "or the C library keeps them by itself now, and ours can go"


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not return_freed_memory()


ROUNDS = """
import gc, sys
from collections import deque
from service.host.memory import freeze_startup_objects

started = [[number] for number in range(800_000)]  # as imported modules do: many objects that stay
gc.collect()
if sys.argv[1] == "aside":
    freeze_startup_objects()
found = 0

def count(phase, info):
    global found
    found += phase == "start" and info["generation"] == 2

gc.callbacks.append(count)
under_way = deque(maxlen=3000)
for number in range(100_000):  # requests, each with a cycle that lives for a while
    request = [number]
    request.append(request)
    under_way.append(request)
print(found)
"""


def full_searches(how: str) -> int:
    """How often a new process looks among all that has lived for a while, during some thousand requests."""
    told = subprocess.run([sys.executable, "-c", ROUNDS, how], capture_output=True, text=True, check=True)
    return int(told.stdout)


def test_garbage_of_requests_is_looked_for_soon_whatever_was_imported() -> None:
    assert full_searches("aside") >= 1
    assert full_searches("as it is") == 0, "or Python looks by itself now, and ours can go"

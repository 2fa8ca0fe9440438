"""The allocator's settings are accepted where there are any, and nowhere an error."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from model_store.engines.allocator import keep_freed_memory

_FAULTS = """
import resource
import torch
from model_store.engines.allocator import keep_freed_memory
assert keep_freed_memory()
torch.set_num_threads(1)
for _ in range(3):
    torch.ones(2_000_000).add(1)  # two buffers of 8 MB, touched for the first time
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(300):
    torch.ones(2_000_000).add(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc: nothing to set")
def test_freed_memory_does_not_come_back_as_page_faults() -> None:
    ran = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    touched = 300 * 2 * 8_000_000 // 4096  # pages, were every buffer new; glibc's default may reach that
    assert int(ran.stdout) < touched / 50


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False

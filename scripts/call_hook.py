"""The profiler's hook of scripts/walk.py, for the processes that it watches: writes each call between files of ours.

It stands alone, because whatever it imported would be there before the watched project's own.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

RESUMABLE = 0x20 | 0x80 | 0x200
"""Flags of code objects: generators, coroutines, asynchronous generators."""
LUA_CALL = "redis/commands/core.py"
"""Where redis-py calls a script."""


def install() -> None:
    """Hook this process and all its later threads, before any code of the project runs."""
    folder, roots = Path(os.environ["WALK_FOLDER"]), tuple(os.environ["WALK_ROOTS"].split(os.pathsep))
    with (folder / "window").open("rb") as file:
        window = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
    log = os.open(folder / f"{os.getpid()}.calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    hook = make_hook(roots, window, lambda call: os.write(log, f"{json.dumps(call)}\n".encode()))
    threading.setprofile(hook)
    sys.setprofile(hook)


class Call(NamedTuple):
    """A call into a file from another one."""

    window: int
    at: float
    thread: str
    caller: str | None
    """FILE:FUNCTION of ours; None where a thread begins."""
    callee: str
    """FILE:FUNCTION of ours, or the text of a Lua script."""
    is_lua: bool = False

    @property
    def is_move(self) -> bool:
        """Whether it goes from one file of Python to another."""
        return self.caller is not None and not self.is_lua


def make_hook(
    roots: tuple[str, ...], window: mmap.mmap | Sequence[int], write: Callable[[Call], object]
) -> Callable[[FrameType, str, Any], None]:
    """Return a hook for sys.setprofile: it writes the calls between files under the roots while the window is open."""
    known: dict[str, bool] = {}

    def is_ours(file: str) -> bool:
        if file not in known:
            known[file] = file.startswith(roots)
        return known[file]

    def hook(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not window[0]:
            return
        code = frame.f_code
        is_lua = code.co_name == "__call__" and code.co_filename.endswith(LUA_CALL)
        if not (is_lua or is_ours(code.co_filename)) or code.co_name == "<module>" or goes_on(frame, code):
            return
        outer = frame.f_back
        while outer is not None and not is_ours(outer.f_code.co_filename):
            outer = outer.f_back
        if outer is None or outer.f_code.co_filename != code.co_filename:
            caller = outer and f"{outer.f_code.co_filename}:{outer.f_code.co_qualname}"
            callee = frame.f_locals["self"].script if is_lua else f"{code.co_filename}:{code.co_qualname}"
            write(Call(window[0], time.monotonic(), threading.current_thread().name, caller, callee, is_lua))

    return hook


def goes_on(frame: FrameType, code: CodeType) -> bool:
    """Return whether this is no call but a generator or coroutine that is resumed: its RESUME instruction says so."""
    return bool(code.co_flags & RESUMABLE and frame.f_lasti >= 0 and code.co_code[frame.f_lasti + 1] & 3)

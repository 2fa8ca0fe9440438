"""One training at a time in a run's folder: two would overwrite each other's checkpoints.

The lock is the operating system's, so it ends with the process that holds it, also after a kill or a power cut.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from model_store.files import replace_file
from training.launched_processes import is_main_process

LOCK, HOLDER = "in-use.lock", "in-use.json"
"""In a run's folder. The lock's file stays when nobody holds it; the other says who does."""
PATIENCE_S = 0.5
"""A plan that asks whether a folder is free holds it for a moment."""


class RunInUse(ValueError):
    """Another training writes into the run's folder; says which process it is, as far as that is known."""


ANOTHER_RUN = "give --run another folder for this one"


@contextmanager
def locked_run(folder: Path, way_out: str = ANOTHER_RUN) -> Iterator[None]:
    """Hold a run's folder, which need not exist, for the block. Blocks of one thread may lie in each other.

    Of the processes that `accelerate launch` started, the main one holds it for all.

    Args:
        folder: of the run.
        way_out: what a refusal proposes beside waiting.

    Raises:
        RunInUse: if another process, or another thread of this one, holds it.
    """
    if not is_main_process():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = _acquired(folder, way_out)
    outermost = lock.lock_counter == 1
    try:
        if outermost:
            replace_file(folder / HOLDER, json.dumps(_this_process(), indent=2).encode())
        yield
    finally:
        if outermost:
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def refuse_run_in_use(folder: Path, way_out: str = ANOTHER_RUN) -> None:
    """Refuse a run's folder, which need not exist, that another training writes into; arguments as above.

    Raises:
        RunInUse: if another process, or another thread of this one, holds it.
    """
    if (folder / LOCK).is_file():
        _acquired(folder, way_out).release()


def _acquired(folder: Path, way_out: str) -> FileLock:
    lock = FileLock(folder.resolve() / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        raise RunInUse(_in_words(folder, way_out)) from None
    return lock


def _this_process() -> dict[str, str | int]:
    begun = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": begun}


def _in_words(folder: Path, way_out: str) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        who = f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "its process is not known"
    return f"another training writes into {folder} ({who}): wait until it ends, stop it, or {way_out}"

"""The processes of one training: one, or as many as `accelerate launch` started, a device each.

All of them run the same program. The main one alone writes files, shows progress and calibrates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState

LONGEST_WAIT = timedelta(hours=24)
"""For each other: while the main process makes pairs, the others have nothing to do."""


def is_main_process() -> bool:
    """Return whether this is the only process, or the first of those that `accelerate launch` started."""
    return os.environ.get("RANK", "0") == "0"


def is_launched() -> bool:
    """Return whether `accelerate launch` or torchrun started this process, as one of several."""
    return "RANK" in os.environ


def joined_processes() -> PartialState:
    """Return what accelerate knows of this process and of the others, which all call this."""
    import torch
    from accelerate import PartialState

    # Without a word about it, accelerate takes several processes on CPUs for as many single ones.
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_WAIT)


def leave_to_main_process() -> None:
    """Go on in the main process alone, once all have come here: the others end their programs.

    Raises:
        SystemExit: in every process but the main one.
    """
    joined = joined_processes()
    if joined.num_processes == 1:
        return
    joined.wait_for_everyone()
    joined.destroy_process_group()
    if not joined.is_main_process:
        raise SystemExit(0)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process, and after that in the others, which find what it has left on disk."""
    with joined_processes().main_process_first():
        yield

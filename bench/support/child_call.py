"""One call in a process of its own: its memory is free afterwards, and what ends it ends it alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from training.progress import progress_hidden

LAST_S = 10.0
"""A process that has answered may take so long to end by itself."""
Result = TypeVar("Result")


def in_child(call: Callable[[], Result], seconds: float) -> Result:
    """Return what a call returns in a new process.

    Raises:
        TimeoutError: if it takes longer; the process is ended.
        ChildProcessError: if it fails, or the system ends it.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_answer, args=(call, there))
    child.start()
    there.close()
    try:
        if not here.poll(max(0.0, seconds)):
            raise TimeoutError("no time was left for it: give more --minutes")
        problem, result = here.recv()
    except EOFError:
        raise ChildProcessError("the system ended its process, most likely for want of memory") from None
    else:
        child.join(LAST_S)
    finally:
        child.kill()
        child.join()
    if problem:
        raise ChildProcessError(problem)
    answer: Result = result
    return answer


def _answer(call: Callable[[], Any], parent: Connection) -> None:
    try:
        with progress_hidden(True):
            parent.send(("", call()))
    except Exception as error:
        parent.send((f"{type(error).__name__}: {error}", None))

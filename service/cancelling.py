"""The end of an asyncio task that may not hear its cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

CANCEL_AGAIN_S = 0.1


async def cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task that is not done yet, and wait for its end; what it then ends with is dropped.

    It is cancelled again and again: a cancellation that arrives just when an await ends may be swallowed, as
    `asyncio.wait_for` of Python 3.11 does, which redis-py uses for each command.

    Raises:
        asyncio.CancelledError: if the caller was cancelled meanwhile; the task has ended then, too.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.cancelled():
        task.exception()  # else asyncio logs that nobody asked for it
    if cancelled is not None:
        raise cancelled

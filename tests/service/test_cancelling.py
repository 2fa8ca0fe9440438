"""Tasks that swallow a cancellation end all the same, and the caller's own cancellation is not lost."""

from __future__ import annotations

import asyncio

import pytest

from service.cancelling import cancel_and_wait


async def deaf(times: int) -> str:
    """Wait for ever, but for so many cancellations and one more."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()
    return "never"


@pytest.mark.parametrize("swallowed", [0, 1, 3])
async def test_a_cancellation_is_repeated_until_it_is_heard(swallowed: int) -> None:
    task = asyncio.ensure_future(deaf(swallowed))
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert task.cancelled()


async def test_the_callers_own_cancellation_is_raised_once_the_task_has_ended() -> None:
    task = asyncio.ensure_future(deaf(2))
    ending = asyncio.ensure_future(cancel_and_wait(task))
    await asyncio.sleep(0.01)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert task.cancelled()


async def test_what_a_task_ends_with_is_dropped() -> None:
    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("while it ended")

    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert isinstance(task.exception(), OSError)


async def test_a_task_that_is_done_stays_as_it_is() -> None:
    async def answer() -> int:
        return 3

    task = asyncio.ensure_future(answer())
    await task
    await cancel_and_wait(task)
    assert task.result() == 3

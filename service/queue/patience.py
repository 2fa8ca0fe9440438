"""How long calls wait for a Redis that is silent: one that is stopped, cut off, or slow, and not known to be away.

redis-py tries each command again, each attempt makes a new connection, and that is tried again too: a Redis that is
there and says nothing would hold a caller for minutes. Here the whole of it has a limit.

In the API each request has a `Patience` besides, which all of its commands share: ten commands that take three seconds
each would be half a minute otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from service.cancelling import cancel_and_wait

T = TypeVar("T")

ANSWER_LIMIT_S = 8.0
"""For a command with all of its attempts, and for all commands of a request together: GLAD_REDIS_ANSWER_S."""
QUICK_SHARE = 1 / 8
"""A command that takes less than this share of the limit costs no patience: an export makes thousands of them."""

_retry_until: ContextVar[float | None] = ContextVar("retry_until", default=None)


class BoundedRetry(Retry):
    """Tries again until the time is over; what is tried inside of an attempt, such as to connect, shares that time.

    An attempt under way is not cut off: it ends after the socket's timeout.
    """

    answer_s: float = ANSWER_LIMIT_S

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """Do the same as `Retry.call_with_retry`, but for the limit."""
        outer = _retry_until.get()
        until = time.monotonic() + self.answer_s if outer is None else outer

        def fail_in_time(error: Exception, *failures: int) -> None:
            fail(error, *failures)  # always: it closes a connection on which a late answer may come
            if time.monotonic() >= until:
                raise error

        token = _retry_until.set(until)
        try:
            return super().call_with_retry(do, fail_in_time, is_retryable, with_failure_count)
        finally:
            _retry_until.reset(token)


class Patience:
    """The time that one request may still wait for Redis."""

    def __init__(self, answer_s: float) -> None:
        self._answer_s, self._spent_s = answer_s, 0.0

    @property
    def left_s(self) -> float:
        """Seconds that the next command may take. One that is quick may always be tried."""
        return max(self._answer_s - self._spent_s, self._answer_s * QUICK_SHARE)

    def spend(self, seconds: float) -> None:
        """Note how long a command took."""
        if seconds >= self._answer_s * QUICK_SHARE:
            self._spent_s += seconds

    def renew(self) -> None:
        """Begin anew: the client has got a part of its answer, such as an event."""
        self._spent_s = 0.0


_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextmanager
def sharing_patience(answer_s: float) -> Iterator[Patience]:
    """Have all commands in this context share one patience."""
    patience = Patience(answer_s)
    token = _patience.set(patience)
    try:
        yield patience
    finally:
        _patience.reset(token)


class PatientRedis(redis.asyncio.Redis):
    """An asynchronous client whose commands end within a limit, with RedisTimeoutError."""

    answer_s: float = ANSWER_LIMIT_S

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute one command, however many attempts it takes."""
        return await _within(self.answer_s, super().execute_command(*args, **options))  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline within the same limit."""
        made = PatientPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.answer_s = self.answer_s
        return made


class PatientPipeline(Pipeline):
    """Several commands that end together within the limit of their client."""

    answer_s: float = ANSWER_LIMIT_S

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Execute the commands, however many attempts it takes."""
        return await _within(self.answer_s, super().execute(raise_on_error))


async def _within(answer_s: float, command: Coroutine[Any, Any, T]) -> T:
    """Cut off what takes longer than the limit, or than the request's patience lasts.

    The command is a task of its own: a cancellation, by the limit or by the caller, that redis-py swallows is repeated.

    Raises:
        RedisTimeoutError: if it was cut off. It may have been done, or Redis may still do it later.
    """
    patience = _patience.get()
    limit_s = answer_s if patience is None else min(answer_s, patience.left_s)
    began = time.monotonic()
    answering = asyncio.ensure_future(command)
    try:
        await asyncio.wait({answering}, timeout=limit_s)
        if not answering.done():
            raise RedisTimeoutError(f"Redis gave no answer within {limit_s:g} s (GLAD_REDIS_ANSWER_S)")
        return answering.result()
    finally:
        await cancel_and_wait(answering)
        if patience is not None:
            patience.spend(time.monotonic() - began)

"""Traces from the request to the result, across the queue: OpenTelemetry where OTEL_EXPORTER_OTLP_ENDPOINT is set.

Without it nothing of OpenTelemetry is imported, and every call here does nothing. The trace context travels in the job
as the W3C `traceparent` of the request's span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from typing import Protocol

from service.contract import Job, Result

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def current_traceparent() -> str | None:
    """The W3C trace context of the request that is being served; None: nobody traces it."""
    return _traceparent.get()


def set_traceparent(value: str | None) -> Token[str | None]:
    """Sets it for what runs in this context."""
    return _traceparent.set(value)


class RequestSpan(Protocol):
    """The span of one request while it lasts."""

    def answered(self, route: str, status: int) -> None:
        """What the request turned out to be."""


class Tracing(Protocol):
    """Where a process's spans go."""

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[RequestSpan]:
        """The span of a request; goes on with the caller's trace, if it sent one."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """A part of the request that is being served."""

    def inspected(self, job: Job, result: Result) -> None:
        """An inspection has just ended: its span, from acceptance to now, and one for each stage."""

    def close(self) -> None:
        """Sends what is left."""


class _Unseen:
    """A span that nobody looks at."""

    def answered(self, route: str, status: int) -> None:
        """Nothing."""


class NoTracing:
    """Nobody collects traces."""

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
        """Nothing."""
        yield _Unseen()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Nothing."""
        yield

    def inspected(self, job: Job, result: Result) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

"""Traces from the request to the result, across the queue: OpenTelemetry where OTEL_EXPORTER_OTLP_ENDPOINT is set.

Without it, nothing of OpenTelemetry is imported and every call here does nothing. The trace context travels in the job
as the W3C `traceparent` of the request's span.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from service.contract import Job, Result

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def current_traceparent() -> str | None:
    """Return the W3C trace context of the request that is being served; None if it is not traced."""
    return _traceparent.get()


@contextmanager
def use_traceparent(value: str | None) -> Iterator[None]:
    """Make `value` the current trace context inside the block."""
    token = _traceparent.set(value)
    try:
        yield
    finally:
        _traceparent.reset(token)


class RequestSpan(Protocol):
    """The span of one request while it lasts."""

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that a job of this request carries."""

    def set_response(self, route: str, status: int) -> None:
        """Record the path's template and the status of the answer."""


class Tracing(Protocol):
    """Creates the spans of one process and sends them."""

    def request_span(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[RequestSpan]:
        """Open the span of a request, within the caller's trace if `headers` carry one."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """Open a span within the request that is being served."""

    def record_inspection(self, job: Job, result: Result) -> None:
        """Record the span of an inspection that has just ended, and one span for each of its stages."""

    def close(self) -> None:
        """Send the spans that are left."""


def open_tracing(service: str) -> Tracing:
    """Return the tracing that the environment asks for: OpenTelemetry if a collector is named, else none.

    Args:
        service: the name under which this process appears in traces.

    Raises:
        ValueError: if a collector is named and OpenTelemetry is not installed.
    """
    named = [name for name in ENDPOINTS if os.environ.get(name)]
    if not named:
        return NoTracing()
    try:
        from service.telemetry.otel import OtelTracing
    except ImportError as error:
        raise ValueError(
            f"{named[0]} is set, but {error.name} is not installed: pip install 'glad-inspect[otel]', or unset it"
        ) from error
    return OtelTracing(service)


class NoTracing:
    """Tracing without a collector: it does nothing."""

    def request_span(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[RequestSpan]:
        """Return a span that records nothing."""
        return nullcontext(_NoSpan())

    def span(self, name: str) -> AbstractContextManager[None]:
        """Return a block that records nothing."""
        return nullcontext()

    def record_inspection(self, job: Job, result: Result) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _NoSpan:
    """The span of a request that is not traced."""

    traceparent = None

    def set_response(self, route: str, status: int) -> None:
        """Do nothing."""

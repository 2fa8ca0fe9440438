"""Tracing with OpenTelemetry, over OTLP and HTTP. `service.telemetry.tracing.open_tracing` imports it if a collector is
named."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.contract import Job, Result, Timings
from service.telemetry.logs import package_version

STAGES = ("queue", "decode", "encode", "denoise", "score")
CLOSE_TIMEOUT_MS = 3000

_W3C = TraceContextTextMapPropagator()


class OtelTracing:
    """Tracing that sends its spans in batches, from a thread of its own: a collector that is away costs spans, never
    images. OpenTelemetry reads the collector's address from the environment."""

    def __init__(self, service: str) -> None:
        """Open a provider whose spans carry the name `service`."""
        resource = Resource.create({"service.name": service, "service.version": package_version()})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Tracer = self._provider.get_tracer("glad")

    @contextmanager
    def request_span(self, method: str, headers: Mapping[str, str]) -> Iterator[OtelRequestSpan]:
        """Open the span of a request, within the caller's trace if `headers` carry one."""
        with self._tracer.start_as_current_span(method, _W3C.extract(headers), SpanKind.SERVER) as span:
            yield OtelRequestSpan(span, method)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Open a span within the current one."""
        with self._tracer.start_as_current_span(name):
            yield

    def record_inspection(self, job: Job, result: Result) -> None:
        """Record the inspection's span, within the request's trace, and one span for each of its stages.

        The engine interleaves the steps of many images, so the stages are drawn end to end after the inspection has
        ended: their durations are exact, their places in time are not. A job without a trace gets no span.
        """
        if job.traceparent is None:
            return
        ended = time.time_ns()
        began = ended - _total_ns(job, result, ended)
        parent = _W3C.extract({"traceparent": job.traceparent})
        span = self._tracer.start_span("inspection", parent, SpanKind.CONSUMER, _attributes(result), start_time=began)
        if result.error is not None:
            span.set_status(StatusCode.ERROR, result.error.code)
        if result.timings_ms is not None:
            self._draw_stages(set_span_in_context(span), result.timings_ms, began)
        span.end(ended)

    def close(self) -> None:
        """Send the spans that are left, for at most `CLOSE_TIMEOUT_MS`."""
        self._provider.force_flush(CLOSE_TIMEOUT_MS)
        self._provider.shutdown()

    def _draw_stages(self, parent: Context, timings: Timings, began: int) -> None:
        at = began
        for stage in STAGES:
            span = self._tracer.start_span(stage, parent, start_time=at)
            at += round(getattr(timings, stage) * 1e6)
            span.end(at)


class OtelRequestSpan:
    """The span of one request while it lasts."""

    def __init__(self, span: Span, method: str) -> None:
        self._span, self._method = span, method

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that a job of this request carries."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(self._span))
        return carrier.get("traceparent")

    def set_response(self, route: str, status: int) -> None:
        """Name the span by the path's template, and record the status of the answer."""
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


def _total_ns(job: Job, result: Result, now_ns: int) -> int:
    """Return the nanoseconds from acceptance to the end: measured, or by the clocks of two machines if the inspection
    ended before it was measured."""
    if result.timings_ms is not None:
        return round(result.timings_ms.total * 1e6)
    return max(0, now_ns - round(job.accepted_at.timestamp() * 1e9))


def _attributes(result: Result) -> dict[str, str | float]:
    attributes: dict[str, str | float | None] = {
        "glad.inspection_id": result.id,
        "glad.product": result.product,
        "glad.bundle_version": result.bundle.version if result.bundle else None,
        "glad.station": result.station,
        "glad.state": result.state.value,
        "glad.verdict": result.verdict.value if result.verdict else None,
        "glad.score": result.score,
    }
    return {name: value for name, value in attributes.items() if value is not None}

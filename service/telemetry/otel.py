"""Spans to an OpenTelemetry collector, over OTLP and HTTP. Imported only where one is named: see
service.telemetry.tracing."""

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
from service.telemetry.tracing import RequestSpan, set_traceparent

STAGES = ("queue", "decode", "encode", "denoise", "score")
CLOSE_PATIENCE_MS = 3000

_W3C = TraceContextTextMapPropagator()


class OtelTracing:
    """Spans are sent in batches from a thread of their own; a collector that is away costs spans, never images."""

    def __init__(self, service: str) -> None:
        """`service`: the name under which the process appears. The collector's address is OpenTelemetry's to read."""
        resource = Resource.create({"service.name": service, "service.version": package_version()})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Tracer = self._provider.get_tracer("glad")

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
        """The span of a request, current while it lasts, with its context ready for a job."""
        with self._tracer.start_as_current_span(method, _W3C.extract(headers), SpanKind.SERVER) as span:
            set_traceparent(_traceparent_of(span))
            try:
                yield _Request(span, method)
            finally:
                set_traceparent(None)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A part of what is current."""
        with self._tracer.start_as_current_span(name):
            yield

    def inspected(self, job: Job, result: Result) -> None:
        """The inspection's span, in the request's trace. It is drawn when it has ended: the engine interleaves images,
        so stages are laid end to end; their durations are exact, their places are not."""
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
        """Sends what is left, for a few seconds at most."""
        self._provider.force_flush(CLOSE_PATIENCE_MS)
        self._provider.shutdown()

    def _draw_stages(self, parent: Context, timings: Timings, began: int) -> None:
        at = began
        for stage in STAGES:
            span = self._tracer.start_span(stage, parent, start_time=at)
            at += round(getattr(timings, stage) * 1e6)
            span.end(at)


class _Request:
    def __init__(self, span: Span, method: str) -> None:
        self._span, self._method = span, method

    def answered(self, route: str, status: int) -> None:
        """Names the span by its route."""
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


def _traceparent_of(span: Span) -> str | None:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent")


def _total_ns(job: Job, result: Result, now_ns: int) -> int:
    """From acceptance to the end: as measured, or by two machines' clocks where the inspection did not come so far."""
    if result.timings_ms is not None:
        return round(result.timings_ms.total * 1e6)
    return max(0, now_ns - round(job.accepted_at.timestamp() * 1e9))


def _attributes(result: Result) -> dict[str, str | float]:
    told: dict[str, str | float | None] = {
        "glad.inspection_id": result.id,
        "glad.product": result.product,
        "glad.bundle_version": result.bundle.version if result.bundle else None,
        "glad.station": result.station,
        "glad.state": result.state.value,
        "glad.verdict": result.verdict.value if result.verdict else None,
        "glad.scoring": result.score,
    }
    return {name: value for name, value in told.items() if value is not None}

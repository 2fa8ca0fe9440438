"""Which tracing a process uses: OpenTelemetry where a collector is named, else none."""

from __future__ import annotations

import os

from service.telemetry.tracing import ENDPOINTS, NoTracing, Tracing


def open_tracing(service: str) -> Tracing:
    """As the environment says. ValueError if a collector is named and OpenTelemetry is not installed."""
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

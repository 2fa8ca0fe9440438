"""Logs, one JSON object a line, and what says which version runs. Metrics are in service.metrics, traces in
service.telemetry.tracing."""

from __future__ import annotations

import logging
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Gauge

from service.settings import Settings

_KEY_SECRET = re.compile(r"(glad_[0-9a-f]{12})_[0-9a-f]{8,}")
_WEBHOOK_SECRET = re.compile(r"(whsec_)[A-Za-z0-9+/=]+")
_URL_PASSWORD = re.compile(r"(://[^\s/@:\"]*:)[^\s/@\"]+@")


def build_info(registry: CollectorRegistry) -> None:
    """Adds `glad_build_info`."""
    Gauge("glad_build_info", "1; the labels say what runs", ["version"], registry=registry).labels(
        package_version()
    ).set(1)


def package_version() -> str:
    """The installed version of the distribution; `0+unknown` when run from a bare checkout."""
    try:
        return version("glad-inspect")
    except PackageNotFoundError:
        return "0+unknown"


class _JsonLines(logging.Handler):
    """Writes to what stderr is now."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def hide_secrets(_logger: Any, _method: str, line: Any) -> str:
    """A finished log line without the secrets of API keys and webhooks and without passwords of URLs."""
    without_keys = _WEBHOOK_SECRET.sub(r"\1***", _KEY_SECRET.sub(r"\1_***", str(line)))
    return _URL_PASSWORD.sub(r"\1***@", without_keys)


def configure_logging(settings: Settings) -> None:
    """One JSON object per line on stderr, for this project's events and for libraries' log records alike."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _JsonLines()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
                hide_secrets,
            ],
        )
    )
    root = logging.getLogger()
    # Of handlers only our own is replaced: a second application in one process adds no second line.
    root.handlers = [other for other in root.handlers if not isinstance(other, _JsonLines)] + [handler]
    root.setLevel(settings.log_level.upper())
    # One line per request is what `inspection accepted` says already.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").handlers = []
    logging.getLogger("python_multipart").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)

"""Logs: one JSON object a line on stderr, without secrets. And the version that logs, traces and metrics name."""

from __future__ import annotations

import logging
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog

from service.settings import Settings

_KEY_SECRET = re.compile(r"(glad_[0-9a-f]{12})_[0-9a-f]{8,}")
_WEBHOOK_SECRET = re.compile(r"(whsec_)[A-Za-z0-9+/=]+")
_URL_PASSWORD = re.compile(r"(://[^\s/@:\"]*:)[^\s/@\"]+@")


def package_version() -> str:
    """Return the installed version of the distribution; `0+unknown` when run from a bare checkout."""
    try:
        return version("glad-inspect")
    except PackageNotFoundError:
        return "0+unknown"


class _JsonLines(logging.Handler):
    """Writes each record to the stderr of that moment, which a test or a supervisor may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def hide_secrets(_logger: Any, _method: str, line: Any) -> str:
    """Return a finished log line without the secrets of API keys and webhooks, and without passwords in URLs."""
    without_keys = _WEBHOOK_SECRET.sub(r"\1***", _KEY_SECRET.sub(r"\1_***", str(line)))
    return _URL_PASSWORD.sub(r"\1***@", without_keys)


def configure_logging(settings: Settings) -> None:
    """Write this project's events and the log records of libraries as one JSON object a line on stderr."""
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
    # Only a handler of ours is replaced: a second application in the same process does not write every line twice.
    root.handlers = [other for other in root.handlers if not isinstance(other, _JsonLines)] + [handler]
    root.setLevel(settings.log_level.upper())
    # No line per request: `inspection accepted` says more.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").handlers = []
    logging.getLogger("python_multipart").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)

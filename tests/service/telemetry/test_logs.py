"""Logs are one JSON object a line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.settings import Settings
from service.telemetry.logs import configure_logging


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Logging is one per process: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("restored_logging")
def test_every_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # a second start in one process adds no second line
        configure_logging(Settings(log_level="info"))
    structlog.get_logger("service.x").info("inspection accepted", inspection_id="1", serial="ü\n2")
    structlog.get_logger("service.x").debug("not shown")
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger("service.x").exception("unexpected")
    logging.getLogger("uvicorn.error").warning("from a library: %s", "x")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("inspection accepted", "info"),
        ("unexpected", "error"),
        ("from a library: x", "warning"),
    ]
    assert (lines[0]["inspection_id"], lines[0]["serial"], lines[0]["logger"]) == ("1", "ü\n2", "service.x")
    assert "ValueError: odd" in lines[1]["exception"]

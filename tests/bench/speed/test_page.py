"""The page at a line is measured in a real browser: what must come first comes first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.timeout(600)  # a real service and a real browser


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium here: apt-get install chromium")
def test_a_verdict_is_on_screen_after_its_event_and_before_its_picture(tmp_path: Path) -> None:
    file = tmp_path / "page.json"
    done = CliRunner().invoke(app, ["page", "bracket", "--images", "2", "--openings", "1", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "verdict on screen, after its event" in done.output
    found = json.loads(file.read_text())["figures"]
    assert len(found["verdicts"]) == 2
    assert found["first_paint_ms"][0] > 0
    for one in found["verdicts"]:
        assert 0 < one["after_event_ms"] <= one["picture_ms"]
        assert one["after_event_ms"] < one["after_end_ms"]  # the event is on its way first

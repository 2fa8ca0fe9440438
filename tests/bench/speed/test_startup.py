"""Starts of a real `glad serve` are measured from outside: what must come first comes first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app

pytestmark = pytest.mark.timeout(600)  # real processes: slow where other work shares the machine


def test_a_start_is_measured_up_to_the_verdict_after_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "startup.json"
    done = CliRunner().invoke(app, ["startup", "--rounds", "1", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "first verdict" in done.output
    (found,) = json.loads(file.read_text())["figures"].values()
    (start,) = found["starts"]
    assert found["median"] == start
    assert 0 < start["api_s"] <= start["first_verdict_s"]
    assert start["one_image_s"] > 0
    assert start["after_kill_s"] > 0


def test_an_interpreter_without_the_project_is_told(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["startup", "--rounds", "1", "--against", str(tmp_path / "python")])
    assert done.exit_code == 1
    assert str(tmp_path / "python") in done.output
    assert "an interpreter" in done.output

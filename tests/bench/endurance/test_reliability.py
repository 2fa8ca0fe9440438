"""The long run in small: the command kills, counts, and says what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from tests.support.shifted_clock import LIBRARY

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def test_workers_without_the_bundle_fail_no_image_beside_one_that_has_it(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    words = ["reliability", "--count", "30", "--cameras", "2", "--workers", "1", "--kill-every", "600"]
    done = CliRunner().invoke(cli.app, [*words, "--redis-kills", "0", "--bad-stores", "--json", str(file)])
    assert done.exit_code == 0, done.output
    figures = json.loads(file.read_text())["figures"]
    assert figures["trial"]["bad_stores"] == ["empty", "stale", "absent"]
    report = figures["report"]
    assert (report["accepted"], report["states"], report["left_in_queue"]) == (30, {"done": 30}, 0)


def test_forty_inspections_end_once_though_a_worker_and_redis_are_killed(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    words = ["reliability", "--count", "40", "--cameras", "3", "--workers", "1", "--kill-every", "4"]
    words += ["--clock-skew", "2"] if LIBRARY else []
    done = CliRunner().invoke(cli.app, [*words, "--redis-kills", "1", "--json", str(file)])
    assert done.exit_code == 0, done.output
    report = json.loads(file.read_text())["figures"]["report"]
    assert (report["accepted"], report["ended"]) == (40, 40)
    assert (report["lost"], report["double"], report["left_in_queue"]) == (0, 0, 0)
    assert report["by_older_image"] == 0
    assert report["redis_kills"] == 1
    assert report["widest_score_spread"] < 1e-4

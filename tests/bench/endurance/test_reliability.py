"""The long run in small: the command kills, counts, and says what it found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.endurance.reliability import FailedInspection
from bench.endurance.trial_plant import DISTURBANCES
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


def test_each_other_failure_happens_in_turns_with_kills_and_all_inspections_end_once(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    words = ["reliability", "--count", "100", "--cameras", "3", "--workers", "2", "--kill-every", "0.5", "--lease", "1"]
    done = CliRunner().invoke(cli.app, [*words, "--redis-kills", "0", "--all-failures", "--json", str(file)])
    assert done.exit_code == 0, done.output
    figures = json.loads(file.read_text())["figures"]
    report = figures["report"]
    assert figures["trial"]["disturbances"] == list(DISTURBANCES)
    assert sum(report["disturbances"].values()) >= 3
    assert (report["accepted"], report["ended"], report["left_in_queue"]) == (100, 100, 0)
    assert {one["code"] for one in report["failures"]} <= {"worker_died"}


def test_only_an_image_given_up_after_three_deaths_alone_is_no_failure_of_ours() -> None:
    given_up = FailedInspection("id", "worker_died", "…", attempts=4, deaths_alone=3)
    assert given_up.is_expected
    assert not replace(given_up, deaths_alone=2).is_expected
    assert not replace(given_up, code="bundle_unavailable").is_expected


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

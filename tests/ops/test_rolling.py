"""The compose file's commands as plain processes, restarted one after the other while cameras post."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from bench.endurance.commands import rolling_rows
from bench.endurance.rolling import run_rolling
from bench.endurance.rolling_report import NEWER, OLDER, RollingReport, RollingTrial
from tests.support.manifests import tool

ROLLED = ("worker-cpu-1", "api-1", "api-2", "redis-1", "prometheus-1")
"""The second worker has the first one's command and environment: `glad bench rolling` restarts both, three times."""

pytestmark = pytest.mark.timeout(900)  # three workers start from nothing: seconds each, or minutes where others compute


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> RollingReport:
    """What came of one round."""
    for name in ("docker-compose", "redis-server", "redis-cli", "prometheus"):
        tool(name)
    assert request.config.cache is not None
    compiled = request.config.cache.mkdir("compiled")
    trial = RollingTrial(inspections=20, cameras=4, rounds=1, rolled=ROLLED, between=3, scrape_every="1s")
    return run_rolling(trial, tmp_path_factory.mktemp("project"), print, compiled)


def test_everything_accepted_ends_once_with_its_verdict(report: RollingReport) -> None:
    assert report.accepted >= 20
    assert report.states == {"done": report.accepted}
    assert (report.lost, report.double, report.left_in_queue, report.without_verdict) == (0, 0, 0, 0)
    assert report.suspects == 0, "a proper stop blames nobody"
    assert report.widest_score_spread < 1e-4


def test_each_image_is_inspected_by_the_bundle_that_was_active_when_it_was_accepted(report: RollingReport) -> None:
    assert (report.repinned, report.unreadable) == (0, 0)
    quick = {name: count for name, count in report.bundles.items() if name.startswith("quick/")}
    assert set(quick) == {"quick/1", "quick/2"}, "a version was activated and rolled back meanwhile"


def test_nobody_is_refused_but_by_who_is_away(report: RollingReport) -> None:
    assert report.unexpected == ()
    assert {"200", "202"} <= set(report.answers) <= {"200", "202", "503", "refused or cut"}


def test_who_waits_at_an_api_that_stops_is_answered(report: RollingReport) -> None:
    assert len(report.waited) == 2
    assert set(report.waited) <= {200, 202}


def test_a_reader_of_the_events_misses_none_and_sees_none_twice(report: RollingReport) -> None:
    assert (report.events_read, report.events_missed, report.events_twice) == (report.accepted, 0, 0)


def test_each_process_ends_by_itself_within_its_grace_period(report: RollingReport) -> None:
    assert [roll.container for roll in report.rolls] == list(ROLLED)
    assert {roll.how for roll in report.rolls} == {"restart", "recreate"}
    assert [roll for roll in report.rolls if not roll.proper] == []
    assert set(report.down.values()) == {0}


def test_prometheus_sees_every_target_again_and_never_a_plant_without_a_worker(report: RollingReport) -> None:
    assert report.targets_up == report.targets == 5
    assert report.fewest_workers_seen >= 1
    assert not [alert for alert in report.alerts if alert.startswith("GladNoWorker")]


def test_the_run_is_sound_and_one_in_which_anything_went_wrong_is_not(report: RollingReport) -> None:
    assert report.sound
    killed = replace(report.rolls[0], status=-9)
    late = replace(report.rolls[0], stop_s=report.rolls[0].grace_s)
    wrongs: tuple[dict[str, Any], ...] = (
        {"lost": 1},
        {"double": 1},
        {"suspects": 1},
        {"ended": report.ended - 1},
        {"events_twice": 1},
        {"repinned": 1},
        {"unreadable": 1},
        {"unexpected": ("500",)},
        {"waited": (503,)},
        {"rolls": (killed,)},
        {"rolls": (late,)},
        {"down": {"redis-1": -9}},
        {"alerts": {"GladNoWorker pending": 1}},
        {"targets_up": 4},
    )
    for wrong in wrongs:
        assert not replace(report, **wrong).sound, wrong


def test_an_older_version_may_end_by_the_signal_and_the_version_of_now_may_not(report: RollingReport) -> None:
    by_signal = replace(report.rolls[1], status=-signal.SIGTERM)
    assert not replace(report, rolls=(by_signal,)).sound
    assert replace(report, rolls=(replace(by_signal, how=NEWER),)).sound
    downgraded = replace(report, rolls=(replace(report.rolls[1], how=OLDER),))
    assert replace(downgraded, down={**report.down, "api-1": -signal.SIGTERM}).sound
    assert not replace(downgraded, down={**report.down, "redis-1": -signal.SIGTERM}).sound


def test_two_versions_are_rolled_to_and_back_workers_first_and_last() -> None:
    moves = list(RollingTrial(rounds=1, older="abc1234").moves)
    assert moves == [
        ("worker-cpu-1", "newer"),
        ("worker-cpu-2", "newer"),
        ("api-1", "newer"),
        ("api-2", "newer"),
        ("quick", "activate"),
        ("api-2", "older"),
        ("api-1", "older"),
        ("worker-cpu-2", "older"),
        ("worker-cpu-1", "older"),
        ("quick", "rollback"),
    ]


def test_the_table_tells_it(report: RollingReport) -> None:
    told = dict(rolling_rows(report))
    assert told["lost, double, left in the queue"] == "0, 0, 0"
    assert told["targets up at the end"] == "5 of 5"
    assert "status {0}" in told["redis-1, 1 times"]

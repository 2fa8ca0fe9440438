"""The soak in small: it samples every process, judges every series, and misses no inspection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.endurance.soak import SoakPlan, report
from bench.endurance.soak_load import SoakTally
from bench.support.process_watch import ProcessSample, RedisSample

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def test_a_minute_of_work_is_sampled_and_judged(tmp_path: Path) -> None:
    file, picture = tmp_path / "soak.json", tmp_path / "soak.png"
    words = ["soak", "--minutes", "0.2", "--rate", "1", "--every", "0.3", "--picture", str(picture)]
    done = CliRunner().invoke(cli.app, [*words, "--json", str(file)])
    figures = json.loads(file.read_text())["figures"]  # so short a run may call warm-up growth: the status is not asked
    assert figures["lost"] == 0, done.output
    assert figures["accepted"] > 0
    judged = {(one["process"], one["what"]) for one in figures["judged"]}
    processes = ("supervisor", "API", "worker", "outbox", "Redis")
    assert judged == {
        ("Redis, by INFO", "memory, MiB"),
        *((process, what) for process in processes for what in ("memory, MiB", "open files", "threads")),
    }
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_process_that_leaks_files_makes_the_soak_fail() -> None:
    at = [float(second) for second in range(0, 3600, 10)]
    redis = [RedisSample(second, 5.0, 10, 10) for second in at]
    sound = [ProcessSample("API", second, 80.0, 20, 5, 1.0) for second in at]
    leaking = [ProcessSample("API", second, 80.0, 20 + int(second // 300), 5, 1.0) for second in at]
    assert report(SoakPlan(), sound, redis, SoakTally(), 3600).sound
    assert not report(SoakPlan(), leaking, redis, SoakTally(), 3600).sound


def test_what_was_accepted_and_never_ended_makes_the_soak_fail() -> None:
    at = [float(second) for second in range(0, 3600, 10)]
    redis = [RedisSample(second, 5.0, 10, 10) for second in at]
    assert not report(SoakPlan(), [], redis, SoakTally(accepted={"a"}), 3600).sound

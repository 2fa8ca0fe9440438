"""The queue model against closed forms: a single server's mean wait, conservation of images, limits of admission."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.queue_model import QueueFigures, QueueScenario, simulate
from bench.speed.step_table import (
    ComparisonCounts,
    StepTimes,
    least_workers,
    mean_device_s,
    read_comparisons,
    read_steps,
)

RESULTS = Path(__file__).resolve().parents[3] / "bench" / "results"
STEPS, EVALUATION = RESULTS / "2026-11-27-steps-bracket-cpu.json", RESULTS / "2026-11-24-evaluate-bracket.json"
SIX = ComparisonCounts((6,), (6,))


@pytest.fixture(scope="module")
def times() -> StepTimes:
    return read_steps(STEPS)


def alone(times: StepTimes, use: float) -> QueueScenario:
    """One worker of one lane that decodes nothing ahead: a single server."""
    service_s = times.device_s(6)
    return QueueScenario(1, service_s / use, 1, 1, seconds=3000, runs=10, poisson=True, decode_buffer=0)


@pytest.mark.parametrize("use", [0.3, 0.6])
def test_the_mean_wait_of_a_single_server_is_that_of_pollaczek_and_khinchine(times: StepTimes, use: float) -> None:
    # M/D/1: Poisson arrivals, a fixed service time s, one server: the mean wait is use * s / (2 * (1 - use)).
    at_once = times.model_copy(update={"decode_s": 0.0, "draw_s": 0.0})
    found = simulate(at_once, SIX, alone(times, use))
    service_s = times.device_s(6)
    assert abs(found.mean_s - (service_s + use * service_s / (2 * (1 - use)))) < found.mean_error_s
    assert found.utilisation == pytest.approx(use, rel=0.05)


def test_an_image_alone_takes_what_the_step_times_say(times: StepTimes) -> None:
    found = simulate(times, SIX, QueueScenario(1, 60, 1, 4, runs=1))
    assert found.p50_s == found.p99_s == pytest.approx(times.alone_s(6))


def scenario(**changes: Any) -> QueueScenario:
    return replace(QueueScenario(20, 5, 5, 4, seconds=300, runs=2, burst_share=0.1), **changes)


def balance(found: QueueFigures) -> int:
    return found.posted - found.refused - found.done - found.in_flight


def test_what_is_accepted_is_done_or_in_flight(times: StepTimes) -> None:
    free, bounded = simulate(times, SIX, scenario()), simulate(times, SIX, scenario(max_backlog=12))
    assert balance(free) == balance(bounded) == 0
    assert free.refused == 0 < bounded.refused
    assert bounded.in_flight <= 12 * bounded.scenario.runs
    assert bounded.p99_s < free.p99_s


def test_a_limit_of_the_expected_wait_refuses_images(times: StepTimes) -> None:
    found = simulate(times, SIX, scenario(max_wait_s=5.0))
    assert 0 < found.refused < found.posted
    assert balance(found) == 0


def test_the_same_seed_gives_the_same_figures_and_another_one_others(times: StepTimes) -> None:
    assert simulate(times, SIX, scenario()) == simulate(times, SIX, scenario())
    assert simulate(times, SIX, scenario()).mean_s != simulate(times, SIX, scenario(seed=7)).mean_s


def test_more_workers_never_make_images_wait_longer(times: StepTimes) -> None:
    means = [simulate(times, SIX, scenario(workers=count)).mean_s for count in (8, 10, 12)]
    assert means == sorted(means, reverse=True)


def test_the_arithmetic_by_hand(times: StepTimes) -> None:
    counts = ComparisonCounts(good=(6, 6), defect=(2, 4))
    assert counts.mean(0.5) == 4.5
    assert mean_device_s(times, counts, 0.5) == times.device_s(4.5)
    # 3.5 images/s of 2 s are 7 devices, and at a use of 0.8 they are 8.75.
    assert (least_workers(3.5, 2.0), least_workers(3.5, 2.0, use=0.8), least_workers(0.1, 2.0)) == (7, 9, 1)


def test_an_evaluation_says_how_often_images_compare(times: StepTimes, tmp_path: Path) -> None:
    # bracket/3 walks 451, 401 ... 1; t_min is 250: without a difference an image compares down to step 201, six times.
    assert ComparisonCounts.most(times.settings) == SIX
    counts = read_comparisons(EVALUATION, times.settings)
    assert (max(counts.good), min(counts.defect)) == (6, 2)
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="give what `glad evaluate --json` wrote"):
        read_comparisons(wrong, times.settings)


def test_an_image_that_did_not_walk_compared_at_no_step(times: StepTimes, tmp_path: Path) -> None:
    rows = [{"defect": "good", "denoising_step": 0}, {"defect": "dent", "denoising_step": times.settings.grid[0]}]
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({"rows": rows}))
    counts = read_comparisons(file, times.settings)
    assert (counts.good, counts.defect) == ((0,), (1,))


@pytest.mark.parametrize("name", ["", "-again", "-half"])
def test_the_model_beside_a_recorded_service_is_as_the_page_says(times: StepTimes, name: str) -> None:
    recorded = json.loads((RESULTS / f"2026-11-27-plant-check{name}-cpu.json").read_text(encoding="utf-8"))["figures"]
    seconds, images = recorded["plan"]["seconds"], recorded["figures"]["images"]
    counts = read_comparisons(EVALUATION, times.settings)
    plan = QueueScenario(
        1, seconds / images, 1, 4, seconds=seconds, warm_up_s=0, runs=200, poisson=True, defect_share=180 / 280
    )
    found, slowed = simulate(times, counts, plan), simulate(times.slowed(1.2), counts, plan)
    assert 1.05 < recorded["figures"]["real_mean_s"] / found.mean_s < 1.8
    assert 1.3 < recorded["figures"]["real"]["p95_s"] / found.p95_s < 1.75
    # With step times a fifth longer the recorded mean lies where 95 of 100 runs of the model have theirs.
    lowest, highest = np.percentile(slowed.run_means_s, (2.5, 97.5))
    assert lowest < recorded["figures"]["real_mean_s"] < highest


def test_the_command_tells_the_arithmetic_and_each_scenario(tmp_path: Path) -> None:
    words = ["queue", STEPS, "--cameras", "5,10", "--workers", "2,3", "--seconds", 100, "--warm-up", 0, "--runs", 2]
    files = ["--json", tmp_path / "queue.json", "--picture", tmp_path / "queue.png"]
    done = CliRunner().invoke(cli.app, [str(word) for word in [*words, *files]])
    assert done.exit_code == 0, done.output
    # 34 ms encode, ten steps of 20 ms, six comparisons of 202 ms, 128 ms finish: 1.578 s.
    assert "0.5 images/s x 1.578 s = 0.79 devices: least number of workers 1" in done.output
    figures = json.loads((tmp_path / "queue.json").read_text(encoding="utf-8"))["figures"]["figures"]
    tried = [(one["scenario"]["cameras"], one["scenario"]["workers"]) for one in figures]
    assert tried == [(5, 2), (5, 3), (10, 2), (10, 3)]
    assert (tmp_path / "queue.png").read_bytes().startswith(b"\x89PNG")


def test_more_lanes_than_were_measured_are_refused() -> None:
    done = CliRunner().invoke(cli.app, ["queue", str(STEPS), "--lanes", "9"])
    assert done.exit_code == 1
    assert "measure with `glad bench steps --lanes 9`" in done.output

"""`glad bench steps`, `plant`, `memory`: what is measured is what the plant runs on, and told as it came out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.endurance.redis_memory import measure_redis_memory
from bench.plant.check import CheckPlan, poisson
from bench.plant.steps import read_steps
from tests.support.tiny_bundle import make_tiny_bundle

CHECKED: dict[str, Any] = {"steps": 4, "t_min": 100, "trigger": {"delta": 0.05}}
"""A toy whose lanes compare at some steps and not at others."""


def run(*words: object) -> str:
    """The command's output; it must succeed."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def evaluation(path: Path, step: int) -> Path:
    """Two good images and a defective one, all triggered at this step."""
    rows = [{"defect": kind, "denoising_step": step} for kind in ("good", "good", "hole")]
    path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    return path


@pytest.mark.timeout(600)
def test_measured_steps_carry_a_plant(tmp_path: Path, parts: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "store", **CHECKED)
    steps = tmp_path / "steps.json"
    run("steps", bundle, "--data", parts, "--device", "cpu", "--lanes", 2, "--rounds", 1, "--json", steps)
    times = read_steps(steps)
    assert (times.lanes, times.product) == (2, "toy")
    assert times.artifact_bytes > 0
    outcomes = evaluation(tmp_path / "evaluation.json", times.settings.grid[1])
    words = ["--cameras", 4, "--products", 2, "--sharing", 1, "--seconds", 60, "--nodes", 2, "--away-s", 20]
    figures, picture = tmp_path / "plant.json", tmp_path / "plant.png"
    told = run("plant", "--steps", steps, "--outcomes", outcomes, *words, "--picture", picture, "--json", figures)
    found = json.loads(figures.read_text(encoding="utf-8"))["figures"]["found"]
    assert found["accepted"] == found["done"] + found["expired"] > 0
    assert (found["unended"], found["double"]) == (0, 0)
    assert f"| accepted, refused | {found['accepted']}, 0 |" in told
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_file_that_is_no_measurement_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    wrong = tmp_path / "steps.json"
    wrong.write_text("{}", encoding="utf-8")
    outcomes = evaluation(tmp_path / "evaluation.json", 1)
    done = CliRunner().invoke(cli.app, ["plant", "--steps", str(wrong), "--outcomes", str(outcomes)])
    assert done.exit_code == 1
    assert "make one with `glad bench steps`" in done.output


def test_an_ended_inspection_takes_more_than_its_result_and_its_event() -> None:
    found = measure_redis_memory(300, lambda done, total: None)
    assert found.ended_bytes > found.result_json_bytes + found.event_bytes
    assert found.queued_bytes > found.job_json_bytes


@pytest.mark.timeout(600)
def test_the_simulation_is_held_against_a_real_service(tmp_path: Path, parts: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "store", **CHECKED)
    steps, check = tmp_path / "steps.json", tmp_path / "check.json"
    run("steps", bundle, "--data", parts, "--device", "cpu", "--lanes", 2, "--rounds", 1, "--json", steps)
    written = json.loads(steps.read_text(encoding="utf-8"))
    # As slow as a device that one image a second occupies: a toy's own pace would be hundreds of images.
    written["figures"] |= {"encode_s": 0.5, "finish_s": 0.5}
    steps.write_text(json.dumps(written), encoding="utf-8")
    told = run(
        "plant-check", bundle, "--data", parts, "--steps", steps, "--seconds", 10, "--images", 3, "--json", check
    )
    found = json.loads(check.read_text(encoding="utf-8"))["figures"]
    plan, figures = found["plan"], found["figures"]
    assert figures["images"] == len(poisson(CheckPlan(**plan))) > 0
    assert plan["lanes"] == 2
    # Whoever is alone takes encode, decode and score at least; the real toy takes milliseconds.
    assert figures["simulated_mean_s"] >= 1.0
    assert figures["real_mean_s"] > 0
    assert figures["real"]["p50_s"] <= figures["real"]["p95_s"] <= figures["real"]["p99_s"]
    real, simulated = figures["real_mean_s"], figures["simulated_mean_s"]
    assert f"| time to verdict, mean s | {real:.3f} | {simulated:.3f} | {simulated / real - 1:+.0%} |" in told


def test_arrivals_are_the_same_by_the_same_seed_and_within_the_time() -> None:
    plan = CheckPlan(seconds=50, images_per_s=2, engine="auto", lanes=1)
    assert poisson(plan) == poisson(plan) != poisson(replace(plan, seed=1))
    assert all(0 < at < 50 for at in poisson(plan))
    # 100 are expected; six standard deviations of a Poisson's 10 are 60.
    assert 40 < len(poisson(plan)) < 160
    with pytest.raises(ValueError, match="make no image: give more of either"):
        poisson(replace(plan, images_per_s=1e-6))

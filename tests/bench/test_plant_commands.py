"""`glad bench steps`, `plant`, `memory`: what is measured is what the plant runs on, and told as it came out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.plant.steps import read_steps
from bench.redis_memory import measure_redis_memory
from tests.support.tiny_bundle import make_tiny_bundle


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
    bundle = make_tiny_bundle(tmp_path / "store", steps=4, t_min=100, trigger={"delta": 0.05})
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

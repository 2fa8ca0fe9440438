"""Engines behind a real `glad serve`: the same images, the worker's own word for the engine, differences by image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.serving import Difference, ServingRun, difference, throughput
from bench.support.servers import NotServed, served
from service.contract import PinnedThresholds, Result, done_result, now
from tests.support.line import findings, make_job
from tests.support.tiny_bundle import make_tiny_bundle


def result(score: float, step: int, sha: str = "cd") -> Result:
    """An inspection whose fail threshold is 2 and whose review threshold is 1."""
    job = make_job(thresholds=PinnedThresholds(review=1.0, fail=2.0, pixel=1.0), image_sha256=sha * 32)
    return done_result(job, findings(score, denoising_step=step), started_at=now(), attempts=1)


def test_differences_are_told_image_by_image() -> None:
    reference = [result(0.5, 421), result(0.75, 421), result(2.5, 300)]
    others = [result(0.5, 421), result(1.25, 400), result(2.25, 250)]
    # Score differences 0, 1/2, 1/4; the second goes from pass to review; two steps differ.
    assert difference(others, reference) == Difference(
        verdict_flips=1,
        largest_score_difference=0.5,
        mean_score_difference=0.25,
        largest_of_fail=0.25,
        differing_steps=2,
    )


def test_results_of_other_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="of other images"):
        difference([result(0.5, 421)], [result(0.5, 421, sha="ab")])


def test_throughput_is_that_of_all_turns_together() -> None:
    none = Difference(0, 0.0, 0.0, 0.0, 0)
    runs = [
        ServingRun("torch", "torch-float32", turn, 30, seconds, {}, none) for turn, seconds in ((1, 10.0), (2, 20.0))
    ]
    runs.append(ServingRun("onnx", "onnx-cpu-float32", 1, 30, 5.0, {}, none))
    assert throughput(runs, "torch") == 60 / 30
    assert throughput(runs, "onnx") == 6


@pytest.mark.timeout(600)
def test_both_engines_serve_the_same_images_and_give_the_same_verdicts(
    exported: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "DEVICE": "cpu",
        "LANES": "2",
        "TORCH_THREADS": "1",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }.items():
        monkeypatch.setenv(f"GLAD_{name}", value)
    words = ["serving", exported, "--data", parts, "--json", tmp_path / "figures.json"]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["figures"]
    first, second = figures["runs"]
    assert [(run["wanted"], run["engine"], run["turn"], run["images"]) for run in (first, second)] == [
        ("torch", "torch-float32", 1, 5),
        ("onnx", "onnx-cpu-float32", 1, 5),
    ]
    assert first["difference"] == {**first["difference"], "verdict_flips": 0, "largest_score_difference": 0}
    assert second["difference"]["verdict_flips"] == 0
    assert 0 < second["difference"]["largest_score_difference"] < 1e-4  # float32 on another engine: near, not equal
    assert first["verdicts"] == second["verdicts"]
    assert sum(first["verdicts"].values()) == 5
    # A Redis that is in use elsewhere is not for a measurement.
    assert figures["settings"] == {"GLAD_DEVICE": "cpu", "GLAD_LANES": "2", "GLAD_TORCH_THREADS": "1"}
    assert figures["images_per_s"]["onnx"] == pytest.approx(second["images_per_s"])
    assert f"{figures['images_per_s']['onnx'] / figures['images_per_s']['torch']:.2f} x torch" in done.output


def test_an_engine_without_its_export_is_told_before_anything_is_served(tmp_path: Path, parts: Path) -> None:
    bundle = make_tiny_bundle(tmp_path)
    done = CliRunner().invoke(cli.app, ["serving", str(bundle), "--data", str(parts)])
    assert done.exit_code == 1
    assert "has no onnx export: run `glad export" in done.output


@pytest.mark.timeout(600)
def test_a_worker_that_cannot_load_the_bundle_is_told_in_its_own_words_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLAD_DEVICE", "cpu")
    bundle, scratch = make_tiny_bundle(tmp_path), tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    told = r"does not serve toy: .* has no onnx export: run `glad export"
    with pytest.raises(NotServed, match=told), served(bundle, "onnx"):
        pass
    assert list(scratch.glob("glad-bench-*")) == []
    assert not [process for process in Path("/proc").glob("[0-9]*/cmdline") if names(process, scratch)]


def names(process: Path, folder: Path) -> bool:
    """The process was given a path in this folder."""
    try:
        return str(folder).encode() in process.read_bytes()
    except OSError:
        return False

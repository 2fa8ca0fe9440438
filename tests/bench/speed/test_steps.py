"""`glad bench steps`: what a step costs, measured on a tiny bundle and read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.step_table import read_steps
from tests.support.tiny_bundle import make_tiny_bundle


def test_measured_steps_can_be_read_again(tmp_path: Path, parts: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "store", steps=4, t_min=100, trigger={"delta": 0.05})
    file = tmp_path / "steps.json"
    words = ["steps", bundle, "--data", parts, "--device", "cpu", "--lanes", 2, "--rounds", 1, "--json", file]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    times = read_steps(file)
    assert (times.lanes, times.product) == (2, "toy")
    assert times.artifact_bytes > 0
    assert times.step_s(2, 1) == times.denoise_s[1] + times.compare_s[0]
    with pytest.raises(ValueError, match="measure with `glad bench steps --lanes 3`"):
        times.step_s(3, 0)


def test_a_file_that_is_no_measurement_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    wrong = tmp_path / "steps.json"
    wrong.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="make one with `glad bench steps`"):
        read_steps(wrong)

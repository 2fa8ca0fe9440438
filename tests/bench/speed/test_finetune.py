"""`glad bench finetune` measures what it says it measures. What it times is nobody's test."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.fullsize_training import in_child


def test_two_steps_of_dino_are_the_same_with_and_without_a_stop_between_them(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    words = ["finetune", "--narrow", "--parts", "dino", "--small-side", "32", "--throughput", "none"]
    done = CliRunner().invoke(cli.app, [*words, "--json", str(file)])
    assert done.exit_code == 0, done.output
    figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
    (row,) = figures["rows"]
    assert row["resumed_exactly"] is True
    # The two layers of the MLPs of four blocks, of width 48: 2 x 48 x 192 weights, and a bias each.
    assert row["trained"] == 4 * (2 * 48 * 192 + 192 + 48)
    assert row["peak_gb"] > row["checkpoint_gb"] > 0
    assert (figures["throughput"], figures["left_out"]) == ([], [])
    assert "| dino | 0.07 |" in done.output


def test_a_measurement_that_takes_too_long_or_is_ended_by_the_system_is_told() -> None:
    with pytest.raises(TimeoutError, match="give more --minutes"):
        in_child(partial(time.sleep, 600), 0.1)
    with pytest.raises(ChildProcessError, match="for want of memory"):
        in_child(partial(os._exit, 9), 120)
    with pytest.raises(ChildProcessError, match="ZeroDivisionError"):
        in_child(partial(divmod, 1, 0), 120)

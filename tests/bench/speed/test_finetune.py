"""`glad bench finetune` measures what it says it measures. What it times is nobody's test."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from bench import cli


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

"""`glad bench pairs` says whether anomalies are made faster than a training eats them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.pairs import PairSpeeds
from tests.support.tiny_recipe import TINY_FEATURE_TOML, TINY_TOML


@pytest.mark.parametrize("content", [TINY_TOML, TINY_FEATURE_TOML], ids=["pixel", "feature"])
def test_each_kind_of_a_recipe_is_timed_beside_its_training(tmp_path: Path, parts: Path, content: str) -> None:
    recipe, figures = tmp_path / "tiny.toml", tmp_path / "pairs.json"
    recipe.write_text(content)
    words = ["pairs", recipe, "--data", parts, "--images", 2, "--count", 1, "--steps", 1, "--device", "cpu"]
    done = CliRunner().invoke(cli.app, [str(word) for word in (*words, "--eats", 100, "--json", figures)])
    assert done.exit_code == 0, done.output
    told = json.loads(figures.read_text())["figures"]
    assert list(told["ms_by_kind"]) == ["texture", "shuffle", "paste", "stroke", "spot", "warp"]  # those with a weight
    assert told["ratio"] == pytest.approx(told["pairs_per_s"] / told["eaten_per_s"])
    assert "a training that eats 100 images a second keeps" in done.output


def test_the_share_of_the_time_counts_that_pairs_are_made_once() -> None:
    # 100 pairs at 50 a second are 2 s; 400 images at 20 a second are 20 s.
    speeds = PairSpeeds(32, 100, {}, pairs_per_s=50.0, eaten_per_s=20.0, eaten=400)
    assert speeds.pairs_share == pytest.approx(0.1)
    assert speeds.ratio == pytest.approx(2.5)

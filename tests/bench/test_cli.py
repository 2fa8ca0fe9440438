"""Measurements count what they say they count. What they time is nobody's test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.fullsize import FULL, NARROW, measure_fullsize, measure_invariance, random_models
from tests.support.tiny_bundle import make_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "store", resolution=64)


def test_one_step_at_full_depth_counts_every_call() -> None:
    built = random_models(NARROW)
    cost = measure_fullsize(built, 64)
    # One encode; two decodes and two feature passes to compare, one and two to score; one UNet call.
    calls = {name: part.calls for name, part in cost.parts.items()}
    assert calls == {"encoder": 1, "unet": 1, "decoder": 3, "features": 4, "rest": 1}
    assert cost.seconds == pytest.approx(sum(part.seconds for part in cost.parts.values()))


def test_a_lane_is_the_same_in_every_batch_but_for_rounding() -> None:
    fixed, free = measure_invariance(random_models(NARROW), 64)
    assert (fixed.calls_compared, free.calls_compared) == (3 + 6, 3 + 6)
    # Not to the bit, even with one call size: the lane's row in the call moves, and kernels treat rows differently.
    for varied in (fixed, free):
        assert varied.latents < 1e-5
        assert varied.scores < 1e-4


def test_the_full_width_is_the_published_one() -> None:
    assert (FULL.unet, FULL.prompt, FULL.autoencoder) == ((320, 640, 1280, 1280), 768, (128, 256, 512, 512))
    assert FULL.features == 768


def test_full_size_figures_are_shown_and_kept(tmp_path: Path) -> None:
    words = ["fullsize", "--narrow", "--side", "64", "--invariance", "--json", str(tmp_path / "figures.json")]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["figures"]
    assert figures["costs"][0]["side"] == 64
    assert [one["calls"] for one in figures["invariance"]] == ["all padded to 4", "as many as there are"]
    assert set(figures["parameters"]) == {"autoencoder", "unet", "features"}
    assert "| 64 | unet | 1 |" in done.output

"""Measurements count what they say they count. What they time is nobody's test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.autoencoder import measure_round_trips
from bench.pro import measure_pro, pro_by_loop
from bench.settings_choice import beside_the_best
from bench.speed.fullsize import FULL, NARROW, measure_fullsize, measure_invariance, random_models
from glad.image_codec import to_model
from glad.images.placement import fit
from model_store.bundle import open_bundle
from model_store.engines.torch import load_models
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.calibration.outcomes import Candidate
from training.calibration.search import TIE
from training.data.dataset import read_pixels


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "store", resolution=64)


def test_a_round_trip_is_judged_on_the_content_of_good_images_and_inside_defects(bundle: Path, tmp_path: Path) -> None:
    data = draw_parts(tmp_path / "ramp")
    good, hole = measure_round_trips(bundle, data)
    assert [(trip.kind, trip.images) for trip in (good, hole)] == [("good", 3), ("hole", 2)]
    # By hand: 32 x 24 becomes 64 x 48 in rows 8 to 56; the hole's rows 6 to 14 and columns 8 to 20 double likewise.
    autoencoder, errors = load_models(open_bundle(bundle)).autoencoder, []
    for number in range(2):
        image = torch.from_numpy(to_model(fit(read_pixels(data / f"test/hole/{number:03}.png"), 64).pixels))[None]
        rebuilt = autoencoder.decode(autoencoder.encode(image)).clamp(-1, 1)
        errors.append(float((rebuilt - image).abs()[0, :, 20:36, 16:40].mean()))
    assert hole.error == pytest.approx(sum(errors) / 2, rel=1e-5)


def test_bundles_are_compared_side_by_side_and_the_figures_kept(bundle: Path, tmp_path: Path) -> None:
    data = draw_parts(tmp_path / "ramp")
    words = ["autoencoder", bundle, "--data", data, "--json", tmp_path / "deep" / "figures.json"]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "deep" / "figures.json").read_text(encoding="utf-8"))
    (trips,) = found["figures"].values()
    assert f"| good | {trips[0]['error']:.4f} |" in done.output
    assert {"command", "at", "machine"} <= set(found)


def test_the_loop_that_pro_is_timed_against_measures_the_same() -> None:
    found = measure_pro(4, 64, 4, 1000, lambda done, total: None)
    assert found.pro == found.ours_on_loop_maps == pytest.approx(found.loop_pro, abs=2e-3)
    assert 0.5 < found.pro < 0.99  # neither trivial end


def test_the_loop_by_hand() -> None:
    # Thresholds 0, 1, 2. At 2: no good pixel, half of the region; at 1: 1 of 2 good pixels, all of it. From rate 0 to
    # 0.3 the overlap rises from 1/2 by 1 per rate: (0.5 + 0.8) / 2.
    values, truth = np.array([[2, 1, 1, 0]], np.float32), np.array([[True, True, False, False]])
    assert pro_by_loop([values], [truth], 3, lambda done, total: None) == pytest.approx(0.65)


def test_pro_is_timed_by_parts_and_as_a_ratio(tmp_path: Path) -> None:
    words = [
        "pro",
        "--maps",
        "3",
        "--side",
        "32",
        "--loop-maps",
        "2",
        "--thresholds",
        "5",
        "--json",
        tmp_path / "f.json",
    ]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["figures"]
    assert figures["total_s"] == pytest.approx(figures["rank_s"] + figures["pro_s"] + figures["interval_s"])
    assert figures["ratio"] == pytest.approx(figures["loop_s"] / 2 / (figures["total_s"] / 3))
    assert "| 3 maps of 32² | seconds |" in done.output


def test_too_few_maps_for_the_loop_are_refused() -> None:
    with pytest.raises(ValueError, match="3 maps, 4 of them for the loop"):
        measure_pro(3, 32, 4, 5, lambda done, total: None)


def test_the_best_by_the_labelled_images_themselves_is_beside_what_was_chosen_without_them(
    bundle: Path, tmp_path: Path
) -> None:
    data = draw_parts(tmp_path / "ramp")
    tried = [Candidate(start, t_min, delta) for start in (300, 500) for t_min, delta in ((0, 0.0), (200, 0.05))]
    found = beside_the_best(bundle, tried, tried[1], data, count=2, progress=lambda *_: None, workers=1)
    assert found.images == 4
    assert found.chosen.candidate == Candidate(300, 200, 0.05)
    assert found.own.candidate == Candidate(500, 250, 0.3)  # the tiny bundle's
    assert len(found.tried) == 5
    assert found.best.merit >= max(outcome.merit for outcome in found.tried) - TIE


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

"""`glad bench stages`: every stage is counted once, and together they are the time of the image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.stages import STAGES, measure_stages
from bench.support.command_line import some_images
from glad.image_codec import decode_image
from model_store.manifest import Verdict
from tests.support.bundles import new_version
from tests.support.tiny_bundle import make_tiny_bundle, tiny_calibration
from training.progress import silent


def test_the_stages_of_an_image_are_told_by_verdict_and_drawn(tmp_path: Path, parts: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "store", steps=4, t_min=100, trigger={"delta": 0.05})
    figures, plot = tmp_path / "stages.json", tmp_path / "stages.png"
    words = ["stages", bundle, "--data", parts, "--device", "cpu", "--images", 3, "--rounds", 1]
    done = CliRunner().invoke(cli.app, [str(word) for word in (*words, "--json", figures, "--plot", plot)])
    assert done.exit_code == 0, done.output
    assert "| denoiser |" in done.output
    told = json.loads(figures.read_text())["figures"]
    assert len(told["images"]) == 3
    assert all(set(image["seconds"]) == set(STAGES) for image in told["images"])
    assert told["median_ms"]["all"]["denoiser"] > 0
    assert decode_image(plot.read_bytes()).pixels.shape[1] > 500


@pytest.mark.parametrize(("fail", "verdict"), [(1e9, Verdict.PASS), (2e-9, Verdict.FAIL)])
def test_of_an_image_that_passes_no_picture_is_decoded(
    exported_features: Path, parts: Path, tmp_path: Path, fail: float, verdict: Verdict
) -> None:
    limits = tiny_calibration(1e9 if verdict is Verdict.PASS else 1e-9, fail, 1.0)
    bundle = new_version(exported_features, tmp_path / "part" / "9", calibration=limits)
    files = [path.read_bytes() for path in some_images(parts, 2)]
    found = measure_stages(
        bundle.path, files, device="cpu", engine="torch", rounds=1, progress=lambda done, total: silent("", done, total)
    )
    assert {image.verdict for image in found.images} == {verdict}
    decoded = [image.seconds["decoder"] for image in found.images]
    assert all(seconds == 0 for seconds in decoded) is (verdict is Verdict.PASS)
    for image in found.images:
        assert image.seconds["encoder"] > 0
        assert image.seconds["denoiser"] > 0 if image.walked else image.seconds["denoiser"] == 0

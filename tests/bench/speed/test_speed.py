"""`glad bench speed`: a row for each bundle and engine, timed and ranked on the same images."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from bench import cli
from bench.speed.speed import SpeedPlan, measure_speed, published_steps
from glad.image_codec import decode_image
from glad.settings.method import MethodSettings, TriggerSettings
from tests.support.tiny_bundle import make_tiny_bundle
from training.data.dataset import test_images as labelled_images
from training.evaluation.rows import GOOD
from training.progress import silent


def test_bundles_engines_and_the_authors_steps_are_rows(tmp_path: Path, exported_features: Path, parts: Path) -> None:
    pixel = make_tiny_bundle(tmp_path / "store", steps=4, t_min=100, trigger={"delta": 0.05})
    figures, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    words = ["speed", "--data", parts, "--bundle", exported_features, "--bundle", pixel, "--no-yardstick"]
    done = CliRunner().invoke(cli.app, [str(word) for word in (*words, "--json", figures, "--plot", plot)])
    assert done.exit_code == 0, done.output
    rows = json.loads(figures.read_text())["figures"]["rows"]
    assert [(row["name"], row["engine"]) for row in rows] == [
        ("part 1", "torch-float32"),
        ("part 1", "onnx-cpu-float32"),
        ("toy 1", "torch-float32"),
        ("toy 1, the authors' 25 steps", "torch-float32"),
    ]
    assert rows[3]["good_ms"] > rows[2]["good_ms"]  # six times the steps
    assert abs(rows[0]["image_auroc"]["value"] - rows[1]["image_auroc"]["value"]) < 0.01
    assert decode_image(plot.read_bytes()).pixels.shape[1] > 500


def test_verdicts_of_an_engine_are_compared_with_the_first(exported_features: Path, parts: Path) -> None:
    images = labelled_images(parts)
    plan = SpeedPlan((exported_features,), ("torch", "onnx"))
    torch, onnx = measure_speed(parts, images, plan, silent)
    assert torch.flips(onnx) == 0
    assert torch.flips(torch) == 0
    assert len(torch.scores) == len(images)
    assert max(abs(one - other) for one, other in zip(torch.scores, onnx.scores, strict=True)) < 1e-3
    ranked = [score for score, image in zip(torch.scores, images, strict=True) if image.defect == GOOD]
    assert len(ranked) > 0


def test_the_authors_way_has_their_number_of_steps() -> None:
    settings = MethodSettings(steps=4, start=500, trigger=TriggerSettings(delta=0.1))
    assert published_steps(settings).steps == 25

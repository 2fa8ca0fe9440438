"""Parity: the second engine may replace the first only where nothing of note differs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glad.models import PixelModels
from glad.protocols import Autoencoder, Denoiser, Features
from model_store.bundle import Bundle, open_bundle
from model_store.engines.backends import Backend
from model_store.engines.export_manifest import Precision
from model_store.engines.torch import load_models
from model_store.inspection import inspect
from model_store.manifest import Manifest
from tests.support.tiny_bundle import make_tiny_bundle, tiny_calibration
from training.data.image_files import read_pixels
from training.export.parity import Parity, compare, correlation
from training.export.parity_page import ComparedEngines, page, verdict, write_page
from training.export.tolerances import Tolerances, tolerances_for
from training.progress import silent
from training.synthesis.probes import Probe

NAMES = ComparedEngines("PyTorch", "ONNX Runtime", {"torch": "1.2.3", "onnxruntime": "4.5.6"})


@dataclass(frozen=True)
class Changed:
    """A denoiser whose prediction is changed afterwards."""

    inner: Denoiser
    change: Callable[[Tensor], Tensor]

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        return self.change(self.inner(latents, timesteps, conditions).clone())


@dataclass(frozen=True)
class Brighter:
    """An autoencoder that decodes everything brighter by a constant."""

    inner: Autoencoder
    by: float

    @property
    def latent_channels(self) -> int:
        return self.inner.latent_channels

    @property
    def factor(self) -> int:
        return self.inner.factor

    def encode(self, images: Tensor) -> Tensor:
        return self.inner.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.inner.decode(latents) + self.by


@dataclass(frozen=True)
class Broken:
    """Features that are NaN."""

    inner: Features

    @property
    def patch(self) -> int:
        return self.inner.patch

    @property
    def depth(self) -> int:
        return self.inner.depth

    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(tap * torch.nan for tap in self.inner(images, layers))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_tiny_bundle(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def models(bundle: Bundle) -> PixelModels:
    return load_models(bundle)


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Probe, ...]:
    folder, rng, made = tmp_path_factory.mktemp("probes"), np.random.default_rng(3), []
    for name, defective in (("0_good", False), ("0_anomaly", True), ("1_good", False)):
        path = folder / f"{name}.png"
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(path)
        truth = np.zeros((48, 64), np.bool_)
        truth[4:9, 4:9] = defective
        made.append(Probe(path, truth))
    return tuple(made)


def run(
    models: PixelModels, candidate: PixelModels, manifest: Manifest, probes: Sequence[Probe], **changes: Any
) -> Parity:
    options: dict[str, Any] = {"runner": Backend("onnx", "cpu"), "progress": silent, "batches": (1, 2), **changes}
    return compare(models, candidate, manifest, probes, tolerances_for("float32"), **options)


def calibrated(manifest: Manifest, fail: float) -> Manifest:
    return manifest.model_copy(update={"calibration": tiny_calibration(fail, fail, 1.0)})


def test_the_same_models_are_equal_without_any_difference(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    parity = run(models, models, bundle.manifest, probes, batches=(1,))
    found = parity.summary
    assert parity.passed
    assert (found.component_error, found.score_difference, found.step_differences, found.verdict_flips) == (0, 0, 0, 0)
    assert found.map_correlation == 1
    assert {row.component for row in parity.components} == {"encoder", "unet", "decoder", "features 64 px"}
    # The grid is 401, 301, 201, 101, 1; t_min is 250: two steps lie between.
    assert {row.detail for row in parity.components if row.component == "unet"} == {"at step 301", "at step 401"}
    proof = parity.proof
    assert (proof.passed, proof.images, proof.verdict_flips, proof.largest_score_difference) == (True, 3, 0, 0)


def test_a_text_conditioned_unet_is_compared_under_both_prompts(tmp_path: Path, probes: tuple[Probe, ...]) -> None:
    bundle = open_bundle(make_tiny_bundle(tmp_path, prompt=1))
    models = load_models(bundle)
    parity = run(models, models, bundle.manifest, probes[:1], batches=(1,))
    details = {row.detail for row in parity.components if row.component == "unet"}
    assert details == {f"at step {t}, {told}" for t in (301, 401) for told in ("product's prompt", "empty prompt")}


def test_one_changed_weight_of_the_unet_is_named(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    candidate: Any = load_models(bundle)
    with torch.no_grad():
        candidate.denoiser.module.conv_in.weight[0, 0, 1, 1] += 0.5
    parity = run(models, candidate, bundle.manifest, probes[:2])
    assert not parity.passed
    assert parity.problems[0].startswith("unet at step 301, batch 1: largest error is ")
    assert "the limit is 0.001" in parity.problems[0]
    assert not parity.proof.passed
    assert not any(row.relative_error for row in parity.components if row.component != "unet" and row.batch == 1)


def test_a_constant_added_is_the_error_found(bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]) -> None:
    brighter = replace(models, autoencoder=Brighter(models.autoencoder, 0.25))
    parity = run(models, brighter, bundle.manifest, probes[:1], batches=(1,))
    (row,) = [row for row in parity.components if row.component == "decoder"]
    assert row.largest_error == pytest.approx(0.25, abs=1e-6)
    assert row.mean_error == pytest.approx(0.25, abs=1e-6)
    assert row.relative_error == pytest.approx(0.25 / row.rms, rel=1e-5)
    assert row.row_difference == 0


def test_a_flipped_verdict_is_counted(bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]) -> None:
    other = replace(models, autoencoder=Brighter(models.autoencoder, 0.5))
    first = run(models, other, bundle.manifest, probes[:1]).images[0]
    assert first.reference_score != first.candidate_score
    between = (first.reference_score + first.candidate_score) / 2  # review and fail: one passes, the other fails
    parity = run(models, other, calibrated(bundle.manifest, between), probes[:1])
    assert parity.summary.verdict_flips == parity.proof.verdict_flips == 1
    assert "1 verdicts flip (0_good.png); the limit is 0" in parity.problems
    assert {parity.images[0].reference_verdict, parity.images[0].candidate_verdict} == {"pass", "fail"}
    expected = abs(first.reference_score - first.candidate_score) / between
    assert parity.images[0].relative_difference == pytest.approx(expected)


def test_an_image_whose_score_is_the_threshold_flips_by_rounding_and_is_not_counted(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    other = replace(models, autoencoder=Brighter(models.autoencoder, 1e-6))
    first = run(models, other, bundle.manifest, probes[:1]).images[0]
    assert 0 < first.score_difference < 1e-5 * first.reference_score
    threshold = max(first.reference_score, first.candidate_score)  # one of the two passes, the other fails
    parity = run(models, other, calibrated(bundle.manifest, threshold), probes[:1])
    (row,) = parity.images
    assert {row.reference_verdict, row.candidate_verdict} == {"pass", "fail"}
    assert (row.at_threshold, row.flipped, parity.summary.verdict_flips) == (True, False, 0)


def _first_comparison(models: PixelModels, manifest: Manifest, probe: Probe) -> float:
    """The trigger score of the first step of an image, of which any difference is one."""
    (found,) = inspect([read_pixels(probe.path)], models.assemble(), _with_delta(manifest, 1e-9).settings)
    assert found.lane.trigger is not None
    assert found.lane.trigger.step == found.lane.grid[0]
    return found.lane.trigger.score


def _with_delta(manifest: Manifest, delta: float) -> Manifest:
    trigger = manifest.settings.trigger.model_copy(update={"delta": delta})
    return manifest.model_copy(update={"settings": manifest.settings.model_copy(update={"trigger": trigger})})


def test_an_image_that_rounding_sends_another_way_is_not_compared(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    other = replace(models, autoencoder=Brighter(models.autoencoder, 1e-5))
    scores = [_first_comparison(one, bundle.manifest, probes[0]) for one in (models, other)]
    assert 0 < abs(scores[0] - scores[1]) < 1e-4 * scores[0]
    between = _with_delta(bundle.manifest, sum(scores) / 2)  # the first step of one, another one of the other
    parity = run(models, other, between, probes)
    first, *others = parity.images
    assert first.reference_step != first.candidate_step
    assert (first.near_tie, first.undecided, first.step_differs) == (True, True, False)
    assert not any(row.undecided for row in others)
    assert parity.problems == ()
    assert (parity.summary.undecided, parity.summary.step_differences) == (1, 0)
    assert parity.summary.score_difference == max(row.relative_difference for row in others)
    said = verdict(parity, NAMES)
    assert said.endswith("rounding decided the denoising step of 1, which are not compared")
    (problem,) = run(models, other, between, probes[:1]).problems  # nothing is left that compares the engines
    assert problem.startswith("rounding decided the denoising step of 1 of 1 images")


def test_another_step_that_more_than_rounding_decided_is_a_problem(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    other = replace(models, autoencoder=Brighter(models.autoencoder, 0.5))
    scores = [_first_comparison(one, bundle.manifest, probes[0]) for one in (models, other)]
    assert abs(scores[0] - scores[1]) > 1e-3 * scores[0]
    parity = run(models, other, _with_delta(bundle.manifest, sum(scores) / 2), probes)
    assert parity.images[0].step_differs
    assert any(problem.startswith("denoising step differs in ") for problem in parity.problems)


def test_without_calibration_scores_are_held_against_their_median(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    other = replace(models, autoencoder=Brighter(models.autoencoder, 0.5))
    bare = bundle.manifest.model_copy(update={"calibration": None})
    parity = run(models, other, bare, probes)
    median = sorted(row.reference_score for row in parity.images)[1]
    assert [row.relative_difference * median for row in parity.images] == pytest.approx(
        [row.score_difference for row in parity.images]
    )
    assert parity.summary.verdict_flips == 0
    assert "not calibrated" in page(parity, NAMES)


@pytest.mark.parametrize("part", ["features", "denoiser"])
def test_nan_never_passes(bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...], part: str) -> None:
    broken = {
        "features": replace(models, features=Broken(models.features)),
        "denoiser": replace(models, denoiser=Changed(models.denoiser, lambda predicted: predicted * torch.nan)),
    }[part]
    parity = run(models, broken, bundle.manifest, probes[:1])
    assert not parity.passed
    assert math.isnan(parity.summary.component_error)
    assert parity.proof.largest_score_difference == math.inf
    assert json.loads(json.dumps(parity.as_json(), allow_nan=False))["summary"]["component_error"] == "nan"
    assert "nan" in page(parity, NAMES)


def test_rows_that_depend_on_their_batch_are_caught(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    def leaking(predicted: Tensor) -> Tensor:
        return predicted + 0.5 * (len(predicted) > 1)

    candidate = replace(models, denoiser=Changed(models.denoiser, leaking))
    parity = run(models, candidate, bundle.manifest, probes[:2])
    rows = [row for row in parity.components if row.component == "unet"]
    assert all(row.row_difference < 1e-4 for row in rows if row.batch == 1)
    assert all(row.row_difference == pytest.approx(0.5 / row.rms, rel=1e-3) for row in rows if row.batch == 2)
    assert any("unet at step 301, batch 2: a row's output depends on its batch by" in one for one in parity.problems)


def test_rows_that_depend_on_their_place_are_caught(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...]
) -> None:
    def last_differs(predicted: Tensor) -> Tensor:
        predicted[1:] += 0.5
        return predicted

    candidate = replace(models, denoiser=Changed(models.denoiser, last_differs))
    rows = run(models, candidate, bundle.manifest, probes[:2]).components
    assert min(row.row_difference * row.rms for row in rows if row.component == "unet" and row.batch == 2) > 0.4


def test_correlation_is_pearsons() -> None:
    ours, theirs = np.array([[0, 1], [2, 3]], np.float32), np.array([[0, 2], [1, 3]], np.float32)
    # Deviations -1.5 -.5 .5 1.5 and -1.5 .5 -.5 1.5: (2.25 - .25 - .25 + 2.25) / 5
    assert correlation(ours, theirs) == pytest.approx(0.8)
    flat = np.zeros((2, 2), np.float32)
    assert (correlation(flat, flat), correlation(flat, ours)) == (1, 0)
    assert math.isnan(correlation(ours, ours * np.nan))


def test_the_page_says_what_was_found(
    bundle: Bundle, models: PixelModels, probes: tuple[Probe, ...], tmp_path: Path
) -> None:
    path = tmp_path / "parity.html"
    write_page(run(models, models, bundle.manifest, probes), NAMES, path)
    text = path.read_text()
    assert "float32 on ONNX Runtime: equal within tolerance, 0 verdict flips of 3" in text
    for told in ("PyTorch", "1.2.3", "4.5.6", "0_anomaly.png", "features 64 px", "step differences", "toy 1"):
        assert told in text
    assert "data:image/png;base64," in text
    assert "http" not in text  # needs no other file


def test_no_images_are_refused(bundle: Bundle, models: PixelModels) -> None:
    with pytest.raises(ValueError, match="0 images"):
        run(models, models, bundle.manifest, [])


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_no_precision_may_flip_a_verdict_by_default(precision: Precision) -> None:
    assert tolerances_for(precision).verdict_flips == 0


def test_tolerances_are_changed_by_name() -> None:
    changed = tolerances_for("float32").changed(["component_error=0.5", "verdict_flips=2"])
    assert (changed.component_error, changed.verdict_flips) == (0.5, 2)
    assert changed.map_correlation == tolerances_for("float32").map_correlation


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("error=1", "tolerance is 'error=1': give NAME=VALUE.*names are component_error"),
        ("component_error", "give NAME=VALUE"),
        ("component_error=much", "tolerance component_error is 'much'"),
        ("component_error=nan", "tolerance component_error is 'nan'"),
        ("step_differences=2", "less than or equal to 1"),
    ],
)
def test_impossible_tolerances_are_refused(text: str, told: str) -> None:
    base: Tolerances = tolerances_for("float32")
    with pytest.raises(ValueError, match=told):
        base.changed([text])

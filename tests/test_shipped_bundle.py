"""The bundle that ships with the project: there, small, whole, and able to tell a good part from a bad one."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from model_store.bundle import Bundle
from model_store.engines.export_manifest import open_export
from model_store.engines.loading import load, load_own_models
from model_store.inspection import inspect
from model_store.store import SHIPPED_BUNDLES, Store
from training.sample_product import render

MOST_BYTES = 16_000_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Store(SHIPPED_BUNDLES, records=False).resolve("bracket").open()


def test_it_is_the_only_one_and_small(bundle: Bundle) -> None:
    store = Store(SHIPPED_BUNDLES, records=False)
    assert store.products() == ("bracket",)
    assert len(store.versions("bracket")) == 1
    assert sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file()) <= MOST_BYTES
    # The embedding is a projection of 0.1 MB, whose rounding would move every latent.
    stored = {name: component.dtype for name, component in bundle.manifest.components.items()}
    assert stored == {**dict.fromkeys(("backbone", "unet", "memory", "decoder"), "float16"), "embedding": "float32"}


def test_it_states_what_was_measured_of_it(bundle: Bundle) -> None:
    store = Store(SHIPPED_BUNDLES, records=False)
    [measured] = store.evaluations(store.resolve("bracket"))
    assert (measured.bundle, measured.data.good, measured.data.defect) == (bundle.hash, 100, 180)
    # As docs/results.md has it: 177 of the 180 defects fail, and 1 of the 100 good parts.
    assert measured.figures.found is not None
    assert measured.figures.false_rejects is not None
    assert measured.figures.found.value == pytest.approx(177 / 180)
    assert measured.figures.false_rejects.value == 0.01
    assert measured.yardstick is not None
    assert measured.minus_yardstick is not None


def test_its_backbone_is_exported_and_proven(bundle: Bundle) -> None:
    pytest.importorskip("onnxruntime")
    own, exported = load_own_models(bundle).assemble(), load(bundle)
    assert exported.engine == "backbone: onnx-cpu-float32, unet: torch-float32, decoder: torch-float32"
    part = render(90210).image
    (expected,), (found,) = (inspect([part], models, bundle.manifest.settings) for models in (own, exported.models))
    assert found.score == pytest.approx(expected.score, rel=1e-4)
    proofs = open_export(bundle.path, bundle.hash, "onnx").manifest.proofs
    assert {proof.runner for proof in proofs if proof.passed} == {"onnx-cpu-float32", "onnx-openvino-float32"}


def test_its_thresholds_keep_their_promise_with_95_percent_confidence_from_1000_good_images(bundle: Bundle) -> None:
    found = bundle.manifest.thresholds
    assert found.good_images == len(found.good_scores) == 1000
    for limit, quantile in ((found.fail, 0.98), (found.review, 0.90)):
        # The least rank k of 1,000 whose score lies above the true quantile in 95 of 100 draws: P(Bin(1000, q) < k).
        rank = next(k for k in range(1, 1001) if binom.cdf(k - 1, 1000, quantile) >= 0.95)
        # The scores in the manifest are rounded, so the one at the threshold may count on either side.
        assert sum(score < limit for score in found.good_scores) in {rank - 1, rank}
    assert bundle.manifest.settings.trigger.delta > 0


def test_it_passes_a_good_part_without_a_walk_and_fails_one_without_its_screws(bundle: Bundle) -> None:
    models, manifest = load_own_models(bundle).assemble(), bundle.manifest
    parts = [render(90210).image, render(90210, "missing_screw", 3).image]
    good, bad = (inspect([part], models, manifest.settings)[0] for part in parts)
    assert manifest.thresholds.verdict(good.score) != "fail"
    assert manifest.thresholds.verdict(bad.score) == "fail"
    assert bad.score > 2 * good.score

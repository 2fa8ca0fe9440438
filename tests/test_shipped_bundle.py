"""The bundle that ships with the project: there, small, whole, and able to tell a good part from a bad one."""

from __future__ import annotations

import pytest

from model_store.bundle import Bundle
from model_store.engines.torch import load_models
from model_store.inspection import inspect
from model_store.store import SHIPPED_BUNDLES, Store
from training.sample_product import render

MOST_BYTES = 16_000_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Store(SHIPPED_BUNDLES).resolve("bracket").open()


def test_it_is_the_only_one_and_small(bundle: Bundle) -> None:
    store = Store(SHIPPED_BUNDLES)
    assert store.products() == ("bracket",)
    assert len(store.versions("bracket")) == 1
    assert sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file()) <= MOST_BYTES
    assert {component.dtype for component in bundle.manifest.components.values()} == {"float16"}


def test_its_thresholds_are_the_conformal_ones_of_300_good_images(bundle: Bundle) -> None:
    found = bundle.manifest.thresholds
    assert found.good_images == len(found.good_scores) == 300
    # Of 300 scores the ceil(301 x 0.98) = 295th smallest is the last below `fail`, the ceil(301 x 0.9) = 271st the last
    # below `review`; the scores in the manifest are rounded, so the one at the threshold may count on either side.
    assert sum(score < found.fail for score in found.good_scores) in {294, 295}
    assert sum(score < found.review for score in found.good_scores) in {270, 271}
    assert bundle.manifest.settings.trigger.delta > 0


def test_it_passes_a_good_part_and_fails_one_without_its_screws(bundle: Bundle) -> None:
    models, manifest = load_models(bundle).assemble(), bundle.manifest
    parts = [render(90210).image, render(90210, "missing_screw", 3).image]
    good, bad = (inspect([part], models, manifest.settings)[0] for part in parts)
    assert manifest.thresholds.verdict(good.score) != "fail"
    assert manifest.thresholds.verdict(bad.score) == "fail"
    assert bad.lane.denoising_step is not None
    assert good.lane.denoising_step is not None
    assert bad.lane.denoising_step >= good.lane.denoising_step

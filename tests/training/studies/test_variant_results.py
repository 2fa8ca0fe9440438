"""What was measured of a variant is kept bit for bit, and belongs to its images, weights and settings alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from model_store.bundle import Bundle, open_bundle
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.data import dataset as data
from training.metrics.pixel_metrics import rank_pixels
from training.studies.variant_results import KeptResults, VariantResult


@pytest.fixture
def images(tmp_path: Path) -> tuple[data.TestImage, ...]:
    return tuple(data.test_images(draw_parts(tmp_path / "parts")))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(make_tiny_bundle(tmp_path / "store", resolution=64))


@pytest.fixture
def result() -> VariantResult:
    rng = np.random.Generator(np.random.Philox(3))
    maps = [rng.random((6, 8), dtype=np.float32) for _ in range(5)]
    truths = [np.zeros((6, 8), dtype=bool) for _ in range(5)]
    truths[4][1:3, 2:5] = True
    return VariantResult(rng.random(5), rank_pixels(maps, truths), 217.4)


def test_a_kept_result_is_the_measured_one_to_the_bit(
    images: tuple[data.TestImage, ...], bundle: Bundle, result: VariantResult, tmp_path: Path
) -> None:
    KeptResults(tmp_path / "kept", images).write(bundle.path, bundle.manifest.settings, result)
    found = KeptResults(tmp_path / "kept", images).read(bundle.path, bundle.manifest.settings)
    assert found is not None
    assert found.denoising_step == result.denoising_step
    assert found.scores.tobytes() == result.scores.tobytes()
    for then, now in ((result.ranked.ranks, found.ranked.ranks), (result.ranked.histograms, found.ranked.histograms)):
        for name, value in asdict(then).items():
            kept = asdict(now)[name]
            assert np.asarray(kept).dtype == np.asarray(value).dtype, name
            assert np.array_equal(kept, value), name


def test_a_result_of_other_images_settings_or_half_a_file_is_none(
    images: tuple[data.TestImage, ...], bundle: Bundle, result: VariantResult, tmp_path: Path
) -> None:
    kept, settings = KeptResults(tmp_path / "kept", images), bundle.manifest.settings
    kept.write(bundle.path, settings, result)
    assert kept.read(bundle.path, settings.with_delta(0.123)) is None
    assert KeptResults(tmp_path / "kept", images[1:]).read(bundle.path, settings) is None
    images[0].path.write_bytes(images[0].path.read_bytes() + b"changed")
    assert KeptResults(tmp_path / "kept", images).read(bundle.path, settings) is None
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert kept.read(bundle.path, settings) is None


def test_images_and_masks_may_be_links_as_tools_for_large_data_make_them(
    images: tuple[data.TestImage, ...], bundle: Bundle, result: VariantResult, tmp_path: Path
) -> None:
    KeptResults(tmp_path / "kept", images).write(bundle.path, bundle.manifest.settings, result)

    def linked(path: Path) -> Path:
        link = tmp_path / "links" / path.relative_to(tmp_path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
        return link

    links = [replace(one, path=linked(one.path), mask=None if one.mask is None else linked(one.mask)) for one in images]
    found = KeptResults(tmp_path / "kept", links).read(bundle.path, bundle.manifest.settings)
    assert found is not None, "the contents are the same"


def test_a_result_that_a_disk_has_damaged_anywhere_or_that_lacks_an_array_does_not_end_the_measuring(
    images: tuple[data.TestImage, ...], bundle: Bundle, result: VariantResult, tmp_path: Path
) -> None:
    kept, settings = KeptResults(tmp_path / "kept", images), bundle.manifest.settings
    kept.write(bundle.path, settings, result)
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    raised: list[Exception] = []
    for place in range(0, len(whole), 23):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            kept.read(bundle.path, settings)
        except Exception as error:
            raised.append(error)
    assert raised == []
    file.write_bytes(whole)
    with np.load(file) as arrays:
        fewer = {name: arrays[name] for name in arrays if name != "histograms.negative"}
    np.savez_compressed(file, allow_pickle=False, **fewer)
    assert kept.read(bundle.path, settings) is None


def test_a_result_of_another_version_of_glad_is_none(
    images: tuple[data.TestImage, ...],
    bundle: Bundle,
    result: VariantResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, settings = KeptResults(tmp_path / "kept", images), bundle.manifest.settings
    kept.write(bundle.path, settings, result)
    monkeypatch.setattr("training.studies.variant_results.version", lambda name: f"another of {name}")
    assert kept.read(bundle.path, settings) is None

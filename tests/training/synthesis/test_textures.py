"""Textures, procedural or of a folder, and the published changes: repeatable, in range, different by seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.image_files import DataError
from training.synthesis.anomalies import KINDS, synthesise
from training.synthesis.memseg import CHANGES, _turned, memseg_changes
from training.synthesis.patterns import procedural_texture, spectral_noise
from training.synthesis.textures import check_textures, folder_texture, texture_digest, texture_files
from training.synthesis_recipe import SynthesisRecipe

Change = Callable[[np.random.Generator, Image.Image], Image.Image]


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_the_same_seed_gives_the_same_texture_and_another_seed_another_one() -> None:
    assert np.array_equal(procedural_texture(_rng(1), 48), procedural_texture(_rng(1), 48))
    assert not np.array_equal(procedural_texture(_rng(1), 48), procedural_texture(_rng(2), 48))


def test_every_texture_is_an_image_in_the_unit_range() -> None:
    for seed in range(40):
        texture = procedural_texture(_rng(seed), 40)
        assert texture.shape == (40, 40, 3)
        assert texture.dtype == np.float32
        assert texture.min() >= 0
        assert texture.max() <= 1


def test_textures_are_not_plain_colours() -> None:
    assert all(procedural_texture(_rng(seed), 40).std(axis=(0, 1)).max() > 0.003 for seed in range(40))


def test_spectral_noise_fills_the_unit_range_and_a_larger_exponent_makes_it_smoother() -> None:
    rough, smooth = (spectral_noise(_rng(0), 64, exponent) for exponent in (0.0, 3.0))
    for field in (rough, smooth):
        assert field.min() == 0
        assert abs(float(field.max()) - 1) < 1e-6
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


def _folder(root: Path, *, like_dtd: bool) -> Path:
    """Pictures of one colour each; in DTD's layout with files beside them that are no pictures."""
    for number, (category, colour) in enumerate((("banded", (200, 10, 10)), ("dotted", (10, 200, 10)))):
        folder = root / "images" / category if like_dtd else root
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30 + number, 20), colour).save(folder / f"{category}_0001.png")
    if like_dtd:
        (root / "labels").mkdir()
        (root / "labels" / "train1.txt").write_text("banded/banded_0001.png\n")
    return root


@pytest.mark.parametrize("like_dtd", [True, False])
def test_a_folder_of_pictures_is_what_textures_are_drawn_from(tmp_path: Path, like_dtd: bool) -> None:
    folder = str(_folder(tmp_path, like_dtd=like_dtd))
    assert check_textures(folder, workers=1) == 2
    drawn = [folder_texture(_rng(seed), 24, folder) for seed in range(12)]
    assert {picture.shape for picture in drawn} == {(24, 24, 3)}
    colours = {tuple(np.round(picture[0, 0] * 255).astype(int)) for picture in drawn}
    assert colours == {(200, 10, 10), (10, 200, 10)}


@pytest.mark.parametrize("overlays", ["varied", "memseg"])
def test_an_anomaly_of_a_texture_folder_is_its_picture_at_the_published_weight(tmp_path: Path, overlays: str) -> None:
    textures, others = str(_folder(tmp_path, like_dtd=True)), dict.fromkeys(KINDS, 0.0)
    recipe = SynthesisRecipe.model_validate(
        {"pairs": 8, **others, "texture": 1.0, "none": 0.0, "gain": 0.0, "overlays": overlays, "textures": textures}
    )
    good = np.full((48, 48, 3), 0.5, dtype=np.float32)
    valid = np.ones((48, 48), dtype=bool)
    valid[:, :10] = False
    pairs = [synthesise(_rng(seed), good, valid, recipe) for seed in range(30)]
    shown = [pair for pair in pairs if pair.mask.any()]
    assert len(shown) > 15
    for pair in shown:
        assert not pair.mask[:, :10].any()
        # A picture of one colour is one colour after each change, and beta is one number: so is what is seen.
        assert np.ptp(pair.anomalous[pair.mask], axis=0).max() < 1e-5
    again = synthesise(_rng(3), good, valid, recipe)
    assert np.array_equal(again.anomalous, pairs[3].anomalous)


def test_the_published_changes_are_repeatable_and_differ_from_seed_to_seed() -> None:
    image = procedural_texture(_rng(5), 40)
    changed = [memseg_changes(_rng(seed), image) for seed in range(60)]
    assert np.array_equal(changed[1], memseg_changes(_rng(1), image))
    assert len({one.tobytes() for one in changed}) == 60
    assert all(one.shape == image.shape and one.dtype == np.float32 for one in changed)
    assert min(one.min() for one in changed) >= 0
    assert max(one.max() for one in changed) <= 1


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_each_of_the_ten_changes_keeps_the_size_and_changes_something(change: Change) -> None:
    picture = Image.fromarray(np.round(procedural_texture(_rng(7), 40) * 255).astype(np.uint8))
    results = [np.asarray(change(_rng(seed), picture)) for seed in range(8)]
    assert all(result.shape == (40, 40, 3) for result in results)
    assert any((result != np.asarray(picture)).any() for result in results)


def test_turning_fills_the_corners_with_the_picture() -> None:
    white = Image.new("RGB", (40, 40), "white")
    assert all((np.asarray(_turned(_rng(seed), white)) == 255).all() for seed in range(8))


def test_a_picture_that_cannot_be_read_is_named_before_anything_runs(tmp_path: Path) -> None:
    folder = _folder(tmp_path, like_dtd=True)
    whole = (folder / "images" / "banded" / "banded_0001.png").read_bytes()
    (folder / "images" / "banded" / "cut.png").write_bytes(whole[:60])
    (folder / "images" / "banded" / "empty.jpg").write_bytes(b"")
    texture_files.cache_clear()
    with pytest.raises(DataError, match=r"2 of 4 texture pictures cannot be read: .*cut\.png.*empty\.jpg.*remove them"):
        check_textures(str(folder), workers=1)


def test_a_texture_folder_that_is_absent_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*dtd: give a folder of pictures, or leave it out"):
        check_textures(str(tmp_path / "dtd"))
    with pytest.raises(DataError, match=r"holds no picture .* in its folders neither"):
        check_textures(str(tmp_path))


def test_other_pictures_in_the_folder_are_another_texture_folder(tmp_path: Path) -> None:
    folder = str(_folder(tmp_path, like_dtd=False))
    before = texture_digest(folder)
    assert texture_digest(folder) == before
    Image.new("RGB", (9, 9)).save(tmp_path / "more.png")
    texture_files.cache_clear()
    assert texture_digest(folder) != before

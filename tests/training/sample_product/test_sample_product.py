"""The sample product: repeatable pictures, exact masks, visible defects, and a dataset that resumes."""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from training.sample_product import DEFECTS, SEVERITIES, SIDE, Lamp, RenderedPart, render, write_dataset
from training.sample_product.flaws import draw_flaws, flaw_mask
from training.sample_product.geometry import Pose, grid_of

SEED = 3
KINDS = [(defect, severity) for defect in DEFECTS for severity in SEVERITIES]
SEEN_SIDE = 192  # the side at which the nano models see a picture
VISIBLE_GREY_LEVELS = 8.0  # about three times the worst sensor noise at 512, more at 192
REACH_PX = 12  # blur and shadows around a defect


@cache
def _render(seed: int, defect: str | None = None, severity: int | None = None) -> RenderedPart:
    return render(seed, defect, severity)


def _seen(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    reduced = Image.fromarray(image).resize((SEEN_SIDE, SEEN_SIDE), Image.Resampling.BOX)
    return np.asarray(reduced, dtype=np.float32)


def test_another_lamp_shows_the_same_part_with_the_same_defect_in_another_light() -> None:
    usual, opposite = _render(SEED, "dent", 3), render(SEED, "dent", 3, Lamp.OPPOSITE)
    assert np.array_equal(usual.mask, opposite.mask)
    change = np.abs(_seen(usual.image) - _seen(opposite.image)).max(2)
    # Metal mirrors the lamp, and shadows fall to the other side.
    assert (change > VISIBLE_GREY_LEVELS).mean() > 0.1


def test_a_folder_of_one_lamp_is_not_filled_up_with_images_of_another(tmp_path: Path) -> None:
    write_dataset(tmp_path / "parts", seed=SEED, lamp=Lamp.OPPOSITE)
    recorded = json.loads((tmp_path / "parts" / "sample.json").read_text())
    assert recorded == {"seed": SEED, "renderer_version": 1, "lamp": "opposite"}
    with pytest.raises(FileExistsError, match="opposite"):
        write_dataset(tmp_path / "parts", seed=SEED)


def test_a_seed_gives_the_same_bytes_whatever_was_rendered_before() -> None:
    first = render(SEED, "scratch", 2)
    render(SEED + 1, "dent", 1)
    again = render(SEED, "scratch", 2)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()


def test_a_sequence_of_one_number_is_that_number_and_a_trailing_zero_is_another_seed() -> None:
    assert np.array_equal(render([SEED]).image, _render(SEED).image)
    assert not np.array_equal(render([SEED, 0]).image, _render(SEED).image)


def test_a_good_part_has_an_empty_mask_and_the_promised_shape() -> None:
    sample = _render(SEED)
    assert sample.image.shape == (SIDE, SIDE, 3)
    assert sample.image.dtype == np.uint8
    assert sample.mask.shape == (SIDE, SIDE)
    assert not sample.mask.any()


@pytest.mark.parametrize(("defect", "severity"), KINDS)
def test_a_defect_is_visible_at_192_inside_its_mask(defect: str, severity: int) -> None:
    good, bad = _render(SEED), _render(SEED, defect, severity)
    assert bad.mask.any()
    inside = _seen(bad.mask.astype(np.uint8) * np.uint8(255)) > 127
    changed = np.abs(_seen(bad.image) - _seen(good.image)).mean(axis=2)
    assert changed[inside].mean() > VISIBLE_GREY_LEVELS


@pytest.mark.parametrize(("defect", "severity"), KINDS)
def test_a_defect_changes_nothing_away_from_its_mask(defect: str, severity: int) -> None:
    good, bad = _render(SEED), _render(SEED, defect, severity)
    away = ndimage.distance_transform_edt(~bad.mask) > REACH_PX
    assert np.array_equal(good.image[away], bad.image[away])


def _mask(seed: int, defect: str, severity: int) -> NDArray[np.bool_]:
    """The mask alone, on an unmoved part: it needs no picture."""
    grid = grid_of(Pose())
    return flaw_mask(draw_flaws(defect, severity, np.random.default_rng(seed)), grid, grid)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_worse_defect_is_larger_on_average(defect: str) -> None:
    areas = [float(np.mean([_mask(seed, defect, severity).sum() for seed in range(10)])) for severity in SEVERITIES]
    assert areas == sorted(areas)
    assert areas[0] < areas[2]


@pytest.mark.parametrize(
    ("defect", "severity", "named"),
    [("rust", 1, "rust"), ("dent", 4, "4"), ("dent", None, "None"), (None, 2, "None")],
)
def test_an_unknown_defect_or_severity_is_refused_with_the_choices(
    defect: str | None, severity: int | None, named: str
) -> None:
    with pytest.raises(ValueError, match=named) as refusal:
        render(SEED, defect, severity)
    assert "choose one of" in str(refusal.value)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "dataset"
    assert write_dataset(folder, seed=5, train=1, calibration=1, good=1) == 3
    return folder


def test_splits_never_share_a_part(dataset: Path) -> None:
    written = _files(dataset)
    assert sorted(written) == ["calibration/good/0000.png", "test/good/0000.png", "train/good/0000.png"]
    assert len(set(written.values())) == 3


def test_a_grown_and_interrupted_dataset_resumes_without_touching_what_is_there(dataset: Path) -> None:
    before = _files(dataset)
    times = {name: os.stat(dataset / name).st_mtime_ns for name in before}
    (dataset / "train" / "good" / "0001.png.part").write_bytes(b"a killed run left this")
    told: list[tuple[int, int]] = []
    count = write_dataset(
        dataset, seed=5, train=2, calibration=1, good=1, progress=lambda done, total: told.append((done, total))
    )
    after = _files(dataset)
    assert count == 4
    assert told[0] == (3, 4)
    assert told[-1] == (4, 4)
    assert {name: after[name] for name in before} == before
    assert {name: os.stat(dataset / name).st_mtime_ns for name in before} == times
    assert sorted(set(after) - set(before)) == ["train/good/0001.png"]
    assert not list(dataset.rglob("*.part"))


def test_defects_come_with_their_masks(tmp_path: Path) -> None:
    assert write_dataset(tmp_path, seed=5, defects=1) == len(KINDS)
    for defect, severity in KINDS:
        mask = np.asarray(Image.open(tmp_path / "ground_truth" / defect / f"s{severity}_0000_mask.png"))
        assert (tmp_path / "test" / defect / f"s{severity}_0000.png").exists()
        assert set(np.unique(mask)) == {0, 255}


def test_another_seed_in_the_same_folder_is_refused(dataset: Path) -> None:
    with pytest.raises(FileExistsError, match="seed"):
        write_dataset(dataset, seed=6, train=1)


def test_a_folder_with_other_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        write_dataset(tmp_path, seed=5, train=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_record_names_seed_and_version(dataset: Path) -> None:
    assert json.loads((dataset / "sample.json").read_text()) == {"seed": 5, "renderer_version": 1}

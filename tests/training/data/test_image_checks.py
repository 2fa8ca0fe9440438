"""What is found by reading every image before a training: all unreadable files, odd sizes, odd colours, copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.photographed_parts import photograph_parts
from training.data.dataset import DataError, find_groups_file
from training.data.image_checks import check_images, sizes_in_words


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve good parts and four more to test, one photograph of each; all of them alone, as the groups file says."""
    photograph_parts(tmp_path / "train/good", parts=12, times=1, side=48)
    photograph_parts(tmp_path / "test/good", parts=4, times=1, side=48, seed=9)
    (tmp_path / "groups.csv").write_text("file,part_group\n", encoding="utf-8")
    return tmp_path


def _image(root: Path, number: int) -> Path:
    return sorted((root / "train/good").iterdir())[number]


def test_a_folder_in_order_has_no_warning(root: Path) -> None:
    checks = check_images(root, workers=1)
    assert (checks.warnings, checks.groups) == ((), None)
    assert (len(checks.images), checks.test_images, dict(checks.sizes)) == (12, 4, {(48, 48): 12})


def test_every_image_that_cannot_be_read_is_named_not_the_first_alone(root: Path) -> None:
    for number in (2, 7):
        path = _image(root, number)
        path.write_bytes(path.read_bytes()[:-300])  # cut off behind its header, which alone is whole
    with pytest.raises(DataError, match="2 of 12 images cannot be read") as refused:
        check_images(root, workers=1)
    assert all(_image(root, number).name in str(refused.value) for number in (2, 7))


def test_a_broken_test_image_is_a_warning_and_no_refusal(root: Path) -> None:
    broken = sorted((root / "test/good").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:-300])
    (warning,) = check_images(root, workers=1).warnings
    assert "1 labelled images cannot be read" in warning
    assert broken.name in warning


def test_few_images_of_another_size_are_odd_and_mixed_sizes_are_not(root: Path) -> None:
    with Image.open(_image(root, 5)) as image:
        small = image.crop((0, 0, 40, 48))
    small.save(_image(root, 5))
    (warning,) = check_images(root, workers=1).warnings
    assert "1 of 12 images have another size than the others, 48×48" in warning
    assert f"{_image(root, 5)}, 40×48" in warning
    for number in range(12):
        with Image.open(_image(root, number)) as image:
            cropped = image.crop((0, 0, 36 + number, 40))
        cropped.save(_image(root, number))
    checks = check_images(root, workers=1)
    assert checks.warnings == ()
    assert sizes_in_words(checks.sizes).endswith("from 36×40 to 47×40")


def test_a_colour_image_among_grey_ones_is_named(root: Path) -> None:
    with Image.open(_image(root, 3)) as image:
        colour = image.convert("RGB")
    colour.save(_image(root, 3))
    (warning,) = check_images(root, workers=1).warnings
    assert f"1 of 12 images are in colour, the others grey: the first is {_image(root, 3)}" in warning


def test_a_photograph_that_is_there_twice_is_named_and_first_of_all_one_that_trains_and_is_tested(root: Path) -> None:
    with Image.open(_image(root, 0)) as image:
        image.save(root / "test/good/copy.jpg", quality=85)
    with Image.open(_image(root, 4)) as image:
        brighter = image.point(lambda level: level * 0.9)
    brighter.save(root / "train/good/zz.png")
    (warning,) = check_images(root, workers=1).warnings
    assert "1 pair in training and test: what is measured there is too good" in warning
    assert "train/good/time0-part00.png = test/good/copy.jpg" in warning
    assert "train/good/time0-part04.png = train/good/zz.png" in warning


def test_images_without_any_contrast_are_no_copies_of_each_other(root: Path) -> None:
    for level in (10, 200):
        Image.fromarray(np.full((48, 48), level, dtype=np.uint8)).save(root / f"test/good/{level}.png")
    assert check_images(root, workers=1).warnings == ()


def test_several_photographs_of_each_part_without_a_groups_file_are_warned_of_with_what_to_do(tmp_path: Path) -> None:
    photograph_parts(tmp_path / "train/good", parts=6, times=3)
    (warning,) = check_images(tmp_path, workers=1).warnings
    assert "18 of 18 good images look like several photographs of one part: they stand in 6 groups" in warning
    assert f"`glad data groups {tmp_path} --out groups.csv`" in warning
    assert find_groups_file(tmp_path) is None
    (tmp_path / "groups.csv").write_text("file,part_group\n", encoding="utf-8")  # each a part of its own
    assert not any("several photographs" in warning for warning in check_images(tmp_path, workers=1).warnings)

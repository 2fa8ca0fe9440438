"""Masks that cannot be the truth they were meant to be: each is named before anything is measured, with the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data import dataset as data
from training.data.dataset import DataError
from training.data.masks import read_mask

SIZE = (40, 30)
"""Width and height of the images."""
TRUTH = np.zeros((30, 40), dtype=np.bool_)
TRUTH[10:14, 20:25] = True


def _levels(good: int, defect: int) -> NDArray[np.uint8]:
    return np.where(TRUTH, np.uint8(defect), np.uint8(good))


def _in_alpha(colour: int) -> Image.Image:
    flat = Image.new("L", SIZE, colour)
    return Image.merge("RGBA", [flat, flat, flat, Image.fromarray(_levels(0, 255))])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A good image and a scratch, whose mask is still to come."""
    for kind in ("good", "scratch"):
        (tmp_path / "test" / kind).mkdir(parents=True)
        Image.new("L", SIZE, 90).save(tmp_path / "test" / kind / "a.png")
    (tmp_path / "ground_truth" / "scratch").mkdir(parents=True)
    return tmp_path


def _mask(root: Path, suffix: str = "png") -> Path:
    return root / "ground_truth" / "scratch" / f"a_mask.{suffix}"


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Image.fromarray(_levels(255, 0)), "marks 98% of the image and 100% of its edge"),
        (Image.fromarray(_levels(1, 255)), "marks 100% of the image and 100% of its edge.*paint its background black"),
        (Image.fromarray(_levels(0, 0)), r"marks no pixel \(it is black\), and .*scratch/a\.png is a defect"),
        (_in_alpha(0), "says one thing in its colours and another in its transparency"),
        (_in_alpha(255), "says one thing in its colours and another in its transparency"),
        (Image.merge("LA", [Image.fromarray(_levels(255, 0)), Image.new("L", SIZE, 255)]), "marks 98%"),
    ],
    ids=["inverted", "background of 1", "empty", "alpha on black", "alpha on white", "inverted, opaque"],
)
def test_a_mask_that_cannot_be_the_truth_is_refused_by_its_name(root: Path, mask: Image.Image, said: str) -> None:
    mask.save(_mask(root))
    with pytest.raises(DataError, match=rf"a_mask\.png {said}"):
        data.test_images(root)


def test_an_inverted_mask_of_a_defect_at_the_edge_is_refused(root: Path) -> None:
    levels = np.full((30, 40), 255, dtype=np.uint8)
    levels[:8, :9] = 0
    Image.fromarray(levels).save(_mask(root))
    with pytest.raises(DataError, match="marks 94% of the image"):  # 1 - 8 * 9 / 1200
        data.test_images(root)


def test_an_inverted_mask_of_a_large_defect_is_refused(root: Path) -> None:
    levels = np.full((30, 40), 255, dtype=np.uint8)
    levels[3:27, 10:30] = 0
    Image.fromarray(levels).save(_mask(root))
    with pytest.raises(DataError, match="marks 60% of the image and 100% of its edge"):  # 1 - 24 * 20 / 1200
        data.test_images(root)


@pytest.mark.parametrize("white", [255, 3], ids=["white", "a class"])
def test_a_part_that_is_defective_all_over_is_marked_all_over(root: Path, white: int) -> None:
    Image.new("L", SIZE, white).save(_mask(root))
    (mask,) = [image.mask for image in data.test_images(root) if image.mask]
    assert read_mask(mask).all()


def test_a_large_defect_is_a_defect(root: Path) -> None:
    """An uneven surface: 70 % of the image, and of its edge."""
    levels = np.zeros((30, 40), dtype=np.uint8)
    levels[:, :28] = 255
    Image.fromarray(levels).save(_mask(root))
    assert len(data.test_images(root)) == 2


def test_transparency_that_agrees_with_the_colours_does_no_harm(root: Path) -> None:
    grey = Image.fromarray(_levels(0, 255))
    Image.merge("RGBA", [grey, grey, grey, grey]).save(_mask(root))
    (mask,) = [image.mask for image in data.test_images(root) if image.mask]
    assert (read_mask(mask) == TRUTH).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_mask_whose_0_is_white_is_read_as_it_looks(root: Path, bits: int) -> None:
    """TIFF's WhiteIsZero: what looks white, the defect, is stored as 0."""
    if bits == 8:  # Pillow inverts these itself when it writes them, and when it reads them
        Image.fromarray(_levels(0, 255)).save(_mask(root, "tif"), tiffinfo={262: 0})
    else:
        Image.fromarray(np.where(TRUTH, 0, 65535).astype(np.uint16)).save(_mask(root, "tif"), tiffinfo={262: 0})
    (mask,) = [image.mask for image in data.test_images(root) if image.mask]
    assert (read_mask(mask) == TRUTH).all()


def test_black_is_good_in_colours_that_store_it_as_something_else(root: Path) -> None:
    colours = np.repeat(_levels(0, 255)[..., None], 3, axis=-1)
    Image.fromarray(colours).convert("CMYK").save(_mask(root, "tif"))
    (mask,) = [image.mask for image in data.test_images(root) if image.mask]
    assert (read_mask(mask) == TRUTH).all()


def test_a_mask_of_several_pictures_is_refused(root: Path) -> None:
    first, second = Image.fromarray(_levels(0, 255)), Image.new("L", SIZE)
    first.save(_mask(root, "tif"), save_all=True, append_images=[second])
    with pytest.raises(DataError, match="it has 2 pictures, and a mask is one"):
        data.test_images(root)


def test_two_images_may_not_share_a_mask(root: Path) -> None:
    Image.fromarray(_levels(0, 255)).save(_mask(root))
    Image.new("L", SIZE, 90).save(root / "test" / "scratch" / "a.jpg")
    with pytest.raises(DataError, match=r"a_mask\.png would be the mask of .*a\.jpg and of .*a\.png: rename one"):
        data.test_images(root)

"""The files of annotated images: found by path or name, of the size they were marked in, never two under one name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import dataset as data
from training.data.annotations.import_truth import import_truth
from training.data.annotations.marks import AnnotatedImage, Annotations, Mark, box_ring, pixels_mask, rings_mask
from training.data.dataset import DataError, read_mask

WIDTH, HEIGHT = 40, 30
PIXELS = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
PIXELS[10:14, 20:25] = True
ORIENTATION = 0x0112


def photo(path: Path, orientation: int | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.new("L", size, 90).save(path, exif=exif)
    return path


def image(
    name: str, marks: Sequence[Mark] | None = None, size: tuple[int, int] | None = (WIDTH, HEIGHT)
) -> AnnotatedImage:
    some = [Mark("scratch", pixels_mask(PIXELS), is_box=False)] if marks is None else marks
    return AnnotatedImage((name,), f"image {name}", size, tuple(some))


def names(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def imported(tmp_path: Path, *annotated: AnnotatedImage) -> Path:
    import_truth(Annotations(annotated), tmp_path / "photos", tmp_path / "out")
    return tmp_path / "out"


def test_two_files_of_one_name_keep_their_folders_in_it(tmp_path: Path) -> None:
    given = ("left/1.png", "right/1.png", "2.png", "2.jpg")
    for path in given:
        photo(tmp_path / "photos" / path)
    out = imported(tmp_path, *map(image, given))
    assert names(out / "test/scratch") == ["2-jpg.jpg", "2-png.png", "left-1.png", "right-1.png"]
    photo(out / "test/good/0.png")
    assert len({one.mask for one in data.test_images(out)} - {None}) == 4, "no mask is of two images"


def test_an_image_is_found_by_its_name_wherever_it_lies(tmp_path: Path) -> None:
    photo(tmp_path / "photos/line-3/a.png")
    assert names(imported(tmp_path, image("/home/ann/photos/a.png")) / "test") == ["scratch/a.png"]


def test_a_path_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    photo(tmp_path / "secret.png")
    photo(tmp_path / "photos/a.png")
    with pytest.raises(DataError, match=r"\.\./secret\.png, .* is not in "):
        imported(tmp_path, image("../secret.png"))


def test_a_name_that_two_files_have_is_asked_for_with_its_folder(tmp_path: Path) -> None:
    photo(tmp_path / "photos/left/1.png")
    photo(tmp_path / "photos/right/1.png")
    with pytest.raises(DataError, match=r"may be .*left/1\.png or .*right/1\.png: name it with its folder"):
        imported(tmp_path, image("1.png"))


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    with pytest.raises(DataError, match=r"^b\.png, image b\.png, is not in .*photos \(2 are missing\): copy it there"):
        imported(tmp_path, image("a.png"), image("b.png"), image("c.png"))


def test_an_image_is_named_once(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    with pytest.raises(DataError, match="each image is named once"):
        imported(tmp_path, image("a.png"), image("elsewhere/a.png"))


def test_an_image_of_another_size_than_it_was_marked_in_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png", size=(80, 60))
    with pytest.raises(DataError, match=r"is 80×60 .* was marked as 40×30 .* another version"):
        imported(tmp_path, image("a.png"))


def test_marks_are_in_pixels_of_the_upright_image(tmp_path: Path) -> None:
    """Orientation 6: the file stores the upright image of 40×30 as 30×40, turned."""
    photo(tmp_path / "photos/a.jpg", orientation=6, size=(HEIGHT, WIDTH))
    out = imported(tmp_path, image("a.jpg"))
    photo(out / "test/good/0.png")
    assert (read_mask(out / "ground_truth/scratch/a_mask.png") == PIXELS).all()
    assert len(data.test_images(out)) == 2, "mask and image are of one size"


def test_marks_on_the_image_as_it_is_stored_are_refused_with_the_way_out(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.jpg", orientation=6)
    with pytest.raises(DataError, match=r"is 30×40 .* marked as 40×30 .* on its side.*store it upright"):
        imported(tmp_path, image("a.jpg"))


@pytest.mark.parametrize("category", ["good", " good ", "..", ""])
def test_a_category_that_no_folder_of_a_defect_can_have_is_refused(tmp_path: Path, category: str) -> None:
    photo(tmp_path / "photos/a.png")
    with pytest.raises(DataError, match="rename the category"):
        imported(tmp_path, image("a.png", [Mark(category, pixels_mask(PIXELS), is_box=False)]))


def test_a_category_with_a_slash_stays_in_the_folder(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    out = imported(tmp_path, image("a.png", [Mark("../deep / long", pixels_mask(PIXELS), is_box=False)]))
    assert names(out / "test") == ["-deep - long/a.png"]


def test_boxes_beside_shapes_are_refused_for_the_mask_would_lack_them(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    photo(tmp_path / "photos/b.png")
    box = Mark("scratch", rings_mask([box_ring(1, 1, 5, 5)], WIDTH, HEIGHT), is_box=True)
    shape = Mark("scratch", pixels_mask(PIXELS), is_box=False)
    with pytest.raises(DataError, match=r"marks with a shape and boxes without one.*--boxes fill"):
        imported(tmp_path, image("a.png", [box, shape]))
    with pytest.raises(DataError, match=r"a\.png has boxes alone, and .*b\.png, of the kind 'scratch' too, has a mask"):
        imported(tmp_path, image("a.png", [box]), image("b.png", [shape]))


def test_a_truth_that_cannot_be_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    photo(tmp_path / "photos/b.png")
    inverted = Mark("scratch", pixels_mask(~PIXELS), is_box=False)
    with pytest.raises(DataError, match=r"b\.png: its mask marks 98% of the image.*invert it"):
        imported(tmp_path, image("a.png"), image("b.png", [inverted]))
    assert names(tmp_path / "out") == []


def test_an_import_adds_to_a_folder_and_writes_over_nothing(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    kept = photo(tmp_path / "out/train/good/1.png").read_bytes()
    out = imported(tmp_path, image("a.png", []))
    assert names(out) == ["test/good/a.png", "train/good/1.png"]
    with pytest.raises(DataError, match=r"out/test/good/a\.png exists already"):
        imported(tmp_path, image("a.png", []))
    assert (out / "train/good/1.png").read_bytes() == kept


def test_a_folder_without_images_is_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"photos holds no images \(\.bmp, .*: give the folder that holds"):
        imported(tmp_path, image("a.png"))

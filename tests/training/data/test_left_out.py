"""What a data folder holds and no command reads, and images that are too dark: named and counted, and nothing stops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from training.cli.printed import tell_data_warnings
from training.data.data_warnings import data_warnings
from training.data.dataset import DataError, good_split
from training.data.image_files import read_pixels
from training.data.left_out import find_left_out

OTHER_CASE = "upper and lower case count:"


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), 100).save(path, "PNG")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A whole folder in MVTec-AD's layout, none of whose images is left out."""
    for number in range(10):
        _image(tmp_path / "train" / "good" / f"{number}.png")
    _image(tmp_path / "calibration" / "good" / "a.png")
    _image(tmp_path / "test" / "good" / "a.png")
    _image(tmp_path / "test" / "scratch" / "a.png")
    _image(tmp_path / "ground_truth" / "scratch" / "a_mask.png")
    _image(tmp_path / "ground_truth" / "scratch" / "of_no_image_mask.png")
    (tmp_path / "groups.csv").write_text("file,group\n", encoding="utf-8")
    (tmp_path / "train" / "good" / "._0.png").write_bytes(b"macOS")
    return tmp_path


def test_nothing_is_left_out_of_a_folder_in_order(root: Path) -> None:
    assert find_left_out(root) == ()
    assert data_warnings(root) == ()


@pytest.mark.parametrize(
    ("folder", "name", "reason"),
    [
        ("calibration", "b.png", "good images for the thresholds are read from calibration/good"),
        ("train", "b.png", "good images are read from train/good"),
        ("train/good/sub", "b.png", "not in a subfolder, good images are read from train/good"),
        ("test", "b.png", "labelled images are read from test/good and test/<defect>"),
        ("test/scratch/sub", "b.png", "not in a subfolder, labelled images are read from test/good and test/<defect>"),
        ("ground_truth", "b_mask.png", "masks are read from ground_truth/<defect>"),
        ("masks/scratch", "b_mask.png", "masks are read from ground_truth/<defect>"),
        ("Calibration/good", "b.png", f"{OTHER_CASE} good images for the thresholds are read from calibration/good"),
        ("rejects", "b.png", "no command reads this folder"),
        (".", "b.png", "train/good exists, and is read in place of these"),
        ("rejects", "b.jpe", ".jpe files are not read: convert them to PNG"),
        ("train/good", "b.dng", ".dng files are not read: convert them to PNG"),
    ],
)
def test_an_image_in_no_place_that_is_read_is_named_with_the_place_that_is(
    root: Path, folder: str, name: str, reason: str
) -> None:
    names = (name, name.replace("b", "c", 1))
    for one in names:
        _image(root / folder / one)
    (left_out,) = find_left_out(root)
    assert (left_out.folder, left_out.images, left_out.reason) == (folder, names, reason)


@pytest.mark.parametrize("place", ["train/good", "calibration/good", "test/scratch", "."])
def test_a_link_that_leads_nowhere_is_named(root: Path, place: str) -> None:
    (root / place / "gone.png").symlink_to("/nowhere/gone.png")
    (left_out,) = find_left_out(root)
    assert str(left_out) == f"{place}/gone.png: a link to /nowhere/gone.png, which does not exist"


def test_images_that_visas_csv_does_not_name_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "candle"
    for name in ("Normal/0.JPG", "Normal/1.JPG", "Normal/2.JPG", "Anomaly/0.JPG"):
        _image(root / "Data" / "Images" / name)
    _image(root / "Data" / "Masks" / "Anomaly" / "0.png")
    rows = ["object,split,label,image,mask", "candle,train,normal,candle/Data/Images/Normal/0.JPG,"]
    (tmp_path / "1cls.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert [(one.folder, one.images, one.reason) for one in find_left_out(root)] == [
        ("Data/Images/Anomaly", ("0.JPG",), "the CSV does not name them"),
        ("Data/Images/Normal", ("1.JPG", "2.JPG"), "the CSV does not name them"),
    ]


def test_the_images_of_many_places_are_counted_and_the_first_places_named(root: Path) -> None:
    for number in range(10):
        _image(root / f"batch-{number}" / "a.png")
        _image(root / f"batch-{number}" / "b.png")
    (warning,) = data_warnings(root)
    lines = warning.splitlines()
    assert lines[0] == f"20 images take no part in {root}:"
    assert lines[1] == "  batch-0/a.png and 1 more: no command reads this folder"
    assert lines[-1] == "  and 4 images in other places"  # 8 places are named, 2 places of 2 images are left
    assert len(lines) == 1 + 8 + 1


@pytest.mark.parametrize("suffix", [".jpe", ".dib", ".pbm", ".jfif"])
@pytest.mark.parametrize("place", ["train/good", "calibration/good"])
def test_images_of_formats_that_are_not_read_are_refused_and_counted_where_good_ones_lie(
    root: Path, place: str, suffix: str
) -> None:
    for name in ("b", "c"):
        _image(root / place / f"{name}{suffix}")
    with pytest.raises(DataError, match=rf"{place}/b\{suffix}: \{suffix} files are not read.*\(2 such files lie there"):
        good_split(root, 0.2, seed=0)


def _sixteen_bit(root: Path, highest: int) -> None:
    for number in range(10):
        levels = np.full((6, 8), highest // (2 if number != 4 else 1), dtype=np.uint16)
        Image.fromarray(levels).save(root / "train" / "good" / f"{number}.png")


def test_a_camera_of_12_bits_whose_values_are_stored_as_they_are_is_warned_of(root: Path) -> None:
    _sixteen_bit(root, 4095)
    (warning,) = data_warnings(root)
    assert f"the largest value in 10 of the 16-bit images is 4095 ({root}/train/good/4.png)" in warning
    assert "If the camera has 12 bits, multiply by 16 before storing" in warning
    assert len(good_split(root, 0.2, seed=0).train) == 10


def test_labelled_images_alone_are_warned_of_too(tmp_path: Path) -> None:
    (tmp_path / "test" / "good").mkdir(parents=True)
    Image.fromarray(np.full((6, 8), 1023, dtype=np.uint16)).save(tmp_path / "test" / "good" / "a.png")
    (warning,) = data_warnings(tmp_path)
    assert "If the camera has 10 bits, multiply by 64" in warning


def test_values_that_use_the_16_bits_are_not_warned_of(root: Path) -> None:
    _sixteen_bit(root, 4095 * 16)
    assert data_warnings(root) == ()


def _tiffs(root: Path, highest: dict[str, int | None]) -> None:
    """16-bit TIFFs of few values, each with what it says of the largest one."""
    for name, said in highest.items():
        image = Image.fromarray(np.full((6, 8), 900, dtype=np.uint16))
        image.save(root / "train" / "good" / f"{name}.tif", tiffinfo={} if said is None else {281: said})


def test_a_camera_that_says_its_largest_value_is_not_warned_of_and_read_in_its_range(root: Path) -> None:
    _tiffs(root, dict.fromkeys("abc", 4095))
    assert data_warnings(root) == ()
    levels = read_pixels(root / "train" / "good" / "a.tif")
    assert np.unique(levels).tolist() == [56]  # 900 / 4095 * 255 = 56.04


def test_images_that_say_it_beside_others_that_do_not_are_warned_of(root: Path) -> None:
    """As of a program that writes the largest value of each image, which is 4095 where the image is overexposed."""
    _tiffs(root, {"a": 3800, "b": 4095, "c": None})
    (warning,) = data_warnings(root)
    assert f"white is 4095 in {root}/train/good/b.tif, as its MaxSampleValue says, and 65535 in" in warning
    assert "read with different brightness" in warning


def test_groups_of_images_that_are_not_there_are_counted(root: Path) -> None:
    rows = ["file,group", "train/good/0.png,a", "train/good/00.png,a", "train/good/01.png,b"]
    (root / "groups.csv").write_text("\n".join(rows), encoding="utf-8")
    (warning,) = data_warnings(root)
    assert warning.startswith("2 of the 3 files that the groups file names do not lie in ")
    assert "'train/good/00.png'" in warning


def test_the_commands_tell_it_before_they_begin(root: Path) -> None:
    import typer

    _image(root / "calibration" / "b.png")
    app = typer.Typer()
    app.command()(tell_data_warnings)
    done = CliRunner().invoke(app, [str(root)])
    assert done.exit_code == 0
    assert done.stderr.startswith(f"warning: 1 image takes no part in {root}:\n  calibration/b.png: good images for")

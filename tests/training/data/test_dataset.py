"""Data folders: which images train, which calibrate, which are labelled, and what is said when a folder will not do."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from PIL import Image

from training.data import dataset as data
from training.data.dataset import DataError, good_split, images_in, read_groups, read_pixels
from training.data.proposed_groups import ProposedGroups, write_groups


def _image(path: Path, size: tuple[int, int] = (8, 6), value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def _images(folder: Path, count: int) -> list[Path]:
    return [_image(folder / f"{number:03}.png") for number in range(count)]


def test_a_plain_folder_of_images_is_split_and_nothing_is_in_both_parts(tmp_path: Path) -> None:
    files = _images(tmp_path, 20)
    (tmp_path / "notes.txt").write_text("not an image", encoding="utf-8")
    split = good_split(tmp_path, holdout=0.2, seed=0)
    assert len(split.calibration) == 4
    assert sorted(split.train + split.calibration) == files
    assert split.how == "4 of 20 images of train/good held out"


def test_the_same_seed_gives_the_same_split_and_another_seed_another_one(tmp_path: Path) -> None:
    _images(tmp_path, 40)
    assert good_split(tmp_path, 0.2, seed=1) == good_split(tmp_path, 0.2, seed=1)
    assert good_split(tmp_path, 0.2, seed=1) != good_split(tmp_path, 0.2, seed=2)


def test_train_good_is_used_where_it_exists(tmp_path: Path) -> None:
    nested = _images(tmp_path / "train" / "good", 10)
    _images(tmp_path, 12)
    split = good_split(tmp_path, 0.2, seed=0)
    assert sorted(split.train + split.calibration) == nested


def test_calibration_good_is_used_whole_where_it_exists(tmp_path: Path) -> None:
    train = _images(tmp_path / "train" / "good", 10)
    calibration = _images(tmp_path / "calibration" / "good", 3)
    split = good_split(tmp_path, 0.2, seed=0)
    assert split.train == tuple(train)
    assert split.calibration == tuple(calibration)
    assert split.how == "3 images of calibration/good"


def _write_groups(path: Path, groups: dict[str, str], column: str = "group") -> None:
    rows = [f"file,{column},note", *(f"{file},{group},x" for file, group in groups.items())]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("place", "column"),
    [("groups.csv", "group"), ("part_groups.csv", "part_group"), ("../tile_groups.csv", "tile_group")],
)
def test_images_of_one_group_are_never_on_both_sides(tmp_path: Path, place: str, column: str) -> None:
    root = tmp_path / "tile"  # for the last case the file lies beside the folder, as in magnetic_tile
    files = _images(root / "train" / "good", 30)
    groups = {file.relative_to(root).as_posix(): str(number // 3) for number, file in enumerate(files)}
    _write_groups(root / place, groups, column)
    assert read_groups(root) == groups
    for seed in range(5):
        split = good_split(root, 0.2, seed)
        sides = [{groups[p.relative_to(root).as_posix()] for p in part} for part in (split.train, split.calibration)]
        assert not sides[0] & sides[1]
        assert len(split.calibration) == 6
        assert split.how.endswith("whole groups together")
        assert split.calibration_groups == tuple(groups[p.relative_to(root).as_posix()] for p in split.calibration)


def test_the_split_knows_the_groups_of_calibration_good_and_an_unnamed_image_is_its_own(tmp_path: Path) -> None:
    _images(tmp_path / "train" / "good", 10)
    _images(tmp_path / "calibration" / "good", 3)
    _write_groups(tmp_path / "groups.csv", {"calibration/good/000.png": "a", "calibration/good/002.png": "a"})
    assert good_split(tmp_path, 0.2, seed=0).calibration_groups == ("a", "calibration/good/001.png", "a")


def test_a_group_that_trains_and_calibrates_is_refused_by_its_name(tmp_path: Path) -> None:
    _images(tmp_path / "train" / "good", 10)
    _images(tmp_path / "calibration" / "good", 3)
    _write_groups(tmp_path / "groups.csv", {"calibration/good/000.png": "part-7", "train/good/004.png": "part-7"})
    with pytest.raises(DataError, match=r"group 'part-7' has images to train on and in calibration/good \(1 such"):
        good_split(tmp_path, 0.2, seed=0)


def test_a_single_group_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    files = _images(tmp_path, 12)
    _write_groups(tmp_path / "groups.csv", {file.name: "all" for file in files})
    with pytest.raises(DataError, match=r"leaves 0 of 12 images to train on.*calibration/good"):
        good_split(tmp_path, 0.2, seed=0)


def test_a_file_whose_name_a_spreadsheet_would_calculate_is_written_as_text_and_read_by_its_name(
    tmp_path: Path,
) -> None:
    names = ["=1+1.png", "a;-1.png", "'=own.png"]
    for name in names:
        (tmp_path / name).touch()
    group = tuple(tmp_path / name for name in names)
    write_groups(ProposedGroups(images=group, groups=(group,)), tmp_path, tmp_path / "groups.csv")
    assert (tmp_path / "groups.csv").read_text(encoding="utf-8").split()[1:] == [
        "'=1+1.png,proposed-1",
        "a;'-1.png,proposed-1",
        "''=own.png,proposed-1",
    ]
    assert read_groups(tmp_path) == dict.fromkeys(names, "proposed-1")
    (tmp_path / "groups.csv").write_text("file,group\n'=own.png,by-hand\n", encoding="utf-8")
    assert read_groups(tmp_path) == {"'=own.png": "by-hand"}


def test_a_groups_file_without_the_columns_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("name,batch\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups\.csv has columns \['name', 'batch'\]; it needs `file` and one"):
        read_groups(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_groups_file_is_read_as_spreadsheets_write_it(tmp_path: Path, encoding: str, separator: str) -> None:
    _image(tmp_path / "gehäuse.png")
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    rows = ["file,group", "gehäuse.png,Los 7"]
    text = "\r\n".join(rows).replace(",", separator)
    (tmp_path / "groups.csv").write_bytes(mark + text.encode(encoding))
    assert read_groups(tmp_path) == {"gehäuse.png": "Los 7"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "file,group\na.png,1\ngehäuse.png,2\n".encode("cp1252"),
            r"line 3 of .*groups\.csv is not UTF-8.*Windows-1252.*0xe4",
        ),
        ("file,group\n".encode("utf-16-le"), r"groups\.csv holds bytes of 0, as UTF-16 without .*save it as UTF-8"),
        ("file,group\na.png,1".encode("utf-16")[:-1], r"line 2 of .*groups\.csv is not UTF-16 "),
        (b'file,group\na.png,1\n"b.png,2\n', r"groups\.csv is not CSV from line 2 on .*quotes"),
    ],
    ids=["Windows-1252", "UTF-16 without a mark", "UTF-16, cut off", "an open quote"],
)
def test_a_groups_file_that_cannot_be_read_is_named_with_its_line_and_the_way_out(
    tmp_path: Path, content: bytes, said: str
) -> None:
    _image(tmp_path / "a.png")
    (tmp_path / "groups.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_groups(tmp_path)


def test_too_few_images_are_refused_with_their_number_and_place(tmp_path: Path) -> None:
    _images(tmp_path, 9)
    with pytest.raises(DataError, match=rf"{tmp_path} holds 9 images .*at least 10"):
        good_split(tmp_path, 0.2, seed=0)
    with pytest.raises(DataError, match="nowhere does not exist: give the folder of one class"):
        good_split(tmp_path / "nowhere", 0.2, seed=0)


def test_files_that_are_no_images_by_name_are_left_out(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg"):
        _image(tmp_path / name)
    (tmp_path / "c.txt").touch()
    (tmp_path / "d.png").mkdir()
    assert [p.name for p in images_in(tmp_path)] == ["a.jpeg", "b.PNG"]


def _labelled(root: Path, masks: bool = True) -> None:
    _images(root / "test" / "good", 2)
    for path in _images(root / "test" / "scratch", 2):
        if masks:
            _image(root / "ground_truth" / "scratch" / f"{path.stem}_mask.png", value=255)


def test_labelled_images_come_with_their_masks(tmp_path: Path) -> None:
    _labelled(tmp_path)
    found = data.test_images(tmp_path)
    assert [(i.defect, i.path.name) for i in found] == [
        ("good", "000.png"), ("good", "001.png"), ("scratch", "000.png"), ("scratch", "001.png")
    ]  # fmt: skip
    assert [i.mask.name if i.mask else None for i in found] == [None, None, "000_mask.png", "001_mask.png"]


def test_a_defect_without_a_ground_truth_folder_has_image_labels_only(tmp_path: Path) -> None:
    _labelled(tmp_path, masks=False)
    assert all(image.mask is None for image in data.test_images(tmp_path))


def test_a_missing_mask_is_refused_by_its_name(tmp_path: Path) -> None:
    _labelled(tmp_path)
    (tmp_path / "ground_truth" / "scratch" / "001_mask.png").unlink()
    with pytest.raises(DataError, match=r"001_mask\.png is missing: .*0 good, above 0 defect"):
        data.test_images(tmp_path)


def test_a_test_folder_needs_good_images_and_they_alone_will_do(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"test/good has no images: measuring needs labelled ones"):
        data.test_images(tmp_path)
    _images(tmp_path / "test" / "good", 1)
    assert [image.defect for image in data.test_images(tmp_path)] == ["good"]


@pytest.mark.parametrize("place", ["train/good", "calibration/good", "test/good", "test/scratch"])
def test_a_name_that_no_report_can_hold_is_refused_before_anything_runs(tmp_path: Path, place: str) -> None:
    _images(tmp_path / "train" / "good", 10)
    _labelled(tmp_path)
    _image(tmp_path / place / os.fsdecode(b"00\xe4.png"))
    _image(tmp_path / "ground_truth" / "scratch" / os.fsdecode(b"00\xe4_mask.png"), value=255)
    asked = data.test_images if place.startswith("test") else lambda root: good_split(root, 0.2, seed=0)
    with pytest.raises(DataError, match=rf"{place}/00\\xe4\.png: the path is not UTF-8.*rename it"):
        asked(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    for path in (broken, tmp_path / "absent.png"):
        with pytest.raises(DataError, match=path.name):
            read_pixels(path)


@pytest.mark.skipif(not os.environ.get("GLAD_TEST_DATA"), reason="GLAD_TEST_DATA names no folder of real images")
def test_magnetic_tile_is_read_as_it_is() -> None:
    root = Path(os.environ["GLAD_TEST_DATA"]) / "magnetic_tile" / "tile"
    if not root.is_dir():
        pytest.skip(f"{root} does not exist")
    groups = read_groups(root)
    split = good_split(root, 0.2, seed=0)
    sides = [{groups[p.relative_to(root).as_posix()] for p in part} for part in (split.train, split.calibration)]
    assert not sides[0] & sides[1]
    found = data.test_images(root)
    assert {i.defect for i in found} == {"good", "blowhole", "break", "crack", "fray", "uneven"}
    assert all((i.mask is None) == (i.defect == "good") for i in found)
    assert all(i.group for i in found)
    assert read_pixels(found[0].path).ndim == 3

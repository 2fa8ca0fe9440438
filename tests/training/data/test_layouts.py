"""Data layouts: each is read as it is published, and the first file that does not fit is named, with the way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from training.data import dataset as data
from training.data.dataset import DataError, FolderLayout, good_split, list_classes, open_dataset

REAL = os.environ.get("GLAD_TEST_DATA", "")
HEADER = "object,split,label,image,mask"


def _image(path: Path, size: tuple[int, int] = (8, 6), value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path, format="JPEG" if path.suffix.lower() == ".jpg" else None)
    return path


def _mvtec(root: Path, defect: str = "scratch", mask: str = "{}_mask.png", suffix: str = ".png") -> Path:
    """10 good to train on, 2 good and 2 defects to test, as MVTec-AD has it."""
    for number in range(10):
        _image(root / "train" / "good" / f"{number:03}{suffix}")
    for number in range(2):
        _image(root / "test" / "good" / f"{number:03}{suffix}")
        _image(root / "test" / defect / f"{number:03}{suffix}")
        _image(root / "ground_truth" / defect / mask.format(f"{number:03}"), value=255)
    return root


def _visa(root: Path, name: str = "candle", split: str = "split_csv/1cls.csv") -> Path:
    """The same numbers as VisA is downloaded; returns the class's folder."""
    rows = [HEADER]
    for number in range(14):
        kind, label = ("Normal", "normal") if number < 12 else ("Anomaly", "anomaly")
        image = f"{name}/Data/Images/{kind}/{number:03}.JPG"
        mask = f"{name}/Data/Masks/Anomaly/{number:03}.png" if kind == "Anomaly" else ""
        _image(root / image)
        if mask:
            _image(root / mask, value=3)  # the number of a class of defects
        rows.append(f"{name},{'train' if number < 10 else 'test'},{label},{image},{mask}")
    _write(root / split, rows)
    return root / name


def _write(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _masks(dataset: data.Dataset) -> list[str | None]:
    return [image.mask.name if image.mask else None for image in dataset.test]


# What each layout holds


@pytest.mark.parametrize(
    ("defect", "mask", "suffix"),
    [
        ("scratch", "{}_mask.png", ".png"),  # MVTec-AD, MPDD
        ("bad", "{}.png", ".JPG"),  # VisA and PCB-Bank after their preparation scripts
        ("scratch", "{}_mask.PNG", ".jpg"),
        ("scratch", "{}_mask.tif", ".bmp"),
    ],
)
def test_mvtec_and_its_relatives_are_read_whole(tmp_path: Path, defect: str, mask: str, suffix: str) -> None:
    found = open_dataset(_mvtec(tmp_path / "bottle", defect, mask, suffix))
    assert (found.layout, len(found.train), found.calibration, found.groups) == (FolderLayout.MVTEC, 10, (), {})
    assert sorted((image.defect, image.path.name) for image in found.test) == sorted(
        (kind, f"{number:03}{suffix}") for kind in (defect, "good") for number in range(2)
    )
    assert {image.mask.name if image.mask else None for image in found.test if image.defect == defect} == {
        mask.format("000"), mask.format("001")
    }  # fmt: skip
    assert all(image.mask is None for image in found.test if image.defect == "good")


@pytest.mark.parametrize("split", ["split_csv/1cls.csv", "1cls.csv", "1cls_clear.csv"])
def test_visa_and_pcb_bank_are_read_as_downloaded(tmp_path: Path, split: str) -> None:
    root = _visa(tmp_path, split=split)
    found = open_dataset(root)
    assert found.layout is FolderLayout.VISA
    assert [path.name for path in found.train] == [f"{number:03}.JPG" for number in range(10)]
    assert [(image.defect, image.path.name) for image in found.test] == [
        ("good", "010.JPG"), ("good", "011.JPG"), ("anomaly", "012.JPG"), ("anomaly", "013.JPG")
    ]  # fmt: skip
    assert _masks(found) == [None, None, "012.png", "013.png"]
    split_found = good_split(root, 0.2, seed=0)
    assert set(split_found.train) | set(split_found.calibration) == set(found.train)
    assert split_found.how == "2 of 10 images of the split train held out"


def test_a_class_of_visa_may_be_given_as_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_visa(tmp_path))
    assert len(open_dataset(Path()).train) == 10
    assert data.test_images(Path())[0].path == Path("Data/Images/Normal/010.JPG")


def test_a_plain_folder_needs_nothing_else_and_may_have_a_test(tmp_path: Path) -> None:
    for number in range(10):
        _image(tmp_path / f"{number}.png")
    assert open_dataset(tmp_path).layout is FolderLayout.PLAIN
    assert open_dataset(tmp_path).test == ()
    _image(tmp_path / "test" / "good" / "a.png")
    _image(tmp_path / "test" / "dent" / "b.png")
    assert [image.defect for image in open_dataset(tmp_path).test] == ["dent", "good"]


def test_calibration_images_and_groups_work_in_every_layout(tmp_path: Path) -> None:
    mvtec, visa = _mvtec(tmp_path / "bottle"), _visa(tmp_path)
    for root, trained, tested in (
        (mvtec, "train/good/000.png", "test/good/000.png"),
        (visa, "Data/Images/Normal/000.JPG", "Data/Images/Normal/010.JPG"),
    ):
        extra = _image(root / "calibration" / "good" / "c.png")
        _write(root / "groups.csv", ["file,group", f"{trained},a", f"{tested},b"])
        found = open_dataset(root)
        assert found.calibration == (extra,)
        assert found.groups == {trained: "a", tested: "b"}
        assert {i.group for i in found.test if i.path == root / tested} == {"b"}
        assert good_split(root, 0.2, seed=0).calibration == (extra,)


def test_groups_hold_together_in_visa(tmp_path: Path) -> None:
    root = _visa(tmp_path)
    rows = [f"Data/Images/Normal/{number:03}.JPG,{number // 2}" for number in range(10)]
    _write(tmp_path / "candle_groups.csv", ["file,part_group", *rows])
    for seed in range(4):
        split = good_split(root, 0.2, seed)
        assert len({int(path.stem) // 2 for path in split.calibration}) == 1  # 2 images of 10: one whole pair
        assert not {int(p.stem) // 2 for p in split.calibration} & {int(p.stem) // 2 for p in split.train}


def test_a_mask_without_an_image_is_passed_over(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    _image(root / "ground_truth" / "scratch" / "777_mask.png")
    (root / "ground_truth" / "hole").mkdir()  # a defect that this copy of the data does not have
    assert len(open_dataset(root).test) == 4


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    (root / "train" / "good" / "._000.png").write_bytes(b"macOS")
    (root / "test" / ".ipynb_checkpoints").mkdir()
    assert len(open_dataset(root).train) == 10


# What is refused


def test_a_broken_test_folder_does_not_stop_training(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    (root / "test" / "scratch" / "000.png").write_bytes(b"")
    assert len(good_split(root, 0.2, seed=0).train) == 8
    for opened in (open_dataset, data.test_images):
        with pytest.raises(DataError, match=r"test/scratch/000\.png has 0 bytes"):
            opened(root)


def test_a_broken_training_image_is_named_before_anything_runs(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    (root / "train" / "good" / "003.png").write_bytes(b"GIF89a not one of ours")
    with pytest.raises(DataError, match=r"train/good/003\.png: the content is a GIF image: convert it"):
        good_split(root, 0.2, seed=0)
    (root / "train" / "good" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing of a PNG")
    with pytest.raises(DataError, match=r"train/good/003\.png: the header cannot be read"):
        good_split(root, 0.2, seed=0)


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    _image(root / "ground_truth" / "scratch" / "001_mask.png", size=(6, 8))
    with pytest.raises(DataError, match=r"001_mask\.png is 6×8, its image .*001\.png is 8×6"):
        data.test_images(root)


def test_a_lossy_mask_is_refused_by_its_content(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    Image.new("L", (8, 6)).save(root / "ground_truth" / "scratch" / "001_mask.png", format="JPEG")
    with pytest.raises(DataError, match=r"001_mask\.png is JPEG.*make it again as PNG"):
        data.test_images(root)


@pytest.mark.parametrize(("name", "said"), [("001_MASK.png", "upper and lower case"), ("001_mask.jpg", "suffix")])
def test_a_missing_mask_is_told_with_what_lies_in_its_place(tmp_path: Path, name: str, said: str) -> None:
    root = _mvtec(tmp_path)
    folder = root / "ground_truth" / "scratch"
    (folder / "001_mask.png").rename(folder / name)
    with pytest.raises(DataError, match=rf"called 001_mask\.png or 001\.png .*; {name} lies there.*{said}"):
        data.test_images(root)


def test_ground_truth_under_another_name_is_not_taken_for_none(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    (root / "ground_truth" / "scratch").rename(root / "ground_truth" / "Scratch")
    with pytest.raises(DataError, match=r"ground_truth/scratch is missing .*ground_truth/Scratch belongs to no"):
        data.test_images(root)


def test_an_empty_folder_of_a_defect_is_named(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    (root / "test" / "dent").mkdir()
    with pytest.raises(DataError, match=r"test/dent has no images"):
        data.test_images(root)


@pytest.mark.parametrize("place", ["train/good", "test/good", "test/scratch"])
def test_an_image_of_a_format_that_is_not_read_is_named_not_missed(tmp_path: Path, place: str) -> None:
    root = _mvtec(tmp_path)
    (root / place / "odd.gif").touch()
    with pytest.raises(DataError, match=rf"{place}/odd\.gif: \.gif files are not read.*convert it to PNG"):
        open_dataset(root)


def test_one_file_may_not_train_and_test(tmp_path: Path) -> None:
    root = _mvtec(tmp_path)
    (root / "test" / "good" / "twin.png").symlink_to(root / "train" / "good" / "004.png")
    with pytest.raises(DataError, match=r"twin\.png is the same file as .*train/good/004\.png"):
        data.test_images(root)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("object,split", "object,part", "lacks the column split: it needs object, split, label, image, mask"),
        ("candle,train,normal", "candle,val,normal", r"line 2 of .* has split 'val'; it must be train or test"),
        ("candle,test,anomaly", "candle,test,bent", r"line 14 of .* has label 'bent'; it must be normal or anomaly"),
        ("candle,test,anomaly", "candle,train,anomaly", r"line 14 of .* trains on an anomaly"),
        ("candle/Data/Images/Normal/000", "Data/Images/Normal/000", r"line 2 .*paths begin with the class's folder"),
        ("candle/Data/Images/Normal/000", "candle/../x/000", r"line 2 .*paths begin with the class's folder"),
        ("Normal/001.JPG", "Normal/000.JPG", r"Normal/000\.JPG in lines 2 and 3"),
        ("Normal/000.JPG", "Normal/500.JPG", r"Normal/500\.JPG is missing: line 2 of .*1cls\.csv names it"),
        ("Normal/000.JPG", "Normal/000.jpg", r"000\.jpg is missing: .*000\.JPG lies there: rename it"),
        ("Anomaly/012.png", "Anomaly/012.bmp", r"012\.bmp is missing: .*012\.png lies there, with another suffix"),
        (",candle/Data/Masks/Anomaly/012.png", ",", r"line 14 of .* has no mask"),
    ],
)
def test_each_fault_of_the_split_csv_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    root = _visa(tmp_path)
    _edit(tmp_path / "split_csv" / "1cls.csv", old, new)
    with pytest.raises(DataError, match=said):
        open_dataset(root)


def test_a_split_csv_of_another_encoding_is_named(tmp_path: Path) -> None:
    root = _visa(tmp_path)
    split = tmp_path / "split_csv" / "1cls.csv"
    split.write_bytes(split.read_bytes() + b"t\xfcr,train,normal,t\xfcr/a.png,\n")
    with pytest.raises(DataError, match=r"line 16 of .*1cls\.csv is not UTF-8, but probably Windows-1252"):
        open_dataset(root)


def test_an_image_in_both_splits_of_the_csv_is_refused(tmp_path: Path) -> None:
    root = _visa(tmp_path)
    image = "candle/Data/Images/Normal/000.JPG"
    _edit(tmp_path / "split_csv" / "1cls.csv", HEADER, f"{HEADER}\ncandle,test,normal,{image},")
    with pytest.raises(DataError, match=r"000\.JPG in lines 2 and 3: each image is named once"):
        good_split(root, 0.2, seed=0)


def test_a_missing_test_file_of_visa_does_not_stop_training(tmp_path: Path) -> None:
    root = _visa(tmp_path)
    (root / "Data" / "Masks" / "Anomaly" / "013.png").unlink()
    assert len(good_split(root, 0.2, seed=0).train) == 8
    with pytest.raises(DataError, match=r"Masks/Anomaly/013\.png is missing: line 15 of"):
        data.test_images(root)


def test_visa_without_its_csv_or_with_another_classes_csv_is_refused(tmp_path: Path) -> None:
    root = _visa(tmp_path)
    other = root.rename(tmp_path / "kerze")
    with pytest.raises(DataError, match=r"1cls\.csv has no rows for kerze; its objects are candle"):
        good_split(other, 0.2, seed=0)
    (tmp_path / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(DataError, match=r"split_csv/1cls\.csv is missing: .*also looked for 1cls\.csv"):
        good_split(other, 0.2, seed=0)


def test_a_whole_data_set_in_place_of_a_class_is_told_with_its_classes(tmp_path: Path) -> None:
    for name in ("cable", "bottle"):
        _mvtec(tmp_path / name)
    for opened in (open_dataset, data.test_images, lambda root: good_split(root, 0.2, seed=0)):
        with pytest.raises(DataError, match=rf"2 class folders \(bottle, cable\), give one of them: {tmp_path}/bottle"):
            opened(tmp_path)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("Train/good/a.png", "Train lies there: rename it"),
        ("train/Good/a.png", "Good lies there: rename it"),
        ("data/Images/a.png", "data lies there: rename it"),
        ("good/a.png", r"; good holds images: give .*/good, or move the good ones to train/good"),
        ("train/ok/a.png", r"; train/ok holds images: give .*/train/ok, or move the good ones to train/good"),
        ("a.gif", r"a\.gif: \.gif files are not read"),
        ("notes.txt", r"it holds notes\.txt"),
    ],
)
def test_a_folder_without_a_layout_is_told_what_lies_in_its_place(tmp_path: Path, made: str, said: str) -> None:
    (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / made).touch()
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path)


@pytest.mark.parametrize("part", ["test", "ground_truth"])
def test_a_part_of_a_class_is_told_with_the_class_and_not_with_a_folder_of_defects(tmp_path: Path, part: str) -> None:
    root = _mvtec(tmp_path / "bottle")
    with pytest.raises(DataError, match=rf"it is a part of {root}, give that$"):
        good_split(root / part, 0.2, seed=0)


def test_of_several_folders_with_images_none_is_proposed(tmp_path: Path) -> None:
    for kind in ("gut", "schlecht"):
        _image(tmp_path / kind / "a.png")
    with pytest.raises(DataError, match=r"; gut, schlecht hold images: move the good ones to train/good, or give the"):
        good_split(tmp_path, 0.2, seed=0)


@pytest.mark.parametrize("kind", ["good", "scratch"])
def test_a_mask_beside_its_image_is_not_measured_as_a_part(tmp_path: Path, kind: str) -> None:
    root = _mvtec(tmp_path / "bottle")
    _image(root / "test" / kind / "000_mask.png", value=255)
    with pytest.raises(
        DataError, match=rf"000_mask\.png is the mask of an image .*: move masks to {root}/ground_truth/"
    ):
        data.test_images(root)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png is a file: give the folder"):
        good_split(_image(tmp_path / "a.png"), 0.2, seed=0)


def test_groups_may_be_written_with_the_backslashes_and_line_ends_of_windows(tmp_path: Path) -> None:
    root = _mvtec(tmp_path / "bottle")
    (root / "groups.csv").write_bytes("\ufefffile;group\r\ntrain\\good\\000.png;Prüfling 1\r\n".encode())
    assert data.read_groups(root) == {"train/good/000.png": "Prüfling 1"}


def test_groups_that_name_no_file_here_are_refused(tmp_path: Path) -> None:
    root = _mvtec(tmp_path / "bottle")
    _write(root / "groups.csv", ["file,group", "003.png,a"])
    with pytest.raises(
        DataError,
        match=r"names '003\.png', and neither that nor any other .* that folder, such as train/good/000\.png$",
    ):
        good_split(root, 0.2, seed=0)
    _write(root / "groups.csv", ["file,group", "train/good/000.png"])
    with pytest.raises(DataError, match=r"line 2 of .*groups\.csv lacks a file or its group"):
        good_split(root, 0.2, seed=0)


# A data set's classes


def test_the_classes_of_a_data_set_are_listed_whatever_their_layout(tmp_path: Path) -> None:
    _mvtec(tmp_path / "bottle")
    _visa(tmp_path)
    (tmp_path / "notes").mkdir()
    assert list_classes(tmp_path) == ("bottle", "candle")  # neither notes nor split_csv


def test_a_folder_without_classes_says_where_they_are(tmp_path: Path) -> None:
    bottle = _mvtec(tmp_path / "outer" / "mvtec" / "bottle")
    with pytest.raises(DataError, match=r"outer holds no class folders, but .*outer/mvtec does \(bottle\)"):
        list_classes(tmp_path / "outer")
    with pytest.raises(DataError, match=r"bottle is one class, not a folder of classes: give .*outer/mvtec$"):
        list_classes(bottle)
    with pytest.raises(DataError, match=r"holds no class folders, that is, .*it holds outer"):
        list_classes(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        list_classes(tmp_path / "nowhere")


@pytest.mark.skipif(not REAL, reason="GLAD_TEST_DATA names no folder of real images")
@pytest.mark.parametrize(
    ("category", "train", "good", "defects"),  # the numbers that the data sets' descriptions give
    [
        ("magnetic_tile/tile", 360, 113, 203),
        ("bsd/spindle", 318, 282, 80),
        ("elpv/mono", 448, 140, 313),
        ("mvtec_reduced/hazelnut", 50, 2, 8),
        ("mvtec_reduced/transistor", 50, 2, 8),
    ],
)
def test_real_categories_are_opened_whole(category: str, train: int, good: int, defects: int) -> None:
    root = Path(REAL) / category
    if not root.is_dir():
        pytest.skip(f"{root} does not exist")
    found = open_dataset(root)
    labels = [image.defect for image in found.test]
    assert (len(found.train), labels.count("good"), len(labels) - labels.count("good")) == (train, good, defects)
    assert root.name in list_classes(root.parent)

"""VisA's layout, as VisA and PCB-Bank are downloaded: images and masks under Data/, one CSV that splits all classes.

The CSV lies beside the class folders. Its columns are object, split (train or test), label (normal or anomaly), image
and mask; its paths begin with the class's name. Only the class that is asked for is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.data.csv_files import read_csv
from training.data.image_files import DataError
from training.data.layouts import TestImage, look_alike

COLUMNS = ("object", "split", "label", "image", "mask")
SPLIT_FILES = ("split_csv/1cls.csv", "1cls.csv", "split_csv/1cls_clear.csv", "1cls_clear.csv")
"""Places of the one-class split, relative to the data set's folder: VisA's, then those of PCB-Bank's name for it."""
DEFECT = "anomaly"


@dataclass(frozen=True)
class SplitRow:
    """An image of a class, as the CSV has it."""

    line: int
    training: bool
    good: bool
    image: Path
    mask: Path | None


def training_images(root: Path) -> tuple[Path, ...]:
    """Return the class's images of the split `train`, by path.

    Raises:
        DataError: if the CSV is not usable, or a file is missing.
    """
    split_file, rows = find_split_file(root), read_split(root)
    return tuple(sorted(_present(row.image, row, split_file) for row in rows if row.training))


def labelled_images(root: Path) -> tuple[TestImage, ...]:
    """Return the class's images of the split `test`, good ones first, then by path; all defects are called "anomaly".

    Raises:
        DataError: the CSV is not usable, an image or a mask is missing, or the split has no good images.
    """
    split_file, rows = find_split_file(root), [row for row in read_split(root) if not row.training]
    if not any(row.good for row in rows):
        raise DataError(f"{split_file} has no rows of split test and label normal for {class_name(root)}")
    return tuple(_labelled(row, split_file) for row in sorted(rows, key=lambda row: (not row.good, row.image)))


def _labelled(row: SplitRow, split_file: Path) -> TestImage:
    image = _present(row.image, row, split_file)
    if row.good:
        return TestImage(image, "good", None)
    if row.mask is None:
        raise DataError(f"line {row.line} of {split_file} has no mask: {image} is an anomaly, and each needs one")
    return TestImage(image, DEFECT, _present(row.mask, row, split_file))


def _present(path: Path, row: SplitRow, split_file: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing: line {row.line} of {split_file} names it{look_alike(path)}")
    return path


def class_name(root: Path) -> str:
    """Return the name of a class: its folder's, also where the folder is given as `.`."""
    return Path(os.path.abspath(root)).name


def find_split_file(root: Path) -> Path:
    """Return the CSV beside the class's folder.

    Raises:
        DataError: if there is none; names the places where it was looked for.
    """
    dataset = Path(os.path.abspath(root)).parent
    split_file = next((dataset / name for name in SPLIT_FILES if (dataset / name).is_file()), None)
    if split_file is None:
        raise DataError(
            f"{dataset / SPLIT_FILES[0]} is missing: {root} has VisA's layout (Data/Images), and the CSV says which "
            f"images train and which test; also looked for {', '.join(SPLIT_FILES[1:])} in {dataset}"
        )
    return split_file


def read_split(root: Path) -> tuple[SplitRow, ...]:
    """Return the class's rows of the CSV, in its order, with all values checked.

    Whether the files exist is not checked here.

    Raises:
        DataError: the CSV not readable, a column missing, the class not in the CSV, a value or a path out of place, an
            image twice.
    """
    path, name = find_split_file(root), class_name(root)
    table = read_csv(path)
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"{path} lacks the column {missing[0]}: it needs {', '.join(COLUMNS)}")
    rows = tuple(
        _row(root, f"line {line.number} of {path}", line.number, line.fields)
        for line in table.lines
        if line.fields["object"] == name
    )
    if not rows:
        classes = ", ".join(sorted({line.fields["object"] or "" for line in table.lines})) or "none"
        raise DataError(f"{path} has no rows for {name}; its objects are {classes}: the folder must be called like one")
    _refuse_twice(rows, path)
    return rows


def _row(root: Path, where: str, line: int, fields: Mapping[str, str | None]) -> SplitRow:
    split = _one_of(("train", "test"), "split", fields, where)
    label = _one_of(("normal", DEFECT), "label", fields, where)
    if split == "train" and label != "normal":
        raise DataError(f"{where} trains on an anomaly; training takes good images alone: use the split 1cls.csv")
    mask = fields["mask"]
    return SplitRow(
        line=line,
        training=split == "train",
        good=label == "normal",
        image=_inside(root, fields["image"] or "", where),
        mask=_inside(root, mask, where) if mask else None,
    )


def _one_of(allowed: tuple[str, ...], column: str, fields: Mapping[str, str | None], where: str) -> str:
    value = fields[column]
    if value not in allowed:
        raise DataError(f"{where} has {column} {value!r}; it must be {' or '.join(allowed)}")
    return value


def _inside(root: Path, value: str, where: str) -> Path:
    parts = PurePosixPath(value).parts
    if len(parts) < 2 or parts[0] != class_name(root) or ".." in parts:
        raise DataError(
            f"{where} names {value!r}; paths begin with the class's folder: {class_name(root)}/Data/Images/…"
        )
    return root.joinpath(*parts[1:])


def _refuse_twice(rows: tuple[SplitRow, ...], path: Path) -> None:
    lines: dict[Path, int] = {}
    for row in rows:
        if row.image in lines:
            raise DataError(
                f"{path} names {row.image} in lines {lines[row.image]} and {row.line}: each image is named once"
            )
        lines[row.image] = row.line

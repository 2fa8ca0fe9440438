"""The data of one class, whatever its layout: what trains, calibrates, is labelled. Checked before anything runs.

docs/data.md draws the layouts. In every layout there may also be:

DIR/calibration/good/*      good images for the thresholds
DIR/groups.csv, DIR/<anything>_groups.csv, or one beside DIR: columns `file` and one that ends in `group`

Images are checked by their headers: readable, not too large, a mask of the image's size. What is checked is what is
asked for: a broken test/ does not stop training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glad.image_codec import SUFFIXES
from model_store.csv_lines import unguarded
from training.data import layouts, visa
from training.data.csv_files import read_csv
from training.data.image_files import (
    DataError,
    check_image,
    images_in,
    read_pixels,
    refuse_shared,
    refuse_unsupported,
)
from training.data.layouts import FolderLayout, TestImage, detect_layout, list_classes, look_alike
from training.data.masks import check_mask, read_mask, read_truth, refuse_shared_masks

__all__ = [
    "DataError",
    "Dataset",
    "FolderLayout",
    "Split",
    "TestImage",
    "good_split",
    "images_in",
    "list_classes",
    "list_good_images",
    "open_dataset",
    "read_groups",
    "read_mask",
    "read_pixels",
    "read_truth",
    "test_images",
]

LEAST_GOOD = 10  # good images without which no training begins
LEAST_TRAIN = 4  # of them, after some were held out for calibration


@dataclass(frozen=True)
class Dataset:
    """The images of one class's folder, all of them checked."""

    root: Path
    layout: FolderLayout
    train: tuple[Path, ...]
    """Good images to learn from."""
    calibration: tuple[Path, ...]
    """Good images for the thresholds; () where a share of `train` is to be held out."""
    test: tuple[TestImage, ...]
    """Labelled images with their masks; () where there are none."""
    groups: Mapping[str, str]
    """File, relative to the root -> group; empty without a groups file."""


@dataclass(frozen=True)
class Split:
    """Good images to train on and, disjoint from them, to calibrate on."""

    train: tuple[Path, ...]
    calibration: tuple[Path, ...]
    how: str
    calibration_groups: tuple[str, ...] = ()
    """The group of each calibration image, in their order; () where each is a group of its own."""
    train_groups: tuple[str, ...] = ()
    """The same of the training images."""


def open_dataset(root: Path) -> Dataset:
    """Return all that one class's folder holds, with every file checked by its header.

    Raises:
        DataError: for the first file that is missing, unreadable or does not fit; says what was expected, and what
            to do.
    """
    layout = detect_layout(root)
    train, calibration = _good_images(root, layout, at_least=1)
    has_test = layout is FolderLayout.VISA or (root / "test").exists()
    return Dataset(root, layout, train, calibration, test_images(root) if has_test else (), read_groups(root))


def good_split(root: Path, holdout: float, seed: int) -> Split:
    """Return the training and the calibration images: those of calibration/good where it exists, else a held-out share.

    Images of one group are held out together. The split says which group each calibration image belongs to.

    Args:
        root: the folder of one class, or of good images.
        holdout: share of the training images held out when there is no calibration/good.

    Raises:
        DataError: for an image that cannot be used, a group that trains and calibrates, or too few images to train on
            or to hold any out.
    """
    layout = detect_layout(root)
    train, calibration = _good_images(root, layout, at_least=LEAST_GOOD)
    groups = read_groups(root)
    if calibration:
        _refuse_shared_groups(root, train, calibration, groups)
        how = f"{len(calibration)} images of calibration/good"
        return Split(train, calibration, how, groups_of(root, calibration, groups), groups_of(root, train, groups))
    held_out = _hold_out(root, train, groups, holdout, seed)
    kept = tuple(p for p in train if p not in held_out)
    if len(kept) < LEAST_TRAIN:
        raise DataError(
            f"holding out whole groups for calibration leaves {len(kept)} of {len(train)} images to train on, at least "
            f"{LEAST_TRAIN} are needed: put good images of other groups into {root / 'calibration' / 'good'}"
        )
    source = "the split train" if layout is FolderLayout.VISA else "train/good"
    how = f"{len(held_out)} of {len(train)} images of {source} held out" + (", whole groups together" if groups else "")
    calibration = tuple(sorted(held_out))
    return Split(kept, calibration, how, groups_of(root, calibration, groups), groups_of(root, kept, groups))


def groups_of(root: Path, paths: Sequence[Path], groups: Mapping[str, str]) -> tuple[str, ...]:
    """Return the group of each image under `root`: its own name where the groups file does not name it."""
    names = [path.relative_to(root).as_posix() for path in paths]
    return tuple(groups.get(name, name) for name in names)


def _refuse_shared_groups(
    root: Path, train: Sequence[Path], calibration: Sequence[Path], groups: Mapping[str, str]
) -> None:
    """Refuse a group on both sides: its images would score too low, and the thresholds would promise too much."""
    shared = set(groups_of(root, train, groups)) & set(groups_of(root, calibration, groups))
    if shared:
        raise DataError(
            f"group {min(shared)!r} has images to train on and in calibration/good ({len(shared)} such groups); "
            "thresholds need parts that nothing was trained on: put all images of one group on one side"
        )


def _hold_out(
    root: Path, train: Sequence[Path], groups: Mapping[str, str], holdout: float, seed: int
) -> frozenset[Path]:
    return draw_whole_groups(train, groups_of(root, train, groups), holdout, seed)


def draw_whole_groups(paths: Sequence[Path], groups: Sequence[str], share: float, seed: int) -> frozenset[Path]:
    """Return the images of groups that are drawn until they hold a share of all images.

    Args:
        paths: of the images.
        groups: of each image, in their order.
        share: of the images, between 0 and 1.
        seed: of the draw.
    """
    by_group: dict[str, list[Path]] = {}
    for path, group in zip(paths, groups, strict=True):
        by_group.setdefault(group, []).append(path)
    names = sorted(by_group)
    drawn: list[Path] = []
    for index in np.random.Generator(np.random.Philox(seed)).permutation(len(names)):
        if len(drawn) >= share * len(paths):
            break
        drawn.extend(by_group[names[index]])
    return frozenset(drawn)


def test_images(root: Path) -> tuple[TestImage, ...]:
    """Return all labelled images with their masks, good ones and each kind of defect, checked.

    Images are checked by their headers, masks are read whole. A folder with good images alone will do: it measures
    false rejects. A defect may have image labels only.

    Raises:
        DataError: for no good images, an unreadable image, a mask that is missing, has another size or cannot be the
            truth, or an image that also trains.
    """
    layout = detect_layout(root)
    images = visa.labelled_images(root) if layout is FolderLayout.VISA else layouts.mvtec_images(root)
    refuse_shared_masks((image.path, image.mask) for image in images)
    for image in images:
        header = check_image(image.path)
        if image.mask is not None:
            check_mask(image.mask, image.path, header)
    refuse_shared(list_good_images(root), [image.path for image in images], "training or calibration and in the test")
    groups = read_groups(root)
    return tuple(replace(image, group=groups.get(image.path.relative_to(root).as_posix())) for image in images)


def list_good_images(root: Path) -> tuple[Path, ...]:
    """Return the good images to train and to calibrate on, unchecked.

    Raises:
        DataError: if the folder has no layout, or VisA's CSV is not usable.
    """
    return (*_training_images(root, detect_layout(root)), *_calibration_images(root))


def _good_images(root: Path, layout: FolderLayout, at_least: int) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the training and the calibration images, checked."""
    train, calibration = _training_images(root, layout), _calibration_images(root)
    refuse_unsupported(root / "calibration" / "good")
    place = root / "Data" / "Images" if layout is FolderLayout.VISA else layouts.good_folder(root)
    refuse_unsupported(place)
    if len(train) < at_least:
        raise DataError(
            f"{place} holds {len(train)} images to train on ({', '.join(sorted(SUFFIXES))}); "
            f"at least {at_least} good ones are needed{look_alike(place)}"
        )
    for path in (*train, *calibration):
        check_image(path)
    refuse_shared(train, calibration, "training and in the calibration")
    return train, calibration


def _training_images(root: Path, layout: FolderLayout) -> tuple[Path, ...]:
    return visa.training_images(root) if layout is FolderLayout.VISA else images_in(layouts.good_folder(root))


def _calibration_images(root: Path) -> tuple[Path, ...]:
    return images_in(root / "calibration" / "good")


def find_groups_file(root: Path) -> Path | None:
    """Return the groups file that lies in or beside a folder; None if there is none."""
    candidates = [root / "groups.csv", *sorted(root.glob("*_groups.csv")), root.parent / f"{root.name}_groups.csv"]
    return next((p for p in candidates if p.is_file()), None)


def read_groups(root: Path) -> dict[str, str]:
    """Return the group of each file (relative to the root, forward slashes).

    Empty where no groups file lies in or beside the root.

    Raises:
        DataError: it cannot be read, a column or a value is missing, or not one of the files that it names exists.
    """
    path = find_groups_file(root)
    if path is None:
        return {}
    table = read_csv(path)
    column = next((name for name in table.columns if name.endswith("group")), None)
    if column is None or "file" not in table.columns:
        raise DataError(f"{path} has columns {list(table.columns)}; it needs `file` and one that ends in `group`")
    groups: dict[str, str] = {}
    for line in table.lines:
        file, group = line.fields["file"], line.fields[column]
        if not file or not group:
            raise DataError(f"line {line.number} of {path} lacks a file or its {column}: {dict(line.fields)}")
        groups[_existing_name(file, root)] = group
    if groups and not any((root / name).is_file() for name in groups):
        example = next((image.relative_to(root).as_posix() for image in list_good_images(root)), "train/good/000.png")
        raise DataError(
            f"{path} names {next(iter(groups))!r}, and neither that nor any other of its files lies in {root}: "
            f"its paths are relative to that folder, such as {example}"
        )
    return groups


def _existing_name(file: str, root: Path) -> str:
    """Return a path as it is written here, if it was written with the backslashes of Windows or an apostrophe that
    keeps a spreadsheet from calculating it."""
    if not {"\\", "'"} & set(file) or (root / file).is_file():
        return file
    plain = unguarded(file)
    return plain if (root / plain).is_file() else plain.replace("\\", "/")

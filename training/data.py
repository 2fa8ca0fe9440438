"""Folders of images: the MVTec-AD layout, or just a folder of good images. Checked before anything long begins.

DIR/train/good/*            good images to learn from   (or DIR/* itself)
DIR/calibration/good/*      good images for the thresholds (optional)
DIR/test/good/*, DIR/test/<defect>/*
DIR/ground_truth/<defect>/<stem>_mask.png
DIR/groups.csv, DIR/<anything>_groups.csv, or one beside DIR: columns `file` and one that ends in `group` (optional)
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glad.imaging import ImageError, decode_image
from glad.placement import Placement, fit

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
LEAST_GOOD = 10  # good images without which no training begins
LEAST_TRAIN = 4  # of them, after some were held out for calibration


class DataError(ValueError):
    """A data folder that cannot be used; names the first bad path, what was expected and the fix."""


@dataclass(frozen=True)
class Split:
    """Good images to train on and, disjoint from them, to calibrate on."""

    train: tuple[Path, ...]
    calibration: tuple[Path, ...]
    how: str


@dataclass(frozen=True)
class TestImage:
    """One labelled image: defect "good" has no mask; a defect's mask may be missing (image label only)."""

    path: Path
    defect: str
    mask: Path | None
    group: str | None = None


@dataclass(frozen=True)
class Fitted:
    """One image as the models see it: pixels (S, S, 3) uint8; valid (S, S), False in the padding."""

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    placement: Placement


def images_in(folder: Path) -> tuple[Path, ...]:
    """The image files directly in a folder, by name."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()))


def read_groups(root: Path) -> dict[str, str]:
    """File (relative to the root, forward slashes) -> group; {} where no groups file lies in or beside the root."""
    candidates = [root / "groups.csv", *sorted(root.glob("*_groups.csv")), root.parent / f"{root.name}_groups.csv"]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        column = next((name for name in rows.fieldnames or () if name.endswith("group")), None)
        if column is None or "file" not in (rows.fieldnames or ()):
            raise DataError(f"{path} has columns {rows.fieldnames}; it needs `file` and one that ends in `group`")
        return {row["file"]: row[column] for row in rows}


def good_split(root: Path, holdout: float, seed: int) -> Split:
    """Training and calibration images: calibration/good where it exists, else a held-out share, whole groups together.

    Args:
        root: the data folder.
        holdout: share of train/good held out when there is no calibration/good.

    Raises:
        DataError: no images, or too few to hold any out.
    """
    nested = root / "train" / "good"
    train = images_in(nested) if nested.is_dir() else images_in(root)
    if len(train) < LEAST_GOOD:
        where = nested if nested.is_dir() else root
        raise DataError(
            f"{where} holds {len(train)} images ({', '.join(sorted(SUFFIXES))}); "
            f"at least {LEAST_GOOD} good ones are needed"
        )
    calibration = images_in(root / "calibration" / "good")
    if calibration:
        return Split(train, calibration, f"{len(calibration)} images of calibration/good")
    groups = read_groups(root)
    by_group: dict[str, list[Path]] = {}
    for path in train:
        name = path.relative_to(root).as_posix()
        by_group.setdefault(groups.get(name, name), []).append(path)
    names = sorted(by_group)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(names))
    held: list[Path] = []
    for index in order:
        if len(held) >= holdout * len(train):
            break
        held.extend(by_group[names[index]])
    kept = tuple(p for p in train if p not in set(held))
    if len(kept) < LEAST_TRAIN:
        raise DataError(
            f"holding out whole groups for calibration leaves {len(kept)} of {len(train)} images to train on, at least "
            f"{LEAST_TRAIN} are needed: put good images of other groups into {root / 'calibration' / 'good'}"
        )
    how = f"{len(held)} of {len(train)} images of train/good held out" + (", whole groups together" if groups else "")
    return Split(kept, tuple(sorted(held)), how)


def test_images(root: Path) -> tuple[TestImage, ...]:
    """All labelled images of test/, defects in alphabetical order, masks where ground_truth/ has them.

    A folder with good images alone will do: it measures false rejects.

    Raises:
        DataError: no test/good, or a mask missing from a ground-truth folder that exists.
    """
    folder = root / "test"
    if not images_in(folder / "good"):
        raise DataError(f"{folder / 'good'} has no images; the MVTec-AD layout needs test/good and test/<defect>")
    groups = read_groups(root)
    found: list[TestImage] = []
    for kind in sorted(p for p in folder.iterdir() if p.is_dir()):
        truth = root / "ground_truth" / kind.name
        for path in images_in(kind):
            mask = truth / f"{path.stem}_mask.png" if kind.name != "good" and truth.is_dir() else None
            if mask is not None and not mask.is_file():
                raise DataError(f"{mask} is missing: {path} needs a mask of this name (0 good, 255 defect)")
            found.append(TestImage(path, kind.name, mask, groups.get(path.relative_to(root).as_posix())))
    return tuple(found)


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """An image file -> upright RGB (H, W, 3). Raises DataError naming the file."""
    try:
        return decode_image(path.read_bytes()).pixels
    except (ImageError, OSError) as error:
        raise DataError(f"{path}: {error}") from error


def read_fitted(path: Path, side: int) -> Fitted:
    """An image file -> letterboxed to side x side, with its valid area."""
    fitted = fit(read_pixels(path), side)
    return Fitted(fitted.pixels, fitted.placement.valid_pixels(), fitted.placement)


def stack(images: Sequence[Fitted]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Many fitted images -> pixels (N, S, S, 3), valid (N, S, S)."""
    return np.stack([i.pixels for i in images]), np.stack([i.valid for i in images])

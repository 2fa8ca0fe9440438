"""MVTec-AD's layout, which MPDD and the converted VisA and PCB-Bank share, and folders of good images alone.

Masks are called <stem>_mask.png (MVTec-AD, MPDD) or <stem>.png (VisA and PCB-Bank after their preparation scripts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data.image_files import MASK_SUFFIXES, DataError, images_in, refuse_unsupported, subfolders
from training.data.layouts import TestImage, look_alike


def good_folder(root: Path) -> Path:
    """Where the good images to train on lie: train/good, or the folder itself."""
    nested = root / "train" / "good"
    return nested if nested.is_dir() or not images_in(root) else root


def labelled_images(root: Path) -> tuple[TestImage, ...]:
    """All images of test/, defects in alphabetical order, each with its mask if ground_truth/ has its defect.

    Masks without an image are passed over: a reduced copy of a data set often keeps them.

    Raises:
        DataError: no test/good, a folder of a defect without images, a mask missing, or ground-truth folders whose
            names do not fit those of the defects.
    """
    good = root / "test" / "good"
    if not images_in(good):
        refuse_unsupported(good)
        raise DataError(
            f"{good} has no images; the MVTec-AD layout needs test/good and test/<defect>{look_alike(good)}"
        )
    kinds = subfolders(root / "test")
    _check_truth_folders(root, [kind.name for kind in kinds])
    return tuple(image for kind in kinds for image in _images_of(root, kind))


def _images_of(root: Path, kind: Path) -> list[TestImage]:
    refuse_unsupported(kind)
    paths = images_in(kind)
    if not paths:
        raise DataError(f"{kind} has no images: put the images of this defect into it, or remove it")
    truth = root / "ground_truth" / kind.name
    if kind.name == "good" or not truth.is_dir():
        return [TestImage(path, kind.name, None) for path in paths]
    masks = {p.stem + p.suffix.lower(): p for p in truth.iterdir()}
    return [TestImage(path, kind.name, _mask_of(path, truth, masks)) for path in paths]


def _mask_of(image: Path, folder: Path, masks: Mapping[str, Path]) -> Path:
    """masks: file name, its suffix in lower case -> path."""
    wanted = [stem + suffix for stem in (f"{image.stem}_mask", image.stem) for suffix in MASK_SUFFIXES]
    found = next((masks[name] for name in wanted if name in masks), None)
    if found is not None:
        return found
    alike = look_alike(folder / wanted[0]) or look_alike(folder / f"{image.stem}.png")
    raise DataError(
        f"{folder / wanted[0]} is missing: {image} needs a mask of its own size, 0 good, above 0 defect, called "
        f"{image.stem}_mask.png or {image.stem}.png ({', '.join(MASK_SUFFIXES[1:])} will do too){alike}"
    )


def _check_truth_folders(root: Path, kinds: Sequence[str]) -> None:
    """A defect without masks is allowed, and masks without a defect: both at once look like one name spelt twice."""
    truths = [folder.name for folder in subfolders(root / "ground_truth")]
    without = [kind for kind in kinds if kind not in truths and kind != "good"]
    unused = [truth for truth in truths if truth not in kinds and truth != "good"]
    if without and unused:
        raise DataError(
            f"{root / 'ground_truth' / without[0]} is missing for {root / 'test' / without[0]}, while "
            f"{root / 'ground_truth' / unused[0]} belongs to no folder of test/: rename it, or remove it"
        )

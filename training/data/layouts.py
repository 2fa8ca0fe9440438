"""The arrangements of a data folder: MVTec-AD's layout, VisA's, or just images; and the classes of a data set's folder.

The images of MVTec-AD's layout, which MPDD and the converted VisA and PCB-Bank share, are listed here, those of VisA's
layout in `training.data.visa`. MVTec-AD's masks are called <stem>_mask.png (MVTec-AD, MPDD) or <stem>.png (VisA and
PCB-Bank after their preparation scripts).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from glad.image_codec import SUFFIXES
from training.data.image_files import DataError, images_in, refuse_unsupported, subfolders
from training.data.masks import MASK_SUFFIXES

SHOWN = 8
"""Names listed in an error; the rest is counted."""
PARTS_OF_A_CLASS = frozenset({"train", "test", "ground_truth", "calibration"})
"""Folders of a class that are easily given in place of the class."""


class FolderLayout(Enum):
    """An arrangement of a class's folder; docs/data.md draws each as a tree."""

    MVTEC = "mvtec"
    """train/good, test/<defect>, ground_truth/<defect>: MVTec-AD, MPDD, and VisA and PCB-Bank once converted."""
    VISA = "visa"
    """Data/Images, Data/Masks, and a split CSV beside the classes: VisA and PCB-Bank as downloaded."""
    PLAIN = "plain"
    """Good images directly in the folder; test/ and ground_truth/ may lie beside them as in MVTEC."""


@dataclass(frozen=True)
class TestImage:
    """A labelled image.

    Defect "good" has no mask; a defect's mask may be missing (image label only).
    """

    path: Path
    defect: str
    mask: Path | None
    group: str | None = None


def detect_layout(root: Path) -> FolderLayout:
    """Return the layout of one class's folder.

    Raises:
        DataError: not a folder, a folder of class folders, or one in which no layout can be seen; says what lies
            there.
    """
    if not root.is_dir():
        reason = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {reason}: give the folder of one class, or a folder of good images")
    if (root / "train" / "good").is_dir():
        return FolderLayout.MVTEC
    if (root / "Data" / "Images").is_dir():
        return FolderLayout.VISA
    if images_in(root):
        return FolderLayout.PLAIN
    if (root / "test").is_dir():  # labelled images alone: nothing to train on, but enough to measure
        return FolderLayout.MVTEC
    raise DataError(_unknown(root))


def list_classes(root: Path) -> tuple[str, ...]:
    """Return the names of the class folders directly in a data set's folder, sorted.

    These are the folders with train/good, test/good or Data/Images. Folders of images without these are not counted:
    nothing tells them from other folders.

    Raises:
        DataError: there are none; says where they are if they lie one folder further up or down.
    """
    classes = _classes(root)
    if classes:
        return classes
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the folder that holds the class folders")
    if _is_class(root):
        raise DataError(f"{root} is one class, not a folder of classes: give {Path(os.path.abspath(root)).parent}")
    deeper = next((folder for folder in subfolders(root) if _classes(folder)), None)
    if deeper is not None:
        raise DataError(f"{root} holds no class folders, but {deeper} does ({_some(_classes(deeper))}): give {deeper}")
    raise DataError(
        f"{root} holds no class folders, that is, folders with train/good, test/good or Data/Images in them; "
        f"it holds {_content(root)}"
    )


def look_alike(path: Path) -> str:
    """Return a hint for the end of a message: which similar name lies in place of an absent file or folder.

    Similar is the same name in another case or with another suffix. Empty if there is nothing like it.
    """
    if not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.iterdir() if p.name != path.name)
    for name in names:
        if name.lower() == path.name.lower():
            return f"; {name} lies there: rename it, upper and lower case count"
    for name in names:
        if path.suffix and Path(name).stem.lower() == path.stem.lower():
            return f"; {name} lies there, with another suffix"
    return ""


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(folder.name for folder in subfolders(root) if _is_class(folder))


def _is_class(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in (Path("train/good"), Path("test/good"), Path("Data/Images")))


def _unknown(root: Path) -> str:
    if classes := _classes(root):
        return f"{root} holds {len(classes)} class folders ({_some(classes)}), give one of them: {root / classes[0]}"
    refuse_unsupported(root)
    expected = f"{root} holds 0 images ({', '.join(sorted(SUFFIXES))}), and neither train/good nor Data/Images"
    for part in ("train", "train/good", "Data", "Data/Images"):
        if not (root / part).exists() and (alike := look_alike(root / part)):
            return expected + alike
    above = Path(os.path.abspath(root)).parent
    if root.name in PARTS_OF_A_CLASS and (_is_class(above) or images_in(above)):
        return f"{expected}: it is a part of {above}, give that"
    filled = [folder.relative_to(root).as_posix() for folder in _folders_below(root) if images_in(folder)]
    if not filled:
        return f"{expected}; it holds {_content(root)}"
    if len(filled) == 1:
        return f"{expected}; {filled[0]} holds images: give {root / filled[0]}, or move the good ones to train/good"
    return f"{expected}; {_some(filled)} hold images: move the good ones to train/good, or give the folder of these"


def _folders_below(root: Path) -> tuple[Path, ...]:
    """Return the folders in a folder, each followed by those in it."""
    return tuple(one for folder in subfolders(root) for one in (folder, *subfolders(folder)))


def _content(root: Path) -> str:
    return _some(sorted(p.name for p in root.iterdir())) or "nothing"


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def good_folder(root: Path) -> Path:
    """Return the folder of the good images to train on: train/good, or the folder itself."""
    nested = root / "train" / "good"
    return nested if nested.is_dir() or not images_in(root) else root


def mvtec_images(root: Path) -> tuple[TestImage, ...]:
    """Return all images of test/, defects in alphabetical order, each with its mask if ground_truth/ has its defect.

    Masks without an image are passed over: a reduced copy of a data set often keeps them.

    Raises:
        DataError: no test/good, a folder of a defect without images, a mask missing, or ground-truth folders whose
            names do not fit those of the defects.
    """
    good = root / "test" / "good"
    if not images_in(good):
        refuse_unsupported(good)
        raise DataError(
            f"{good} has no images{look_alike(good)}: measuring needs labelled ones, good parts in test/good and "
            "defective ones in test/<defect>, such as test/scratch"
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
    _refuse_masks(paths, truth)
    if kind.name == "good" or not truth.is_dir():
        return [TestImage(path, kind.name, None) for path in paths]
    masks = {p.stem + p.suffix.lower(): p for p in truth.iterdir()}
    return [TestImage(path, kind.name, _mask_of(path, truth, masks)) for path in paths]


def _refuse_masks(images: Sequence[Path], truth: Path) -> None:
    """Refuse masks that lie beside their images: each would be measured as one more defective part."""
    stems = {image.stem for image in images}
    masks = [path for path in images if path.stem.endswith("_mask") and path.stem.removesuffix("_mask") in stems]
    if masks:
        raise DataError(
            f"{masks[0]} is the mask of an image beside it ({len(masks)} such files lie there), and would be measured "
            f"as a part: move masks to {truth}"
        )


def _mask_of(image: Path, folder: Path, masks: Mapping[str, Path]) -> Path:
    """Return the mask of an image.

    Args:
        masks: file name, its suffix in lower case -> path.

    Raises:
        DataError: if there is none; says which names will do.
    """
    names = [stem + suffix for stem in (f"{image.stem}_mask", image.stem) for suffix in MASK_SUFFIXES]
    mask = next((masks[name] for name in names if name in masks), None)
    if mask is not None:
        return mask
    alike = look_alike(folder / names[0]) or look_alike(folder / f"{image.stem}.png")
    raise DataError(
        f"{folder / names[0]} is missing: {image} needs a mask of its own size, 0 good, above 0 defect, called "
        f"{image.stem}_mask.png or {image.stem}.png ({', '.join(MASK_SUFFIXES[1:])} will do too){alike}"
    )


def _check_truth_folders(root: Path, kinds: Sequence[str]) -> None:
    """Refuse a defect without masks together with masks without a defect.

    Each alone is allowed; both at once look like one name that is spelt in two ways.
    """
    truths = [folder.name for folder in subfolders(root / "ground_truth")]
    without = [kind for kind in kinds if kind not in truths and kind != "good"]
    unused = [truth for truth in truths if truth not in kinds and truth != "good"]
    if without and unused:
        raise DataError(
            f"{root / 'ground_truth' / without[0]} is missing for {root / 'test' / without[0]}, while "
            f"{root / 'ground_truth' / unused[0]} belongs to no folder of test/: rename it, or remove it"
        )

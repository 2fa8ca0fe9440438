"""Which layout a data folder has: MVTec-AD's, VisA's, or just images. And the classes of a whole data set's folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from training.data.image_files import SUFFIXES, DataError, images_in, refuse_unsupported, subfolders

SHOWN = 8
"""Names listed in an error; the rest is counted."""


class Layout(Enum):
    """How a class's folder is arranged; docs/data.md draws each as a tree."""

    MVTEC = "mvtec"
    """train/good, test/<defect>, ground_truth/<defect>: MVTec-AD, MPDD, and VisA and PCB-Bank once converted."""
    VISA = "visa"
    """Data/Images, Data/Masks, and a split CSV beside the classes: VisA and PCB-Bank as downloaded."""
    PLAIN = "plain"
    """Good images directly in the folder; test/ and ground_truth/ may lie beside them as in MVTEC."""


@dataclass(frozen=True)
class TestImage:
    """One labelled image: defect "good" has no mask; a defect's mask may be missing (image label only)."""

    path: Path
    defect: str
    mask: Path | None
    group: str | None = None


def detect_layout(root: Path) -> Layout:
    """The layout of one class's folder.

    Raises:
        DataError: not a folder, a folder of class folders, or one in which no layout can be seen; says what lies there.
    """
    if not root.is_dir():
        reason = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {reason}: give the folder of one class, or a folder of good images")
    if (root / "train" / "good").is_dir():
        return Layout.MVTEC
    if (root / "Data" / "Images").is_dir():
        return Layout.VISA
    if images_in(root):
        return Layout.PLAIN
    if (root / "test").is_dir():  # labelled images alone: nothing to train on, but enough to measure
        return Layout.MVTEC
    raise DataError(_unknown(root))


def list_classes(root: Path) -> tuple[str, ...]:
    """The names of the class folders directly in a data set's folder, sorted: those with train/good, test/good or
    Data/Images. Folders of images without these are not counted: nothing tells them from other folders.

    Raises:
        DataError: there are none; says where they are if they lie one folder further up or down.
    """
    found = _classes(root)
    if found:
        return found
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
    """What lies in place of an absent file or folder, for the end of a message: the same name in another case or with
    another suffix. Empty if there is nothing like it."""
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
    for wanted in ("train", "train/good", "Data", "Data/Images"):
        if not (root / wanted).exists() and (alike := look_alike(root / wanted)):
            return expected + alike
    filled = [folder.name for folder in subfolders(root) if images_in(folder)]
    if filled:
        return f"{expected}; {_some(filled)} hold images: give {root / filled[0]}, or move the good ones to train/good"
    return f"{expected}; it holds {_content(root)}"


def _content(root: Path) -> str:
    return _some(sorted(p.name for p in root.iterdir())) or "nothing"


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

"""Images of a data folder that take no part: misplaced, in a format that is not read, or links that lead nowhere.

Most of them are mistakes that nobody would notice: the command runs, on fewer images than its user believes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glad.image_codec import SUFFIXES
from training.data import layouts, visa
from training.data.image_files import UNSUPPORTED, images_in, subfolders
from training.data.layouts import FolderLayout, detect_layout

OTHER_IMAGES = frozenset(
    {".arw", ".bayer", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".hdr", ".nef", ".pcx", ".pfm", ".psd", ".raw", ".sgi"}
)
"""Files of pictures that often lie beside the images, such as a camera's raw data: no reason to refuse a folder."""
HOMES = {
    "calibration": "good images for the thresholds are read from calibration/good",
    "train": "good images are read from train/good",
    "test": "labelled images are read from test/good and test/<defect>",
    "ground_truth": "masks are read from ground_truth/<defect>",
}
MASK_FOLDERS = frozenset({"gt", "groundtruth", "label", "labels", "mask", "masks"})
"""Other names that people give to the folder of masks."""
SHOWN = 8
"""Groups that are described one by one."""


@dataclass(frozen=True)
class LeftOut:
    """The images of one folder that take no part for one reason."""

    folder: str
    """Relative to the data folder, with forward slashes."""
    reason: str
    images: tuple[str, ...]
    """Their names."""

    def __str__(self) -> str:
        more = f" and {len(self.images) - 1} more" if len(self.images) > 1 else ""
        return f"{self.folder}/{self.images[0]}{more}: {self.reason}"


def find_left_out(root: Path) -> tuple[LeftOut, ...]:
    """Return the images in a class's folder and its subfolders that no command reads, by folder.

    Hidden files and folders do not count, nor do masks without an image.

    Raises:
        DataError: if the folder has no layout, or VisA's CSV is not usable.
    """
    layout = detect_layout(root)
    taken = frozenset(_taken_of_visa(root) if layout is FolderLayout.VISA else _taken(root))
    groups: dict[tuple[str, str], list[str]] = {}
    for path in _all_images(root):
        if path not in taken:
            folder = path.parent.relative_to(root).as_posix()
            groups.setdefault((folder, _reason(path, folder, layout)), []).append(path.name)
    return tuple(LeftOut(folder, reason, tuple(names)) for (folder, reason), names in groups.items())


def describe(left_out: Sequence[LeftOut], root: Path) -> str:
    """Return one sentence on the images that take no part, and a line for each folder and reason."""
    count = sum(len(one.images) for one in left_out)
    lines = [f"  {one}" for one in left_out[:SHOWN]]
    if len(left_out) > SHOWN:
        lines.append(f"  and {sum(len(one.images) for one in left_out[SHOWN:])} images in other places")
    images = "1 image takes" if count == 1 else f"{count} images take"
    return "\n".join([f"{images} no part in {root}:", *lines])


def _all_images(root: Path) -> Iterator[Path]:
    for folder, subs, names in os.walk(root):
        subs[:] = sorted(name for name in subs if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES | UNSUPPORTED | OTHER_IMAGES:
                yield Path(folder) / name


def _taken(root: Path) -> Iterator[Path]:
    """Yield the images of all roles, and all that may be masks."""
    yield from images_in(layouts.good_folder(root))
    yield from images_in(root / "calibration" / "good")
    for kind in (*subfolders(root / "test"), *subfolders(root / "ground_truth")):
        yield from images_in(kind)


def _taken_of_visa(root: Path) -> Iterator[Path]:
    yield from images_in(root / "calibration" / "good")
    for row in visa.read_split(root):
        yield row.image
    for folder in subfolders(root / "Data" / "Masks"):
        yield from images_in(folder)


def _reason(path: Path, folder: str, layout: FolderLayout) -> str:
    if not path.exists():
        return f"a link to {os.readlink(path)}, which does not exist"
    if (suffix := path.suffix.lower()) not in SUFFIXES:
        return f"{suffix} files are not read: convert them to PNG"
    if layout is FolderLayout.VISA and folder.startswith("Data/Images"):
        return "the CSV does not name them"
    top, _, rest = folder.partition("/")
    if top in HOMES:
        return f"not in a subfolder, {HOMES[top]}" if rest else HOMES[top]
    if top.lower() in HOMES:
        return f"upper and lower case count: {HOMES[top.lower()]}"
    if top.lower() in MASK_FOLDERS:
        return HOMES["ground_truth"]
    if folder == "." and layout is FolderLayout.MVTEC:
        return "train/good exists, and is read in place of these"
    return "no command reads this folder"

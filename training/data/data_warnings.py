"""What is no reason to refuse a data folder, and what its user must know all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from glad.sample_range import WHITE, read_white
from training.data.dataset import list_good_images, read_groups
from training.data.image_files import DataError, check_image, images_in, subfolders
from training.data.left_out import describe, find_left_out

LOOKED_AT = 16
"""Images whose values are read."""
SIXTEEN = 16
FEW_BITS = 14
"""A camera of so many bits, or fewer, has levels up to a quarter of what 16 bits hold."""


def data_warnings(root: Path) -> tuple[str, ...]:
    """Return a sentence for each thing that is probably not meant.

    These are images that take no part, groups of images that are not there, and images that are too dark.

    Raises:
        DataError: if the folder has no layout, or a CSV file of it is not usable.
    """
    left_out = find_left_out(root)
    found = (
        describe(left_out, root) if left_out else None,
        _absent_from_groups(root),
        few_bits(
            list_good_images(root) or tuple(path for kind in subfolders(root / "test") for path in images_in(kind))
        ),
    )
    return tuple(warning for warning in found if warning is not None)


def _absent_from_groups(root: Path) -> str | None:
    """Return a warning if the groups file names files that are not there: the image that is meant has no group."""
    groups = read_groups(root)
    absent = [name for name in groups if not (root / name).is_file()]
    if not absent:
        return None
    return (
        f"{len(absent)} of the {len(groups)} files that the groups file names do not lie in {root}, the first is "
        f"{absent[0]!r}: an image that is meant by another name is a group of its own"
    )


def few_bits(images: Sequence[Path]) -> str | None:
    """Return a warning if 16-bit images hold the values of a camera of fewer bits; None if they do not.

    16 bits are read as the full range, unless a TIFF says in MaxSampleValue that it is a camera's smaller one: 12 bits,
    stored as they are, come out 16 times too dark, and a part looks black. That some images of a camera say so and
    others do not is warned of too: they are read with two brightnesses.
    """
    looked_at = images[:: max(1, len(images) // LOOKED_AT)]
    found = [levels for path in looked_at if (levels := _read_levels(path)) is not None]
    whites = {levels.white: levels for levels in found}
    if len(whites) > 1:
        dark, bright = whites[max(whites)], whites[min(whites)]
        return (
            f"white is {bright.white} in {bright.path}, as its MaxSampleValue says, and {dark.white} in {dark.path}: "
            "they are read with different brightness. Have the camera give every image the same MaxSampleValue, or none"
        )
    if not found or WHITE not in whites:
        return None
    highest, path = max((levels.highest, levels.path) for levels in found)
    bits = highest.bit_length()
    if bits > FEW_BITS:
        return None
    return (
        f"the largest value in {len(found)} of the 16-bit images is {highest} ({path}), where white is 65535: they "
        f"are read as very dark. If the camera has {bits} bits, multiply by {1 << (SIXTEEN - bits)} before storing, "
        "here and on the line"
    )


@dataclass(frozen=True)
class SixteenBitLevels:
    """The levels of a 16-bit grey image."""

    path: Path
    highest: int
    """Of those that occur in it."""
    white: int
    """The level that is read as white."""


def _read_levels(path: Path) -> SixteenBitLevels | None:
    """Return the levels of a 16-bit grey image; None if it is another image, or cannot be read."""
    try:
        if not check_image(path).mode.startswith("I;16"):
            return None
        with Image.open(path) as image:
            return SixteenBitLevels(path, int(np.asarray(image).max()), read_white(image))
    except (DataError, OSError, ValueError, SyntaxError):  # told, with the file's name, when the image is read
        return None

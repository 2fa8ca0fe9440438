"""Which range the samples of an image have, and how they become 8 bits.

| samples | what is white |
|---|---|
| 16 bits | 65535, whatever the image shows |
| 16 bits of a TIFF that says MaxSampleValue 511, 1023, … 32767, and no MinSampleValue but 0 | that value |
| 12 bits of a TIFF | 4095 |

A MaxSampleValue of another kind is the largest value of that one image, and does not count; nor does PNG's sBIT, whose
samples fill the range already. docs/decisions/0021 says why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from glad.tiff_files import (
    BITS,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    WHITE_IS_ZERO,
    UnreadKind,
    first_of,
    refuse_unclear_sample,
)

MIN_SAMPLE_VALUE, MAX_SAMPLE_VALUE = 280, 281
UNSIGNED, UNDEFINED = 1, 4

WHITE = 65535
"""Of 16 bits."""
CAMERA_WHITES = frozenset((1 << bits) - 1 for bits in range(9, 16))
"""White of a camera of 9 to 15 bits whose values are stored as they are."""


def read_white(image: Image.Image) -> int:
    """Return the value that is white, of an image whose samples have 12 or 16 bits."""
    if _tag(image, BITS) == 12:
        return 4095
    highest = _tag(image, MAX_SAMPLE_VALUE)
    return highest if highest in CAMERA_WHITES and _tag(image, MIN_SAMPLE_VALUE) in (None, 0) else WHITE


def eight_bit(strip: Image.Image, image: Image.Image) -> Image.Image:
    """Return rows of a loaded image with 8 bits per sample; others than 16-bit grey as they are.

    Args:
        strip: the rows.
        image: of which they are, with its tags.
    """
    if not strip.mode.startswith("I;16"):
        return strip
    white = read_white(image)
    levels = np.asarray(strip).astype(np.uint32)
    clear = image.info.get("transparency")  # the one level that a PNG declares transparent
    alpha = np.where(levels == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
    if _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO:
        levels = white - levels
    grey = Image.fromarray(((levels * 255 + white // 2) // white).astype(np.uint8))
    return grey if alpha is None else Image.merge("LA", (grey, Image.fromarray(alpha)))


def refuse_undefined_samples(image: Image.Image) -> None:
    """Refuse a loaded image whose samples have no range, or another one than it says.

    Raises:
        UnreadKind: says which, and what to store instead.
    """
    if image.mode in ("I", "F") or _tag(image, SAMPLE_FORMAT) not in (None, UNSIGNED, UNDEFINED):
        raise UnreadKind(
            f"has signed, 32-bit or float samples (mode {image.mode}), which have no defined range",
            "store it with 8 or 16 bit, unsigned",
        )
    if isinstance(image, TiffImageFile):
        refuse_unclear_sample(image)
        _refuse_other_white(image)


def _refuse_other_white(image: TiffImageFile) -> None:
    white = WHITE if _tag(image, BITS) != 16 else read_white(image)
    if white == WHITE:
        return
    if not image.mode.startswith("I;16"):  # of colours, Pillow keeps the high byte alone
        raise UnreadKind(
            f"has colours of 16 bits, of which {white} is white (MaxSampleValue)",
            f"multiply its values by {(WHITE + 1) // (white + 1)} and leave MaxSampleValue out, or store it as 8 bits",
        )
    highest = _extrema(image)[0][1]
    if highest > white:
        raise UnreadKind(
            f"has values up to {highest}, and says in MaxSampleValue that {white} is the largest",
            "give the largest value that the camera can have, or leave MaxSampleValue out",
        )


def shows_nothing(image: Image.Image) -> bool:
    """Return whether every pixel of a loaded image is transparent."""
    for name in {"A", "a"}.intersection(image.getbands()):
        return image.getchannel(name).getextrema() == (0, 0)
    clear = image.info.get("transparency")
    if clear is None:
        return False
    if image.mode == "P" and isinstance(clear, bytes):  # an alpha for each entry; opaque behind the last
        shown = [entry for entry, count in enumerate(image.histogram()) if count]
        return all(entry < len(clear) and clear[entry] == 0 for entry in shown)
    levels = clear if isinstance(clear, tuple) else (clear,)
    return _extrema(image) == [(level, level) for level in levels]


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    """Return the least and the largest level of each band."""
    found: Any = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _tag(image: Image.Image, tag: int) -> int | None:
    """Return the first value of a tag; None if the image has none, or is no TIFF."""
    return first_of(image, tag) if isinstance(image, TiffImageFile) else None

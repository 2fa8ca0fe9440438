"""Ground-truth masks: where an image is defective. Black is good, everything else is defect.

A mask that says something else than its maker meant would spoil the figures of an evaluation and fail nowhere. So what
can be told from a mask alone is checked: an empty one, one whose background is not black, a truth in the transparency.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from glad.image_codec import load_stored, refuses_damage, sniff_format
from glad.images.placement import Placement
from glad.tiff_files import BITS, PHOTOMETRIC, WHITE_IS_ZERO, first_of
from training.data.image_files import DataError, Header, read_header

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
MASK_FORMATS = ("PNG", "BMP", "TIFF")
"""Lossless: JPEG leaves small values around a defect, and any value above 0 counts as defective."""
AS_THEY_ARE = frozenset({"1", "L", "LA", "I", "F", "RGB", "RGBA", "RGBX"})
"""Modes whose samples are 0 where the picture is black. Others become RGB: a black of CMYK, say, is not 0."""
MOSTLY = 0.75
"""Share of the pixels, and of those along the edge, from which a mask looks inverted. Of the masks of magnetic tiles,
which have the largest defects of the data at hand, none has more than 0.46 and 0.49."""


HALF = 0.5
"""Share of the pixels above which a mask looks inverted whose whole edge is marked: what is good is an island in it."""


@dataclass(frozen=True)
class MaskPixels:
    """The pixels of a mask file, upright."""

    marked: NDArray[np.bool_]
    """(H, W), True on the defect: wherever it is not black."""
    visible: NDArray[np.bool_] | None
    """(H, W), False where it is transparent; None: it is equally transparent everywhere."""
    uniform: bool
    """Whether all pixels are the same."""


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return a ground-truth mask as (H, W), upright, True on the defect: wherever the mask is not black.

    So both kinds of published masks are read alike: 0 and 255 (MVTec-AD, MPDD), and small class numbers from 1 (VisA,
    PCB-Bank). The grey rim of an antialiased mask counts as defect, which grows it by less than a pixel. Colours count
    by their largest channel, palettes by their colours, transparency not at all. Lossy formats are refused, and masks
    that cannot mean what they say: see `check_mask`.

    Raises:
        DataError: not a readable PNG, BMP or TIFF; names the file.
    """
    return _read(path).marked


def _read(path: Path) -> MaskPixels:
    try:
        stored = _load_lossless(path.read_bytes())
        if (count := getattr(stored, "n_frames", 1)) > 1:
            raise DataError(f"it has {count} pictures, and a mask is one")
        return _pixels(ImageOps.exif_transpose(stored), _black_if_white_is_zero(stored))
    except Exception as error:  # hostile bytes raise all kinds: each means that this mask cannot be used
        raise DataError(f"{path} cannot be read as a mask ({error}): save it as {', '.join(MASK_FORMATS)}") from error


def _load_lossless(data: bytes) -> Image.Image:
    name = sniff_format(data)
    if name not in MASK_FORMATS:
        raise DataError(f"it is {name}")
    return load_stored(data, intact=refuses_damage())


def _black_if_white_is_zero(image: Image.Image) -> int | None:
    """Return the level of black in a TIFF of more than 8 bits whose 0 is white, which is loaded as it is stored."""
    if not isinstance(image, TiffImageFile) or not image.mode.startswith("I"):
        return None
    bits = first_of(image, BITS)
    return (1 << bits) - 1 if bits and first_of(image, PHOTOMETRIC) == WHITE_IS_ZERO else None


def _pixels(image: Image.Image, black: int | None) -> MaskPixels:
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if _has_alpha(image) else None
    shown = image if image.mode in AS_THEY_ARE or image.mode.startswith("I;16") else image.convert("RGB")
    values = np.asarray(shown)
    if values.ndim == 2:
        values = values[..., None]
    values = values[..., [band not in "AX" for band in shown.getbands()]]
    if black is not None:
        values = black - values.astype(np.int64)
    return MaskPixels(
        marked=np.asarray(values.max(axis=-1) > 0, dtype=np.bool_),
        visible=None if alpha is None or alpha.min() == alpha.max() else np.asarray(alpha > 0),
        uniform=bool((values == values[0, 0]).all()),
    )


def _has_alpha(image: Image.Image) -> bool:
    return image.has_transparency_data and not image.mode.startswith("I")


def check_mask(mask: Path, image: Path, header: Header) -> None:
    """Check that a mask can be read exactly, is as large as its image, whose header is given, and can be its truth.

    Raises:
        DataError: if it is not.
    """
    mask_header = read_header(mask)
    if mask_header.format not in MASK_FORMATS:
        raise DataError(
            f"{mask} is {mask_header.format}, which changes values near edges; a mask is exact, and any value above 0 "
            f"is a defect: make it again as {', '.join(MASK_FORMATS)}"
        )
    if (mask_header.width, mask_header.height) != (header.width, header.height):
        raise DataError(
            f"{mask} is {mask_header.width}×{mask_header.height}, its image {image} is {header.width}×{header.height} "
            "(upright, EXIF applied): a mask has its image's size"
        )
    _check_truth(mask, image, _read(mask))


def _check_truth(mask: Path, image: Path, pixels: MaskPixels) -> None:
    """Refuse a mask that cannot be what its maker meant."""
    marked = pixels.marked
    if pixels.visible is not None and (pixels.visible != marked).any():
        raise DataError(
            f"{mask} says one thing in its colours and another in its transparency; the colours count, black for good: "
            "save it without transparency, black and white"
        )
    if not marked.any():
        raise DataError(
            f"{mask} marks no pixel (it is black), and {image} is a defect: paint the defect white, move the image to "
            "test/good, or, where the place of no defect of this kind is known, remove the kind's ground-truth folder"
        )
    edge = np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]])
    mostly = marked.mean() >= MOSTLY and edge.mean() >= MOSTLY
    enclosed = marked.mean() > HALF and edge.all()
    if not pixels.uniform and (mostly or enclosed):
        raise DataError(
            f"{mask} marks {marked.mean():.0%} of the image and {edge.mean():.0%} of its edge as defect, for "
            "whatever is not black (0) is defect: invert it, or paint its background black; where the whole part is "
            "defective, paint it all white"
        )


def refuse_shared_masks(masks: Iterable[tuple[Path, Path | None]]) -> None:
    """Refuse a mask that two images would have: it is the truth of one of them, if that.

    Args:
        masks: each image with its mask.

    Raises:
        DataError: names the first such mask and its images.
    """
    known: dict[Path, Path] = {}
    for image, mask in masks:
        if mask is None:
            continue
        if mask in known:
            raise DataError(
                f"{mask} would be the mask of {known[mask]} and of {image}: rename one of the images, and give each "
                "a mask of its own"
            )
        known[mask] = image


def read_truth(mask: Path | None, placement: Placement) -> NDArray[np.bool_]:
    """Return a mask at its image's model scale: (placement.height, placement.width); all False where there is no mask.

    A pixel is defective when any part of it is, however small the defect and strong the scaling: in float, since 8 bit
    round a single defective pixel among 32 × 32 to nothing.
    """
    size = (placement.width, placement.height)
    if mask is None:
        return np.zeros(size[::-1], dtype=np.bool_)
    share = Image.fromarray(read_mask(mask).astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(np.asarray(share) > 0, dtype=np.bool_)

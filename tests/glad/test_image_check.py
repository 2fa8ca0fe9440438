"""Accepting an image takes less than decoding it, and refuses exactly what decoding refuses."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glad.image_codec import SURE, ImageError, ImageInfo, check_image, decode_image
from tests.support import hostile
from tests.support.hostile import Files

MAX_PIXELS = 1_000_000
JPEG: dict[str, Any] = {"format": "JPEG"}
PNG: dict[str, Any] = {"format": "PNG"}
TIFF: dict[str, Any] = {"format": "TIFF"}
STORED: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG, grey": ("L", JPEG),
    "JPEG, colour": ("RGB", JPEG),
    "JPEG, progressive": ("RGB", JPEG | {"progressive": True}),
    "JPEG, colour in full": ("RGB", JPEG | {"subsampling": 0, "optimize": True}),
    "JPEG, CMYK": ("CMYK", JPEG),
    "PNG, black and white": ("1", PNG),
    "PNG, grey": ("L", PNG),
    "PNG, grey with a transparent level": ("L", PNG | {"transparency": 3}),
    "PNG, grey with alpha": ("LA", PNG),
    "PNG, 16-bit grey": ("I;16", PNG),
    "PNG, 16-bit grey with a transparent level": ("I;16", PNG | {"transparency": 3}),
    "PNG, palette": ("P", PNG),
    "PNG, palette with a transparent entry": ("P", PNG | {"transparency": 0}),
    "PNG, palette with alpha": ("P", PNG | {"transparency": b"\x00\x80\xff"}),
    "PNG, colour": ("RGB", PNG),
    "PNG, colour with a transparent one": ("RGB", PNG | {"transparency": (1, 2, 3)}),
    "PNG, colour with alpha": ("RGBA", PNG),
    "TIFF, black and white": ("1", TIFF),
    "TIFF, grey": ("L", TIFF),
    "TIFF, grey with alpha": ("LA", TIFF),
    "TIFF, 16-bit grey": ("I;16", TIFF),
    "TIFF, 16-bit grey, the other byte order": ("I;16B", TIFF),
    "TIFF, palette": ("P", TIFF),
    "TIFF, colour": ("RGB", TIFF),
    "TIFF, colour, packed": ("RGB", TIFF | {"compression": "tiff_lzw"}),
    "TIFF, colour with alpha": ("RGBA", TIFF),
    "TIFF, CMYK": ("CMYK", TIFF),
    "TIFF, YCbCr": ("YCbCr", TIFF),
    "TIFF, Lab": ("LAB", TIFF),
    "TIFF, 32-bit": ("I", TIFF),
    "TIFF, float": ("F", TIFF),
    "BMP, black and white": ("1", {"format": "BMP"}),
    "BMP, grey": ("L", {"format": "BMP"}),
    "BMP, palette": ("P", {"format": "BMP"}),
    "BMP, colour": ("RGB", {"format": "BMP"}),
    "BMP, colour with alpha": ("RGBA", {"format": "BMP"}),
    "WebP, colour": ("RGB", {"format": "WEBP"}),
    "WebP, colour with alpha": ("RGBA", {"format": "WEBP", "lossless": True}),
}
"""What cameras and their software store: mode, and how it is saved."""


def noise(mode: str, width: int = 32, height: int = 24) -> Image.Image:
    """An image of this mode in which every byte counts."""
    rng = np.random.default_rng(7)
    if mode in {"I;16", "I;16B"}:
        return Image.fromarray(rng.integers(0, 65536, (height, width)).astype("<u2" if mode == "I;16" else ">u2"))
    if mode in {"LA", "RGBA"}:
        return Image.fromarray(rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return colour if mode == "LAB" else colour.convert(mode)


def saved(mode: str, how: dict[str, Any], orientation: int = 1, **size: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = noise(mode, **size)
    if mode == "LAB":  # the numbers as they are: no profile is needed to store them
        image = Image.frombytes("LAB", image.size, image.tobytes())
    turned: dict[str, Any] = {} if how["format"] == "BMP" else {"exif": exif}
    target = io.BytesIO()
    image.save(target, **how, **turned)
    return target.getvalue()


def outcome(read: Callable[[bytes], ImageInfo]) -> Callable[[bytes], tuple[Any, ...]]:
    """What it finds, or which error with which words."""

    def tried(data: bytes) -> tuple[Any, ...]:
        try:
            return ("accepted", read(data))
        except ImageError as error:
            return (type(error), str(error))

    return tried


def _decoded(data: bytes) -> ImageInfo:
    picture = decode_image(data, max_pixels=MAX_PIXELS)
    height, width = picture.pixels.shape[:2]
    return ImageInfo(picture.format, width, height)


decoding = outcome(_decoded)
checking = outcome(lambda data: check_image(data, max_pixels=MAX_PIXELS))


def damaged(data: bytes) -> Files:
    """Cut at every sixteenth, and with some bytes changed, in the header or anywhere."""
    cut = {f"cut at {part}/16": data[: len(data) * part // 16] for part in range(1, 16)}
    return cut | {
        f"flipped {seed}": hostile.flip(data, np.random.default_rng(seed), in_header=seed % 2 == 0)
        for seed in range(60)
    }


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_check_measures_every_kind_of_image_as_decoding_does(kind: str, orientation: int) -> None:
    data = saved(*STORED[kind], orientation)
    assert checking(data) == decoding(data)


@pytest.mark.parametrize("kind", STORED)
def test_a_check_refuses_what_decoding_refuses_and_in_the_same_words(kind: str) -> None:
    data = saved(*STORED[kind])
    outcomes = set()
    for name, file in damaged(data).items():
        assert checking(file) == decoding(file), name
        outcomes.add(checking(file)[0])
    assert len(outcomes) > 1 or kind in {"TIFF, 32-bit", "TIFF, float"}, "damage shall refuse some and spare some"


@pytest.mark.parametrize(
    "family", [hostile.truncated, hostile.flipped, hostile.bombs, hostile.wrong_types], ids=lambda one: one.__name__
)
def test_a_check_treats_every_hostile_file_as_decoding_does(family: Callable[[], Files]) -> None:
    for name, file in family().items():
        assert checking(file) == decoding(file), name


PLAIN = [kind for kind, (mode, how) in STORED.items() if mode in SURE and how in (JPEG, PNG, TIFF)]
"""Kinds that need no conversion to be sure of. Pillow's WebP decoder makes bytes of its own, which would be counted."""


@pytest.mark.parametrize("kind", PLAIN)
def test_a_check_makes_no_pixels(kind: str) -> None:
    data = saved(*STORED[kind], 6, width=1000, height=800)
    tracemalloc.start()
    try:
        check_image(data)
        checked = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        decode_image(data)
        decoded = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded > 1000 * 800 * 3, "NumPy's arrays are traced: the RGB pixels at least"
    assert checked < decoded - 1000 * 800 * 3 + 100_000

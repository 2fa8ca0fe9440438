"""What is white in 16 bits: what a camera says of all its images counts, what one image happens to show does not."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from glad.image_codec import ImageKindNotRead, ImageNotDecodable, check_image, decode_image
from tests.glad.test_camera_images import GREY, PALETTE, big_endian, decoded, png, saved, tiff

MIN_SAMPLE_VALUE, MAX_SAMPLE_VALUE = 280, 281


def camera_tiff(levels: list[int], highest: int | None, lowest: int | None = None, *, photometric: int = 1) -> bytes:
    """16-bit grey with what a camera says of its range."""
    given = [(MIN_SAMPLE_VALUE, lowest), (MAX_SAMPLE_VALUE, highest)]
    more = [(tag, [value]) for tag, value in given if value is not None]
    return tiff([struct.pack(f"<{len(levels)}H", *levels)], len(levels), 16, photometric, more=more)


@pytest.mark.parametrize(("bits", "half"), [(10, 512), (12, 2048), (14, 8192)])
@pytest.mark.parametrize("lowest", [None, 0])
def test_the_white_of_a_camera_is_what_its_tiff_says(bits: int, half: int, lowest: int | None) -> None:
    # 512 / 1023 * 255 = 127.6, 2048 / 4095 * 255 = 127.5, 8192 / 16383 * 255 = 127.5: all round to 128
    white = (1 << bits) - 1
    assert decoded(camera_tiff([0, half, white], white, lowest)) == [[0] * 3, [128] * 3, [255] * 3]
    assert decoded(camera_tiff([0, half, white], white, lowest, photometric=0)) == [[255] * 3, [127] * 3, [0] * 3]


def test_it_counts_in_a_dark_image_too() -> None:
    # 40 / 4095 * 255 = 2.5: no level of the image is near white
    assert decoded(camera_tiff([40, 120], 4095)) == [[2] * 3, [7] * 3]


@pytest.mark.parametrize(
    ("highest", "lowest"),
    [(4012, None), (4095, 17), (65535, 0), (4096, None), (255, None), (0, None)],
    ids=["largest of this image", "range of this image", "all of it", "no camera's", "8 bits", "nothing"],
)
def test_the_range_of_one_image_changes_nothing(highest: int, lowest: int | None) -> None:
    # 257 and 4012 of 65535: 1 and 15.6
    assert decoded(camera_tiff([257, 4012], highest, lowest)) == [[1] * 3, [16] * 3]


def test_a_tiff_with_levels_beyond_its_white_is_refused_and_not_read_another_way() -> None:
    data = camera_tiff([5000, 0], 4095)
    for read in (decode_image, check_image):
        with pytest.raises(ImageKindNotRead, match="values up to 5000, and says in MaxSampleValue that 4095"):
            read(data)


def test_colours_of_twelve_bits_in_sixteen_are_refused() -> None:
    """Pillow keeps their high byte alone: 16 levels of each colour."""
    strip = struct.pack("<3H", 4095, 2048, 0)
    data = tiff([strip], 1, 16, 2, samples=3, more=[(MAX_SAMPLE_VALUE, [4095] * 3)])
    for read in (decode_image, check_image):
        with pytest.raises(ImageKindNotRead, match="multiply its values by 16"):
            read(data)
    shifted = tiff([struct.pack("<3H", 65520, 32768, 0)], 1, 16, 2, samples=3)
    assert decoded(shifted) == [[255, 128, 0]]


@pytest.mark.parametrize("significant", [10, 12, 14, 16])
def test_the_significant_bits_of_a_png_fill_the_range_already(significant: int) -> None:
    """PNG, 13.12: the encoder scales samples up, by repeating their bits; sBIT says how many there were."""
    sbit = (b"sBIT", bytes([significant]))
    levels = [0, 1 << (significant - 1), (1 << significant) - 1]
    scaled = [(level << (16 - significant) | level >> max(0, 2 * significant - 16)) & 0xFFFF for level in levels]
    assert decoded(png(3, 16, GREY, big_endian(*scaled), sbit)) == [[0] * 3, [128] * 3, [255] * 3]


def test_a_png_that_says_twelve_bits_is_read_alike_whatever_it_shows() -> None:
    """A dark image of a camera that scales as it must has small values too: 4080 is 255 of 4095; 4080 / 257 is 16."""
    sbit = (b"sBIT", b"\x0c")
    assert decoded(png(2, 16, GREY, big_endian(0, 4080), sbit)) == [[0] * 3, [16] * 3]
    assert decoded(png(2, 16, GREY, big_endian(0, 65535), sbit)) == [[0] * 3, [255] * 3]


def hidden_palette() -> bytes:
    return png(2, 8, PALETTE, bytes([1, 0]), (b"PLTE", bytes(6)), (b"tRNS", bytes(2)))


@pytest.mark.parametrize(
    "data",
    [
        hidden_palette(),
        png(2, 16, GREY, big_endian(77, 77), (b"tRNS", big_endian(77))),
        png(2, 8, GREY, b"\7\7", (b"tRNS", big_endian(7))),
        png(1, 8, 2, b"\1\2\3", (b"tRNS", big_endian(1, 2, 3))),
        tiff([bytes(8)], 2, 8, 2, samples=4, alpha=1),
        tiff([bytes(4)], 2, 8, 1, samples=2, alpha=2),
        saved(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "WEBP", lossless=True, exact=True),
    ],
    ids=["palette", "level of 16 bits", "level", "colour", "TIFF, associated", "TIFF, grey", "WebP"],
)
def test_an_image_that_shows_nothing_is_refused_however_it_says_so(data: bytes) -> None:
    for read in (decode_image, check_image):
        with pytest.raises(ImageNotDecodable, match="every pixel is transparent"):
            read(data)


def test_one_entry_of_a_palette_that_shows_is_an_image() -> None:
    data = png(2, 8, PALETTE, bytes([1, 0]), (b"PLTE", bytes(6)), (b"tRNS", b"\0"))
    np.testing.assert_array_equal(decode_image(data).pixels[0], [[0] * 3, [255] * 3])

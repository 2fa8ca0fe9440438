"""What image files become, which are refused and how, and the letterbox with its inverse."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glad.image_codec import (
    EmptyImageFile,
    ImageError,
    ImageNotDecodable,
    ImageTooLarge,
    Pixels,
    UnknownImageFormat,
    decode_image,
    from_model,
    to_model,
    to_png,
)
from glad.images.placement import fit, in_patches

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")


def scene(height: int = 24, width: int = 40) -> Pixels:
    """Smooth, so that lossy formats keep it, and different in every corner."""
    y, x = np.mgrid[:height, :width]
    channels = (255 * x / (width - 1), 255 * y / (height - 1), 128 + 0 * x)
    return np.stack(channels, axis=2).astype(np.uint8)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format=name, **options)
    return target.getvalue()


def file(name: str, pixels: Pixels | None = None) -> bytes:
    return saved(
        Image.fromarray(scene() if pixels is None else pixels), name, **({"quality": 95} if name == "JPEG" else {})
    )


@pytest.mark.parametrize("name", FORMATS)
def test_every_allowed_format_decodes_to_rgb(name: str) -> None:
    picture = decode_image(file(name))
    assert picture.format == name
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.writeable
    tolerance = 12 if name in ("JPEG", "WEBP") else 0
    assert abs(picture.pixels.astype(int) - scene()).max() <= tolerance


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_in_every_format(name: str, orientation: int) -> None:
    # what a viewer must do to the stored pixels, as the EXIF standard numbers it
    stored_from_upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(stored_from_upright[orientation](scene())))
    options = {"lossless": True} if name == "WEBP" else {"quality": 95} if name == "JPEG" else {}
    pixels = decode_image(saved(stored, name, exif=exif, **options)).pixels
    assert pixels.shape == scene().shape
    assert abs(pixels.astype(int) - scene()).max() <= (12 if name == "JPEG" else 0)


def test_a_damaged_exif_block_does_not_spoil_the_image() -> None:
    data = saved(Image.fromarray(scene()), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(data).pixels.shape == scene().shape


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_its_full_range(name: str) -> None:
    levels = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    # v / 257 rounded: 128 / 257 = 0.498, 129 / 257 = 0.502, 257 / 257 = 1, 32896 / 257 = 128
    pixels = decode_image(saved(Image.fromarray(levels), name)).pixels
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert (pixels == pixels[:, :, :1]).all()


def test_big_endian_16_bit_grey_is_read_too() -> None:
    data = saved(Image.fromarray(np.array([[257, 65535]], dtype=">u2")), "TIFF")
    assert decode_image(data).pixels[0, :, 0].tolist() == [1, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_grey_is_refused_because_its_range_is_not_defined(dtype: type) -> None:
    with pytest.raises(ImageNotDecodable, match="8 or 16 bit"):
        decode_image(saved(Image.fromarray(np.ones((4, 4), dtype=dtype)), "TIFF"))


def test_transparency_is_composited_on_white() -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    # opaque, fully transparent, and 20 % of black on white: 0.8 * 255 = 204
    expected = [[200, 0, 0], [255, 255, 255], [204, 204, 204]]
    assert decode_image(saved(Image.fromarray(rgba), "PNG")).pixels[0].tolist() == expected
    assert decode_image(saved(Image.fromarray(rgba), "WEBP", lossless=True)).pixels[0, :2].tolist() == expected[:2]


def test_grey_with_transparency_and_palettes_are_read() -> None:
    grey = Image.new("LA", (2, 1))
    grey.putdata([(10, 255), (10, 0)])
    assert decode_image(saved(grey, "PNG")).pixels[0].tolist() == [[10] * 3, [255] * 3]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([1, 0])
    assert decode_image(saved(palette, "PNG")).pixels[0].tolist() == [[40, 50, 60], [10, 20, 30]]
    assert decode_image(saved(palette, "PNG", transparency=0)).pixels[0].tolist() == [[40, 50, 60], [255] * 3]
    assert decode_image(saved(palette, "PNG", transparency=b"\xff\x00")).pixels[0].tolist() == [[255] * 3, [10, 20, 30]]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_becomes_rgb(mode: str) -> None:
    assert decode_image(saved(Image.new(mode, (3, 2), 255), "PNG")).pixels.tolist() == [[[255] * 3] * 3] * 2


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(name: str) -> None:
    # no ink is white; full black ink is black
    pixels = decode_image(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), name)).pixels
    assert pixels.min() >= 253
    assert decode_image(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), name)).pixels.max() <= 2


def test_no_bytes_are_refused() -> None:
    with pytest.raises(EmptyImageFile, match="0 bytes"):
        decode_image(b"")


@pytest.mark.parametrize("data", [b"hello", b"\x89PN", b"GIF89a" + b"\0" * 40, b"%PDF-1.7", b"RIFF\0\0\0\0WAVE"])
def test_an_unknown_signature_is_refused_and_the_allowed_ones_are_named(data: bytes) -> None:
    with pytest.raises(UnknownImageFormat, match="JPEG, PNG, BMP, TIFF, WEBP"):
        decode_image(data)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_undecodable_and_never_half_an_image(name: str, share: float) -> None:
    rng = np.random.default_rng(0)
    data = file(name, rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(ImageNotDecodable, match=f"{name} image of"):
        decode_image(data[: max(16, int(len(data) * share))])


def bomb(side: int) -> bytes:
    """A PNG that says it is large; a few kilobytes that would be side² / 8 bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_001, 10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(ImageTooLarge, match=f"{side}×{side} = {side * side} pixels; the limit is 64000000"):
        decode_image(bomb(side))


def test_the_pixel_cap_is_a_setting_and_counts_the_last_pixel() -> None:
    assert decode_image(file("PNG"), max_pixels=24 * 40).pixels.shape == (24, 40, 3)
    with pytest.raises(ImageTooLarge, match="40×24 = 960 pixels; the limit is 959"):
        decode_image(file("PNG"), max_pixels=24 * 40 - 1)


def test_a_webp_bomb_is_refused() -> None:
    # VP8X header: canvas of 16384 x 16384, as three-byte little-endian values less one
    canvas = (16383).to_bytes(3, "little") * 2
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas
    with pytest.raises(ImageTooLarge):
        decode_image(b"RIFF" + struct.pack("<I", len(body)) + body + bytes(32))


def test_a_huge_tiff_is_refused_by_its_header() -> None:
    data = bytearray(saved(Image.fromarray(scene()), "TIFF"))
    data = data.replace(struct.pack("<HHII", 256, 4, 1, 40), struct.pack("<HHII", 256, 4, 1, 100_000))
    data = data.replace(struct.pack("<HHII", 257, 4, 1, 24), struct.pack("<HHII", 257, 4, 1, 100_000))
    with pytest.raises(ImageTooLarge):
        decode_image(bytes(data))


@given(st.sampled_from(FORMATS), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_raise_image_errors_only(name: str, data: st.DataObject) -> None:
    damaged = bytearray(file(name))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        assert decode_image(bytes(damaged), max_pixels=1_000_000).pixels.ndim == 3


def test_no_warning_leaks_and_no_filter_stays_behind_when_many_decode_at_once() -> None:
    tiff = bytearray(file("TIFF"))
    tiff[-4:] = b"\xff\xff\xff\xff"
    files = [
        bomb(10_000),
        bytes(tiff),
        file("PNG"),
        file("JPEG"),
        saved(Image.new("P", (4, 4), 1), "PNG", transparency=b"\0\xff"),
    ]

    def attempt(data: bytes) -> bool:
        try:
            return decode_image(data).pixels.ndim == 3
        except ImageError:
            return False

    filters = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:  # warnings are errors in this test run: a leak would be raised
        results = list(pool.map(attempt, files * 20))
    assert all(results[2:5])
    assert list(warnings.filters) == filters


@pytest.mark.parametrize(
    ("height", "width", "content", "corner"),
    [
        (100, 200, (32, 64), (16, 0)),
        (200, 100, (64, 32), (0, 16)),
        (64, 64, (64, 64), (0, 0)),
        (10, 10, (64, 64), (0, 0)),  # small images are enlarged
        (90, 100, (58, 64), (0, 0)),  # a margin of 6 is less than a patch: it lies below
        (1, 1000, (1, 64), (24, 0)),
    ],
)
def test_an_image_is_scaled_by_one_factor_and_starts_on_the_patch_grid(
    height: int, width: int, content: tuple[int, int], corner: tuple[int, int]
) -> None:
    fitted = fit(scene(height, width) if min(height, width) > 1 else np.zeros((height, width, 3), np.uint8), 64)
    place = fitted.placement
    assert fitted.pixels.shape == (64, 64, 3)
    assert ((place.height, place.width), (place.top, place.left)) == (content, corner)
    assert place.scale == 64 / max(height, width)
    assert place.valid_pixels().sum() == content[0] * content[1]
    assert place.restore(fitted.pixels).shape == (*content, 3)


def test_an_image_of_the_models_size_is_left_as_it_is() -> None:
    pixels = scene(64, 64)
    np.testing.assert_array_equal(fit(pixels, 64).pixels, pixels)


def test_padding_is_the_median_of_the_contents_border() -> None:
    pixels = np.full((32, 64, 3), (90, 100, 110), dtype=np.uint8)
    pixels[5:20, 20:40] = 255  # a part in the middle
    pixels[0, :5] = 0  # a few odd pixels on the border
    fitted = fit(pixels, 64)
    padding = fitted.pixels[~fitted.placement.valid_pixels()]
    assert (padding == (90, 100, 110)).all()


def test_shrinking_is_antialiased() -> None:
    checks = np.indices((512, 512)).sum(0) % 2 * 255
    fitted = fit(np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8), 64)
    assert abs(fitted.pixels.astype(int) - 127).max() <= 2


def test_a_patch_counts_when_it_shows_any_of_the_image() -> None:
    place = fit(scene(90, 100), 64).placement  # content: rows 0 ... 57
    assert in_patches(place.valid_pixels(), 8).tolist() == [[True] * 8] * 8
    narrow = fit(scene(100, 200), 64).placement  # rows 16 ... 47
    shown = in_patches(narrow.valid_pixels(), 8)
    assert shown.any(axis=1).tolist() == [False, False, True, True, True, True, False, False]
    with pytest.raises(ValueError, match="do not divide"):
        in_patches(narrow.valid_pixels(), 7)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (333, 1000), (17, 23)])
def test_a_box_in_the_map_comes_back_to_its_place_in_the_original(height: int, width: int) -> None:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    y, x, h, w = height // 3, width // 2, max(2, height // 4), max(2, width // 5)
    pixels[y : y + h, x : x + w] = 255
    fitted = fit(pixels, 128)
    bright = fitted.placement.restore(fitted.pixels)[:, :, 0] > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    found = fitted.placement.to_original(
        (int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1))
    )
    step = 1 / fitted.placement.scale + 1  # one model pixel, in the original
    assert all(abs(ours - true) <= 2 * step for ours, true in zip(found, (x, y, w, h), strict=True))


def test_the_whole_map_is_the_whole_original() -> None:
    place = fit(scene(333, 1000), 64).placement
    assert place.to_original((0, 0, place.width, place.height)) == (0, 0, 1000, 333)
    assert place.area_in_original(place.width * place.height) == 333_000
    left, top, width, height = place.to_original((63, 20, 1, 1))
    assert (left + width, top + height) == (1000, 333)


def test_model_values_run_from_minus_one_to_one_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32)[:, :, None].repeat(3, axis=2)
    values = to_model(pixels)
    assert values.shape == (3, 8, 32)
    assert values.dtype == np.float32
    assert (values.min(), values.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(from_model(values), pixels)
    assert from_model(np.full((3, 1, 1), 1.3, dtype=np.float32)).max() == 255


def test_pictures_are_encoded_and_come_back() -> None:
    np.testing.assert_array_equal(decode_image(to_png(scene())).pixels, scene())
    mask = np.array([[True, False]])
    assert decode_image(to_png(mask)).pixels[0, :, 0].tolist() == [255, 0]

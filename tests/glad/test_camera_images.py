"""Images as cameras and their software store them: each kind has one meaning. Files are written here, byte by byte,
where Pillow could not write them, so that what is read is not what the same library wrote."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from glad.image_codec import ImageNotDecodable, check_image, decode_image

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types of the PNG standard."""

Levels = list[list[int]]


def big_endian(*levels: int) -> bytes:
    """16-bit samples as PNG has them."""
    return struct.pack(f">{len(levels)}H", *levels)


def png(width: int, depth: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one row."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def tiff(
    strips: Sequence[bytes],
    width: int,
    bits: int,
    photometric: int,
    *,
    samples: int = 1,
    sample_format: int = 1,
    planar: int = 1,
    alpha: int | None = None,
    order: str = "<",
    compression: int = 1,
    more: Sequence[tuple[int, list[int]]] = (),
) -> bytes:
    """An uncompressed TIFF of one row, or one that says something else; `more`: further tags, with their values."""
    data = b"".join(strips)
    data += b"\0" * (len(data) % 2)
    starts = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    short, long = 3, 4
    tags = [
        (256, short, [width]),
        (257, short, [1]),
        (258, short, [bits] * samples),
        (259, short, [compression]),
        (262, short, [photometric]),
        (273, long, starts),
        (277, short, [samples]),
        (278, short, [1]),
        (279, long, [len(strip) for strip in strips]),
        (284, short, [planar]),
        *([] if alpha is None else [(338, short, [alpha])]),
        (339, short, [sample_format] * samples),
    ]
    tags = sorted([*tags, *((tag, short, values) for tag, values in more)])
    directory = 8 + len(data)
    beyond = directory + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, kind, given in tags:
        value = struct.pack(order + ("H" if kind == short else "I") * len(given), *given)
        if len(value) > 4:
            place, values = struct.pack(order + "I", beyond + len(values)), values + value
        else:
            place = value.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(given)) + place
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory)
    return start + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def bmp(bits: int, row: bytes, width: int, height: int = 1, *, compression: int = 0, more: bytes = b"") -> bytes:
    """A BMP; `more`: masks, the rest of a longer header, or a palette."""
    size = 124 if len(more) == 84 else 40
    palette = len(more) // 4 if bits <= 8 else 0
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(row), 0, 0, palette, 0) + more
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(row), 0, 0, start) + header + row


def saved(image: Image.Image, name: str, **options: object) -> bytes:
    """A file as Pillow writes it."""
    target = io.BytesIO()
    image.save(target, format=name, **options)
    return target.getvalue()


def decoded(data: bytes) -> Levels:
    """The pixels of a small image, one after the other."""
    levels: Levels = decode_image(data).pixels.reshape(-1, 3).tolist()
    return levels


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_8_bit_grey_and_colour_are_what_the_library_reads(name: str, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise).convert(mode), name)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode_image(data).pixels, np.array(image.convert("RGB")))


def test_16_bit_grey_is_divided_by_257() -> None:
    # 32896 = 128 x 257; 129 / 257 = 0.502 is nearer to 1
    assert decoded(png(4, 16, GREY, big_endian(0, 129, 32896, 65535))) == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_16_bit_grey_with_a_transparent_level_shows_white_there() -> None:
    data = png(3, 16, GREY, big_endian(0, 32896, 257), (b"tRNS", big_endian(32896)))
    assert decoded(data) == [[0] * 3, [255] * 3, [1] * 3]


def test_16_bit_colour_keeps_its_high_byte() -> None:
    # 0x80ff would round to 129; 0x0101 is 1
    assert decoded(png(1, 16, RGB, big_endian(0x8080, 0x80FF, 0x0101))) == [[0x80, 0x80, 0x01]]
    strip = struct.pack("<3H", 0x8080, 0x80FF, 0x0101)
    assert decoded(tiff([strip], 1, 16, 2, samples=3)) == [[0x80, 0x80, 0x01]]


def test_16_bit_with_alpha_is_composited_on_white() -> None:
    assert decoded(png(2, 16, GREY_ALPHA, big_endian(0x8000, 65535, 0x8000, 0))) == [[0x80] * 3, [255] * 3]
    row = big_endian(0x8000, 0, 65535, 65535, 0x8000, 0, 65535, 0)
    assert decoded(png(2, 16, RGB_ALPHA, row)) == [[0x80, 0, 255], [255] * 3]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_fill_the_range(depth: int) -> None:
    assert decoded(png(2, depth, GREY, bytes([0xFF >> depth]))) == [[0] * 3, [255] * 3]


def test_a_palette_gives_its_colours_and_its_transparency() -> None:
    colours = (b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    assert decoded(png(2, 8, PALETTE, bytes([1, 0]), colours)) == [[40, 50, 60], [10, 20, 30]]
    assert decoded(png(2, 8, PALETTE, bytes([1, 0]), colours, (b"tRNS", b"\0"))) == [[40, 50, 60], [255] * 3]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_16_bit_grey_is_read_in_both_byte_orders(order: str) -> None:
    strip = struct.pack(order + "3H", 0, 32896, 65535)
    assert decoded(tiff([strip], 3, 16, 1, order=order)) == [[0] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_zero_is_white_is_inverted(bits: int) -> None:
    strip = bytes([0, 255]) if bits == 8 else struct.pack("<2H", 0, 65535)
    assert decoded(tiff([strip], 2, bits, 0)) == [[255] * 3, [0] * 3]


def test_12_bit_grey_fills_the_range() -> None:
    # 0, 2048 and 4095 in 12 bits each: 2048 / 4095 * 255 = 127.53
    assert decoded(tiff([bytes([0x00, 0x08, 0x00, 0xFF, 0xF0])], 3, 12, 1)) == [[0] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("bits", "sample_format", "strip"),
    [(8, 2, b"\0"), (16, 2, b"\0\0"), (32, 1, bytes(4)), (32, 2, bytes(4)), (32, 3, bytes(4))],
    ids=["signed 8", "signed 16", "32", "signed 32", "float"],
)
def test_samples_without_a_defined_range_are_refused(bits: int, sample_format: int, strip: bytes) -> None:
    with pytest.raises(ImageNotDecodable, match="8 or 16 bit"):
        decode_image(tiff([strip], 1, bits, 1, sample_format=sample_format))


def test_a_tiff_with_its_channels_apart_is_put_together() -> None:
    assert decoded(tiff([b"\1\2", b"\3\4", b"\5\6"], 2, 8, 2, samples=3, planar=2)) == [[1, 3, 5], [2, 4, 6]]


def test_alpha_of_a_tiff_is_composited_and_a_fourth_channel_that_is_none_is_not() -> None:
    unassociated, associated, unspecified = 2, 1, 0
    # half of 100 on white: 100 * 128/255 + 127 = 177; of a colour that is multiplied already: 100 + 127
    assert decoded(tiff([b"\x64\x64\x64\x80"], 1, 8, 2, samples=4, alpha=unassociated)) == [[177] * 3]
    assert decoded(tiff([b"\x64\x32\x00\x80"], 1, 8, 2, samples=4, alpha=associated)) == [[227, 177, 127]]
    assert decoded(tiff([b"\x64\x32\x00\x00"], 1, 8, 2, samples=4, alpha=unspecified)) == [[100, 50, 0]]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "group4"])
def test_compressed_tiffs_are_read(compression: str) -> None:
    mode = "1" if compression == "group4" else "RGB"
    data = saved(Image.new(mode, (16, 4), 255 if mode == "1" else (10, 20, 30)), "TIFF", compression=compression)
    assert decoded(data)[0] == ([255] * 3 if mode == "1" else [10, 20, 30])


def test_of_several_pages_or_frames_the_first_counts() -> None:
    first, second = Image.new("RGB", (1, 1), (10, 20, 30)), Image.new("RGB", (1, 1), (99, 99, 99))
    for name, options in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = saved(first, name, save_all=True, append_images=[second], **options)
        assert decoded(data) == [[10, 20, 30]], name


def test_bmps_of_every_kind_are_read() -> None:
    assert decoded(bmp(24, bytes([3, 2, 1, 0]), 1)) == [[1, 2, 3]]
    assert decoded(bmp(24, bytes([3, 2, 1, 0, 6, 5, 4, 0]), 1, -2)) == [[1, 2, 3], [4, 5, 6]]  # top row first
    assert decoded(bmp(24, bytes([3, 2, 1, 0, 6, 5, 4, 0]), 1, 2)) == [[4, 5, 6], [1, 2, 3]]  # bottom row first
    assert decoded(bmp(32, bytes([3, 2, 1, 0]), 1)) == [[1, 2, 3]]  # the fourth byte means nothing
    assert decoded(bmp(16, struct.pack("<2H", 0x7FFF, 0x001F), 2)) == [[255] * 3, [0, 0, 255]]
    masks = struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    assert decoded(bmp(16, struct.pack("<2H", 0xFFFF, 0xF800), 2, compression=3, more=masks)) == [
        [255] * 3,
        [255, 0, 0],
    ]
    assert decoded(bmp(8, bytes([1, 0, 0, 0]), 2, more=bytes([0, 0, 0, 0, 200, 200, 200, 0]))) == [[200] * 3, [0] * 3]
    with_alpha = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(68)
    half = [[round((value * 128 + 255 * 127) / 255) for value in (1, 2, 3)]]
    assert decoded(bmp(32, bytes([3, 2, 1, 128]), 1, compression=3, more=with_alpha)) == half


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("check", [decode_image, check_image])
def test_an_image_that_shows_nothing_is_refused_and_is_not_white(mode: str, check: Callable[[bytes], object]) -> None:
    """A camera that writes an alpha and never fills it; one pixel that shows is an image."""
    image = Image.effect_noise((8, 8), 40).convert(mode)
    image.putalpha(0)
    with pytest.raises(ImageNotDecodable, match=r"every pixel is transparent .* store it without alpha"):
        check(saved(image, "PNG"))
    image.putpixel((3, 3), (9,) * (len(mode) - 1) + (255,))
    check(saved(image, "PNG"))


def test_cmyk_of_print_software_is_no_negative() -> None:
    # Adobe's CMYK JPEGs are stored inverted, and say so in a marker
    for ink, light in (((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0)):
        [level, *_] = decoded(saved(Image.new("CMYK", (8, 8), ink), "JPEG"))
        assert level == pytest.approx([light] * 3, abs=3)


def test_a_16_bit_image_is_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right makes the left end the top
    data = saved(Image.fromarray(np.array([[257, 65535]], dtype=np.uint16)), "PNG", exif=exif)
    assert decode_image(data).pixels[:, :, 0].tolist() == [[1], [255]]

"""TIFF files: opened so that Pillow reads what libtiff reads, and their strips and tiles as they are packed.

Pillow reads an uncompressed TIFF by itself, and by libtiff all others. Its own reader takes planes of 16 bits, planes
whose 0 is white and subsampled YCbCr for something else, without a word; libtiff reads them. So libtiff reads all here.
What the two together still cannot read is refused, and the error names the property.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageChops, ImagePalette
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from glad.pillow_switches import tiffs_through_libtiff

IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION = 256, 257, 274
BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANAR = 258, 259, 262, 266, 277, 284
EXTRA_SAMPLES, SAMPLE_FORMAT, COLOUR_MAP, JPEG_TABLES, FAX_OPTIONS = 338, 339, 320, 347, 292
STRIP_OFFSETS, STRIP_BYTES, ROWS_PER_STRIP = 273, 279, 278
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325

PROPERTIES = {
    "Compression": (COMPRESSION, 1),
    "PhotometricInterpretation": (PHOTOMETRIC, "missing"),
    "BitsPerSample": (BITS, 1),
    "SamplesPerPixel": (SAMPLES, 1),
    "ExtraSamples": (EXTRA_SAMPLES, "none"),
    "SampleFormat": (SAMPLE_FORMAT, 1),
    "PlanarConfiguration": (PLANAR, 1),
}
"""What decides how samples are read: the tag, and what counts where it is missing."""

SEPARATE_PLANES, JPEG = 2, 7
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Every byte with its bits in the order of FillOrder 2."""

PLANES_READ = frozenset({"1", "L", "P", "I;16", "I;16B", "RGB", "RGBA", "CMYK", "LAB", "I", "F"})
"""Modes of which Pillow puts separate planes together as they belong."""

BIG_ENDIAN_BIG_TIFF = b"MM\0+"

NEW_SUBFILE_TYPE, SUB_DIRECTORIES, DNG_VERSION = 254, 330, 50706
PREVIEW = 1
"""Bit of NewSubfileType: a smaller copy of another picture of the file."""
UNKNOWN_LAYOUT = "unknown pixel mode"
"""Pillow's words for samples that it cannot put into one of its modes."""

WHITE_IS_ZERO, RGB = 0, 2
PHOTOMETRICS = frozenset({*range(7), 8, 9, 10})
SAMPLE_FORMATS = frozenset(range(1, 7))
MOST_BITS = 64
"""What the standard knows."""

TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> what turns the upright image to how it is stored."""


class UnreadKind(ValueError):
    """A healthy file of a kind that is not read. Its text follows what is given, such as "TIFF image of 4000 bytes"."""

    def __init__(self, what: str, way_out: str) -> None:
        """Say it in one sentence.

        Args:
            what: what the file is or has, with its verb.
            way_out: what to store instead, as a request.
        """
        super().__init__(f"{what}. It is not damaged; this kind is not read: {way_out}")


@dataclass(frozen=True)
class PackedStrip:
    """A strip or a tile as it lies in the file, but for the order of bits."""

    data: bytes
    rows: int
    """Of the image; a tile may have more."""
    sizes: tuple[int, ...]
    """What it may have unpacked, in bytes: with the rows of the image, or with all that a strip has."""


def open_tiff(file: io.BytesIO) -> TiffImageFile:
    """Return the file's first image, nothing decoded.

    Raises:
        UnreadKind: if it has properties that cannot be read, or shows a preview of what it holds.
        ValueError: if its properties contradict each other; the error names them.
    """
    data = file.getvalue()
    if data.startswith(BIG_ENDIAN_BIG_TIFF):
        raise UnreadKind("is a BigTIFF in big-endian order", "store it little-endian, or as TIFF")
    try:
        with tiffs_through_libtiff():
            image = TiffImageFile(file)
    except (SyntaxError, KeyError) as error:  # Pillow's words for a combination that it does not know
        if str(error) == UNKNOWN_LAYOUT and _is_layout(read_tags(data)):
            way_out = "store it as grey or RGB with 8 or 16 bit, unsigned"
            raise UnreadKind(f"has samples of an unusual layout ({describe_layout(data)})", way_out) from error
        raise ValueError(f"{error}; it has {describe_layout(data)}") from error
    _refuse_preview(image)
    extra = image.tag_v2.get(EXTRA_SAMPLES, ())
    readable = image.mode in PLANES_READ and (len(extra) < 2 or not any(extra))
    if image.tag_v2.get(PLANAR, 1) == SEPARATE_PLANES and not readable:
        raise UnreadKind(f"has separate planes of an unusual layout ({describe_layout(data)})", "store it chunky")
    _read_colour_map(image)
    return image


def _is_layout(tags: Mapping[int, Any]) -> bool:
    """Return whether samples may be laid out so by the standard, though it is not read."""
    bits = tags.get(BITS, (1,))
    return (
        tags.get(PHOTOMETRIC) in PHOTOMETRICS
        and len(bits) == tags.get(SAMPLES, 1)
        and max(bits) <= MOST_BITS
        and set(tags.get(SAMPLE_FORMAT, (1,))) <= SAMPLE_FORMATS
        and tags.get(PLANAR, 1) in (1, SEPARATE_PLANES)
    )


def _refuse_preview(image: TiffImageFile) -> None:
    """Refuse a camera's raw file, whose first picture is a preview of a few pixels."""
    preview = (first_of(image, NEW_SUBFILE_TYPE) or 0) & PREVIEW and SUB_DIRECTORIES in image.tag_v2
    if preview or DNG_VERSION in image.tag_v2:
        raise UnreadKind(
            "is a camera's raw file, such as DNG or NEF: its first picture is a preview",
            "develop it, and store the picture as TIFF or PNG",
        )


def read_tags(data: bytes) -> ImageFileDirectory_v2:
    """Return the tags of a TIFF's first image. Raise as Pillow does if they cannot be read."""
    tags = ImageFileDirectory_v2(data[:16] if b"+" in data[2:4] else data[:8])  # BigTIFF has the longer header
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def describe_layout(data: bytes) -> str:
    """Return the properties of the first image in words."""
    tags = read_tags(data)
    order = "little-endian" if data.startswith(b"II") else "big-endian"
    named = (f"{name} {tags.get(tag, default)}"[:60] for name, (tag, default) in PROPERTIES.items())
    return ", ".join([order, *named])


def _read_colour_map(image: TiffImageFile) -> None:
    """Read a colour map of 8 bits as libtiff does: one in which no value needs more."""
    if image.mode not in ("P", "PA"):
        return
    bits = first_of(image, BITS) or 1
    colours = image.tag_v2.get(COLOUR_MAP, ())
    if len(colours) != 3 << bits:
        raise ValueError(f"the ColorMap has {len(colours)} values; {bits} bits need {3 << bits}")
    if max(colours) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def refuse_unclear_sample(image: TiffImageFile) -> None:
    """Refuse a loaded RGB image whose fourth sample is not said to be anything, unless it is opaque as alpha too.

    Raises:
        UnreadKind: if leaving that sample away and blending by it would give two pictures.
    """
    unclear = first_of(image, PHOTOMETRIC) == RGB and EXTRA_SAMPLES not in image.tag_v2 and image.mode == "RGBA"
    if unclear and image.getchannel("A").getextrema() != (255, 255):
        raise UnreadKind(
            "has a fourth sample that may be alpha or nothing", "say which in ExtraSamples, or store 3 samples"
        )


def first_of(image: TiffImageFile, tag: int) -> int | None:
    """Return the first value of a tag; None if the image has none."""
    values: Any = image.tag_v2.get(tag)
    first: int | None = values[0] if isinstance(values, tuple) and values else values
    return first


def as_stored(data: bytes) -> Image.Image:
    """Return the pixels of a TIFF of one bit as its decoder gave them: not turned upright, 0 as 0."""
    image = TiffImageFile(io.BytesIO(data))
    turn = TURN_BACK.get(image.tag_v2.get(ORIENTATION, 1))
    image.load()
    stored = image if turn is None else image.transpose(turn)
    return ImageChops.invert(stored) if first_of(image, PHOTOMETRIC) == WHITE_IS_ZERO else stored


def packed_strips(image: TiffImageFile, data: bytes) -> Iterator[PackedStrip]:
    """Yield every strip or tile of an opened image.

    Raises:
        ValueError: if one lies beyond the end of the file, or the file does not say where they lie.
    """
    tiled = TILE_OFFSETS in image.tag_v2
    starts = image.tag_v2.get(TILE_OFFSETS if tiled else STRIP_OFFSETS, ())
    lengths = image.tag_v2.get(TILE_BYTES if tiled else STRIP_BYTES, ())
    if not starts or len(starts) != len(lengths):
        raise ValueError(f"{len(starts)} strips with {len(lengths)} lengths")
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if start + length > len(data):
            raise ValueError(f"a strip ends at byte {start + length} of {len(data)}")
        packed = data[start : start + length]
        reverse = image.tag_v2.get(FILL_ORDER, 1) == 2 and image.tag_v2.get(COMPRESSION) != JPEG
        yield PackedStrip(packed.translate(REVERSED) if reverse else packed, *_unpacked(image, number, len(starts)))


def _unpacked(image: TiffImageFile, number: int, count: int) -> tuple[int, tuple[int, ...]]:
    """Return the rows of a strip or tile, and how many bytes it may have."""
    tags, tiled = image.tag_v2, TILE_OFFSETS in image.tag_v2
    height = tags[IMAGE_LENGTH]
    planes = tags.get(SAMPLES, 1) if tags.get(PLANAR, 1) == SEPARATE_PLANES else 1
    bits = tags[TILE_WIDTH if tiled else IMAGE_WIDTH] * (first_of(image, BITS) or 1) * tags.get(SAMPLES, 1) // planes
    row = (bits + 7) // 8
    whole = tags[TILE_LENGTH] if tiled else min(tags.get(ROWS_PER_STRIP, height), height)
    rows = whole if tiled else min(whole, height - number % max(1, count // planes) * whole)
    return rows, (row * rows, row * whole)

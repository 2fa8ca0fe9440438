"""Kinds of JPEG, PNG, BMP and TIFF that are not read, by their headers: such files are healthy, and must be converted.

It is looked only after a file did not decode: whoever built the decoders may have built in more. A value that no
standard knows is no kind, but damage.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from glad.image_integrity import segments
from glad.tiff_files import (
    BIG_ENDIAN_BIG_TIFF,
    BITS,
    COMPRESSION,
    DNG_VERSION,
    MOST_BITS,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    UnreadKind,
    describe_layout,
    read_tags,
)

JPEG_LS = 0xF7
LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
HIERARCHICAL = frozenset({0xC5, 0xC6, 0xCD, 0xCE})
FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA, JPEG_LS}) | LOSSLESS | HIERARCHICAL
DEEP = frozenset({12, 16})
"""Bits per sample that JPEG has beside 8."""

BMP_PACKED = {4: "JPEG", 5: "PNG"}
BMP_DEPTHS = frozenset({2, 64})

UNREAD_COMPRESSIONS: Mapping[int, str] = {
    6: "the JPEG of TIFF 6.0 of 1992",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT's compression",
    32767: "Sony's raw compression",
    32769: "a raw camera's compression",
    32908: "PixarFilm",
    32909: "PixarLog",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34713: "Nikon's raw compression",
    34887: "LERC",
    34892: "the lossy JPEG of raw files",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    65000: "Kodak's raw compression",
}
UNREAD_COLOURS: Mapping[int, str] = {
    4: "a transparency mask, not a picture",
    9: "ICC Lab colours",
    10: "ITU Lab colours",
    32803: "the raw values of a colour sensor (a Bayer pattern)",
    32844: "LogL values",
    32845: "LogLuv values",
    34892: "the raw values of a colour sensor",
}
UNREAD_FORMATS: Mapping[int, str] = {
    2: "signed samples",
    3: "float samples",
    5: "complex samples",
    6: "complex samples",
}
USUAL_BITS = frozenset({1, 2, 4, 8, 16})

AS_JPEG = "store it as a usual JPEG with 8 bits, or as PNG or TIFF"
AS_PNG = "store it as a usual PNG, with no phone's optimisation"
AS_BMP = "store it as BMP with 8, 24 or 32 bits, or as PNG"
AS_TIFF = "store it as grey or RGB with 8 or 16 bit, unsigned, packed with LZW, deflate or not at all; or as PNG"


def find_unread_kind(name: str, data: bytes) -> UnreadKind | None:
    """Return what kind a file is that did not decode, if that kind is not read; None: it is damaged.

    Args:
        name: the format by its signature.
        data: of the file.
    """
    try:
        match name:
            case "JPEG":
                return _find_jpeg(data)
            case "PNG" if data[12:16] == b"CgBI":
                return UnreadKind("is written for iPhones (CgBI)", AS_PNG)
            case "BMP":
                return _find_bmp(data)
            case "TIFF":
                return _find_tiff(data)
    except Exception:  # its header cannot be read: damage
        return None
    return None


def _find_jpeg(data: bytes) -> UnreadKind | None:
    marker, frame = next((marker, body) for marker, body in segments(data) if marker in FRAMES)
    if marker == JPEG_LS:
        return UnreadKind("is a JPEG-LS", AS_JPEG)
    if marker in LOSSLESS:
        return UnreadKind("is a lossless JPEG, as medical devices and raw files have it", AS_JPEG)
    if marker in HIERARCHICAL:
        return UnreadKind("is a hierarchical JPEG", AS_JPEG)
    if frame[0] in DEEP:
        return UnreadKind(f"is a JPEG with {frame[0]} bits per sample", AS_JPEG)
    return UnreadKind("is a JPEG with 2 components", AS_JPEG) if frame[5] == 2 else None


def _find_bmp(data: bytes) -> UnreadKind | None:
    size, bits, packed = struct.unpack_from("<I10xHI", data, 14)
    if size in (40, 52, 56, 108, 124) and packed in BMP_PACKED:
        return UnreadKind(f"is a {BMP_PACKED[packed]} within a BMP", f"send it as {BMP_PACKED[packed]}")
    return UnreadKind(f"is a BMP with {bits} bits per pixel", AS_BMP) if bits in BMP_DEPTHS else None


def _find_tiff(data: bytes) -> UnreadKind | None:
    if data.startswith(BIG_ENDIAN_BIG_TIFF):
        return UnreadKind("is a BigTIFF in big-endian order", "store it little-endian, or as TIFF")
    if data[8:10] == b"CR":
        return UnreadKind("is a Canon camera's raw file (CR2)", f"develop it, and {AS_TIFF}")
    tags = read_tags(data)
    if DNG_VERSION in tags:
        return UnreadKind("is a camera's raw file (DNG)", f"develop it, and {AS_TIFF}")
    named = (
        UNREAD_COLOURS.get(tags.get(PHOTOMETRIC, -1)),
        (packed := UNREAD_COMPRESSIONS.get(tags.get(COMPRESSION, 1))) and f"samples packed with {packed}",
        _sample_kind(tags.get(SAMPLE_FORMAT, ()), tags.get(BITS, ())),
    )
    found = next((kind for kind in named if kind), None)
    return None if found is None else UnreadKind(f"has {found} ({describe_layout(data)})", AS_TIFF)


def _sample_kind(formats: tuple[int, ...], bits: tuple[int, ...]) -> str | None:
    given = set(formats) & UNREAD_FORMATS.keys()
    width = max(bits, default=1)
    if given:
        return f"{UNREAD_FORMATS[min(given)]} of {width} bits"
    if len(set(bits)) == 1 and width <= MOST_BITS and width not in USUAL_BITS:
        return f"samples of {width} bits"
    return None

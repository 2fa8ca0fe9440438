"""Small image files that cost a decoder much time or memory."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from tests.support.hostile import Files


def noise(width: int, height: int, mode: str = "L") -> Image.Image:
    """An image in which every byte counts."""
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file."""
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def repeated_scans(scans: int, side: int = 4000) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each is worked through for all blocks."""
    data = saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    end = data.rindex(b"\xff\xd9")
    return data[:last] + data[last:end] * scans + data[end:]


def junk_before_a_marker(count: int, junk: bytes = b"\0") -> bytes:
    """A good JPEG with so much before its second segment that belongs to nothing."""
    data = saved(noise(64, 64), "JPEG")
    return data[:2] + b"\xff\xfe\x00\x02" + junk * count + data[2:]


def many_segments(count: int) -> bytes:
    """A good JPEG with `count` empty comments."""
    data = saved(noise(64, 64), "JPEG")
    return data[:2] + b"\xff\xfe\x00\x02" * count + data[2:]


def giant_tile(side: int) -> bytes:
    """A TIFF of 64x64 pixels in one tile of `side` x `side`, which is packed and hardly there."""
    pixels = zlib.compress(bytes(4096))
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 8)]
    tags += [(325, len(pixels))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def giant_canvas(width: int, height: int) -> bytes:
    """A WebP that is a header alone."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = b"VP8L" + struct.pack("<I", 8) + b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(3)
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + frame
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def clear_level(side: int) -> bytes:
    """A 16-bit grey PNG of equal pixels, one level of which is declared transparent: good, and small."""
    rows = zlib.compressobj(9)
    pixels = b"".join(rows.compress(bytes(1 + 2 * side)) for _ in range(side)) + rows.flush()
    header = struct.pack(">II", side, side) + bytes([16, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, body) for kind, body in ((b"IHDR", header), (b"tRNS", b"\0\3"), (b"IDAT", pixels), (b"IEND", b""))
    )


def run_lengths(side: int) -> bytes:
    """A BMP packed by runs of one pixel, which Pillow unpacks in Python."""
    packed = b"\x01\x07" * (side * side) + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(packed), 0, 0, 256, 0)
    palette = bytes(1024)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(packed), 0, 0, start) + header + palette + packed


def refused_by_their_headers() -> Files:
    """Files that cost too much, as what comes before the pixels tells."""
    return {
        "JPEG of 2000 scans": repeated_scans(2000),
        "JPEG with 2 MB of zeros before a marker": junk_before_a_marker(2_000_000),
        "JPEG with 2 MB of escaped bytes before a marker": junk_before_a_marker(1_000_000, b"\xff\0"),
        "JPEG with 2 MB of fill bytes before a marker": junk_before_a_marker(2_000_000, b"\xff"),
        "JPEG of 100000 segments": many_segments(100_000),
        "TIFF of a tile of 46336 pixels a side": giant_tile(46336),
        "WebP of a canvas of 16383 x 10900": giant_canvas(16383, 10900),
    }


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

"""What decoding an image file would cost beyond its pixels, counted in its headers before anything is decoded.

The number of pixels bounds time and memory of most files. It does not bound a JPEG whose blocks are all visited
again and again (scans) or that has more markers than data, a TIFF whose tiles are larger than the image, nor a WebP,
whose decoder makes its canvas when it is opened.
"""

from __future__ import annotations

import re
from math import prod

MAX_SCANS = 64
"""Of a JPEG. Encoders write about ten for a progressive one; each scan visits every block of the image."""
MAX_SEGMENTS = 10_000
"""Of a JPEG, metadata included: a colour profile has at most 255, and 64 MiB of full segments are a thousand."""
MAX_JUNK_BYTES = 64 << 10
"""Bytes before the markers of a JPEG's header that belong to no segment: decoders skip them one by one."""
MAX_TILE_PIXELS = 1 << 24
"""Of a TIFF's tile, unless its image has more: a decoder unpacks a whole tile, however small the image is."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MARKER_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A restart marker (0xD0 to 0xD7) belongs to the data of the scan."""


def find_jpeg_excess(data: bytes) -> str | None:
    """Return what makes a JPEG cost more than its pixels tell, with the limit; None if nothing does."""
    at, segments, scans, junk, pattern = 2, 0, 0, 0, _MARKER
    while (found := pattern.search(data, at)) is not None:
        marker, segments = data[found.start() + 1], segments + 1
        if pattern is _MARKER:
            junk += found.start() - at
        scans += marker == _START_OF_SCAN
        if excess := _jpeg_excess(segments, scans, junk):
            return excess
        if marker == _END_OF_IMAGE:
            break
        length = 0 if marker in _WITHOUT_LENGTH else int.from_bytes(data[found.end() : found.end() + 2], "big")
        at = found.end() + length
        pattern = _MARKER_AFTER_SCAN if scans else _MARKER
    return _jpeg_excess(segments, scans, junk + (0 if scans else max(0, len(data) - at)))


def _jpeg_excess(segments: int, scans: int, junk: int) -> str | None:
    if scans > MAX_SCANS:
        return f"more than {MAX_SCANS} scans: store it as a baseline JPEG, or progressive with the usual ten"
    if segments > MAX_SEGMENTS:
        return f"more than {MAX_SEGMENTS} segments: leave its metadata out"
    if junk > MAX_JUNK_BYTES:
        return f"more than {MAX_JUNK_BYTES} bytes before its markers that belong to nothing: store it again"
    return None


def find_tile_excess(tile: tuple[int, ...], image: tuple[int, int]) -> str | None:
    """Return what makes a TIFF's tiles cost more than its pixels tell, with the limit; None if nothing does.

    Args:
        tile: width and height of a tile, in pixels; 0: the file has none.
        image: width and height of the image.
    """
    limit = max(MAX_TILE_PIXELS, prod(image))
    if prod(tile) <= limit:
        return None
    return (
        f"tiles of {'×'.join(map(str, tile))} pixels for an image of {'×'.join(map(str, image))}; the limit is "
        f"{limit}: store it in smaller tiles, or in strips"
    )


def read_webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Return width and height of the canvas that a WebP's header names; None if it names none."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X" and len(body) == 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) == 10:
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None

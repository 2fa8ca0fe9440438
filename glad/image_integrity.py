"""What an image file itself shows of damage: lengths, checksums, markers and what a strict decoder complains about.

Decoders go on where they can: a JPEG whose second half was lost decodes, into half a picture. An inspection must not
judge that.

| format | what is checked | what cannot be seen |
|---|---|---|
| JPEG | every scan, by a decoder that takes no warning; that none is missing | bits that became other codes |
| JPEG with a subsampling such as 4:1:0 | that no scan is missing | all within the scans |
| PNG | every chunk's checksum, and the end | |
| WebP | the length; that the last bytes are needed, for codes that went astray take other room | as JPEG |
| TIFF, deflate; JPEG | the checksum; as JPEG | |
| TIFF, PackBits; LZW, LZMA, Zstandard | the length; what libtiff reports | as JPEG |
| TIFF, fax | that the picture, packed again, gives the same bytes | |
| BMP | the length, where the header says it rightly | all else |
| TIFF, uncompressed | that every strip lies in the file | all else |

What is not seen needs a checksum that travels beside the file: RFC 9530's Content-Digest.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice

import simplejpeg
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from glad.tiff_files import FAX_OPTIONS, JPEG_TABLES, ROWS_PER_STRIP, PackedStrip, as_stored, packed_strips

START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN, TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
"""Any marker but those that may stand inside of a scan."""

SPARE_BYTES = 8
"""At the end of a WebP's picture: encoders leave up to 3 that no decoder needs."""

UNUSUAL = "Could not determine subsampling"
"""How the strict decoder says that it does not know a JPEG's kind, such as 4:1:0, though it may be whole."""

MOST_PARTS = 10_000
"""Segments or chunks of one file that are looked at: no camera writes as many, and each takes a microsecond."""

PIECE_BYTES = 1 << 20
"""How much of a strip is unpacked at a time."""


class DamageNotShown(ValueError):
    """The file may be damaged and not show it. The text follows what is given, such as "TIFF image of 4000 bytes"."""


def check_integrity(image: ImageFile, data: bytes) -> None:
    """Refuse a loaded file that shows damage. Every bit of a JPEG or WebP is decoded once more for it.

    Raises:
        ValueError: says what is wrong.
    """
    match image.format:
        case "JPEG":
            check_jpeg(data)
        case "PNG":
            check_png(data)
        case "WEBP":
            check_webp(data, image.size)
        case "BMP":
            check_bmp(data)
        case "TIFF":
            assert isinstance(image, TiffImageFile)
            check_tiff(image, data)


def check_jpeg(data: bytes) -> None:
    """Refuse a JPEG in which coded bits are missing, left over or no code, or a scan is missing.

    Raises:
        ValueError: says which.
    """
    components = _check_scans(data)
    # The smallest picture in grey: every code is read all the same, and hardly any pixel is made.
    colours = "CMYK" if components == 4 else "GRAY"
    try:
        simplejpeg.decode_jpeg(data, colours, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        if UNUSUAL not in str(error):
            raise


def _check_scans(data: bytes) -> int:
    """Return how many components the frame has, all of them complete: no coefficient awaits a scan, or a finer one."""
    awaited: dict[int, list[int | None]] = {}
    progressive = False
    for marker, body in segments(data):
        if marker in START_OF_FRAME:
            progressive = marker in PROGRESSIVE
            awaited = {component: [None] * 64 for component in body[6::3]}
        elif marker == START_OF_SCAN and body:
            count = body[0]
            first, last, bits = body[1 + 2 * count : 4 + 2 * count] if progressive else (0, 63, 0)
            for component in body[1 : 1 + 2 * count : 2]:
                awaited[component][first : last + 1] = [bits & 15] * (last + 1 - first)
    missing = sum(any(awaiting != 0 for awaiting in coefficients) for coefficients in awaited.values())
    if missing or not awaited:
        raise ValueError(f"scans are missing: {missing} of {len(awaited)} components are not complete")
    return len(awaited)


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of every segment of a JPEG, to the end of the image."""
    place = 0
    for _ in range(MOST_PARTS):
        found = MARKER.search(data, place)
        if found is None:
            return
        marker, place = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            return
        if marker in (START_OF_IMAGE, TEMPORARY):
            continue
        length = int.from_bytes(data[place : place + 2])
        yield marker, data[place + 2 : place + length]
        place += length
    raise ValueError(f"it has more than {MOST_PARTS} segments")


def check_png(data: bytes) -> None:
    """Refuse a PNG with a chunk whose checksum is wrong, or without its last one.

    Raises:
        ValueError: names the chunk.
    """
    place, view = 8, memoryview(data)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if data[end : end + 4] != zlib.crc32(view[place + 4 : end]).to_bytes(4):
            raise ValueError(f"the checksum of chunk {kind!r} at byte {place} is wrong")
        if kind == b"IEND":
            return
        place = end + 4
    raise ValueError("it ends before its last chunk, IEND")


def check_webp(data: bytes, size: tuple[int, int]) -> None:
    """Refuse a WebP of another length than it says, or whose picture is complete before its data end.

    Args:
        size: width and height, in pixels.

    Raises:
        ValueError: says which.
    """
    said = 8 + int.from_bytes(data[4:8], "little")
    if len(data) != said:
        raise ValueError(f"it has {len(data)} bytes, and says {said}")
    for kind, body in islice(_chunks(data[12:]), MOST_PARTS):
        if kind not in (b"VP8 ", b"VP8L"):
            continue
        # Codes that went astray need more bits or fewer; where they need more, every decoder says so.
        if len(body) > SPARE_BYTES and _decodes(_webp(kind, body[:-SPARE_BYTES]), size):
            raise ValueError("its picture is complete before its data end, as after a loss")
        return


def _chunks(data: bytes, *, within_frame: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a WebP, and those of each of its frames."""
    place = 0
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        body = data[place + 8 : place + 8 + length]
        if kind == b"ANMF" and not within_frame:
            yield from _chunks(body[16:], within_frame=True)
        yield kind, body
        place += 8 + length + length % 2


def _webp(kind: bytes, body: bytes) -> bytes:
    """Return a WebP file of one chunk."""
    chunk = struct.pack("<4sI", kind, len(body)) + body + bytes(len(body) % 2)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunk), b"WEBP") + chunk


def _decodes(webp: bytes, largest: tuple[int, int]) -> bool:
    try:
        image = WebPImageFile(io.BytesIO(webp))
        if image.width > largest[0] or image.height > largest[1]:
            return False
        image.load()
    except MemoryError:
        raise  # it says nothing of the file
    except Exception:  # Pillow raises all kinds
        return False
    return True


def check_bmp(data: bytes) -> None:
    """Refuse a BMP with more bytes than its header says, where that fits its rows: something was put in.

    Raises:
        ValueError: gives both numbers.
    """
    said, start, header = struct.unpack_from("<I4xII", data, 2)
    layout = "<HHxxH" if header == 12 else "<iixxHI"
    width, height, bits, *packed = struct.unpack_from(layout, data, 18)
    end = start + (width * bits + 31) // 32 * 4 * abs(height)
    if packed in ([], [0], [3]) and said == end != len(data):
        raise ValueError(f"it has {len(data)} bytes, and says {said}")


def check_tiff(image: TiffImageFile, data: bytes) -> None:
    """Refuse a loaded TIFF whose strips or tiles show damage, or are packed in a way that would not show it.

    Raises:
        ValueError: says what is wrong with the first.
        DamageNotShown: if they are packed so.
    """
    match image.info["compression"]:
        case "raw" | "tiff_lzw" | "lzma" | "zstd":
            pass  # while it loaded, libtiff found what there is to be found
        case "tiff_ccitt" | "group3" | "group4" as fax:
            _check_fax(list(packed_strips(image, data)), data, fax, image.tag_v2.get(FAX_OPTIONS, 0))
        case "jpeg":
            tables = image.tag_v2.get(JPEG_TABLES, b"")
            for strip in packed_strips(image, data):
                check_jpeg(tables[:-2] + strip.data[2:] if tables else strip.data)
        case "tiff_adobe_deflate" | "tiff_deflate":
            for strip in packed_strips(image, data):
                _check_deflate(strip)
        case "packbits":
            for strip in packed_strips(image, data):
                _check_packbits(strip)
        case other:
            raise DamageNotShown(
                f"is packed with {other}, which does not show whether it is damaged: store it with LZW, deflate or none"
            )


def _check_fax(strips: Sequence[PackedStrip], data: bytes, compression: str, options: int) -> None:
    """Pack the picture again: the codes are fixed, and only those that were not damaged are what they should be."""
    stored, top = as_stored(data), 0
    tags = {FAX_OPTIONS: options} if options else {}
    for strip in strips:
        again = io.BytesIO()
        part = stored.crop((0, top, stored.width, top + strip.rows))
        part.save(again, "TIFF", compression=compression, tiffinfo={ROWS_PER_STRIP: strip.rows} | tags)
        again.seek(0)
        (packed,) = packed_strips(TiffImageFile(again), again.getvalue())
        if strip.data.rstrip(b"\0") != packed.data.rstrip(b"\0"):
            raise ValueError(f"a strip of {strip.rows} rows has other codes than its picture")
        top += strip.rows


def _check_deflate(strip: PackedStrip) -> None:
    unpacking, packed, left = zlib.decompressobj(), strip.data, max(strip.sizes) + 1
    while packed and left and not unpacking.eof:
        left -= len(unpacking.decompress(packed, min(left, PIECE_BYTES)))
        packed = unpacking.unconsumed_tail
    if not unpacking.eof:
        raise ValueError(f"a strip does not end after the {max(strip.sizes)} bytes that it may have")


def _check_packbits(strip: PackedStrip) -> None:
    if not any(_unpacks(strip.data, size) and not _unpacks(strip.data[:-2], size) for size in strip.sizes):
        raise ValueError(f"a strip does not unpack to its {strip.sizes[0]} bytes")


def _unpacks(packed: bytes, size: int) -> bool:
    try:
        Image.frombytes("L", (size, 1), packed, "packbits", "L")
    except ValueError:
        return False
    return True

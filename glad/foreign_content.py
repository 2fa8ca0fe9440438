"""What bytes that are no image of an allowed format look like, and what their sender should do.

An integrator reads this once, in an error message: most have sent the right image in the wrong wrapping.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

HEAD = 512
"""Bytes that are looked at."""
NOT_READ: Mapping[bytes, str] = {
    b"GIF8": "a GIF image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\x00\x00\x01\x00": "an ICO image",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF document",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"SIMPLE  =": "a FITS file",
}
"""How other files start that hold pictures."""
PACKED: Mapping[bytes, str] = {
    b"\x1f\x8b": "packed with gzip",
    b"PK\x03\x04": "a ZIP archive",
    b"\x28\xb5\x2f\xfd": "packed with Zstandard",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
}
WRITTEN_AS_TEXT = (
    b"\xef\xbf\xbdPNG",
    b"\xc2\x89PNG",
    b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
    b"\xc3\xbf\xc3\x98\xc3\xbf",
)
"""A PNG's and a JPEG's first bytes after somebody has taken them for characters."""
SENT_AS_TEXT = (b"\x89PNG\n\x1a\n", b"\x89PNG\r\r\n", b"\x89PNG\r\n\x1a\r\n", b"\x09PNG")
"""A PNG's first bytes after their line ends were changed, or their highest bit was lost."""
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")


def describe_foreign(data: bytes) -> str:
    """Return what this content is, and what to send instead, in words that follow "the content"."""
    head = data[:HEAD]
    for describe in _DESCRIPTIONS:
        if (found := describe(head)) is not None:
            return found
    return f"starts with {head[:8].hex(' ')}, which no image format here does: convert it to one of them"


def _packed(head: bytes) -> str | None:
    return _named(PACKED, head, "is {}: send the image file itself, not packed")


def _damaged_on_the_way(head: bytes) -> str | None:
    if head.startswith(WRITTEN_AS_TEXT):
        return "was read as text and written again, which destroys an image: read the file as bytes"
    if head.startswith(SENT_AS_TEXT):
        return "is a PNG whose line ends were changed: transfer it in binary mode"
    return None


def _not_read(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return "is a HEIF or AVIF image: convert it to one of these formats"
    if head[128:132] == b"DICM":
        return "is a DICOM file: convert it to one of these formats"
    if re.match(rb"P[1-7][\s#]", head):
        return "is a portable anymap (PBM, PGM, PPM): convert it to one of these formats"
    return _named(NOT_READ, head, "is {}: convert it to one of these formats")


def _data_url(head: bytes) -> str | None:
    return (
        "is a data URL: decode what follows its comma, and send those bytes" if head[:5].lower() == b"data:" else None
    )


def _json(head: bytes) -> str | None:
    if not re.match(rb"\s*[\[{]\s*[\"\d\[{]", head):
        return None
    return "is JSON: send the image's bytes as the body, or as the field `image` of a multipart form"


def _form(head: bytes) -> str | None:
    if head.startswith(b"--") and b"content-disposition:" in head.lower():
        return "is a multipart form without its header: send `Content-Type: multipart/form-data` with its boundary"
    if re.match(rb"[\w.-]{1,64}=(%[0-9A-Fa-f]{2}|[\w+/])", head) and b"\0" not in head:
        return "is a URL-encoded form: send the image's bytes as the body, or as the field `image` of a multipart form"
    return None


def _markup(head: bytes) -> str | None:
    return "is HTML, XML or SVG, not pixels: send the image file" if re.match(rb"\s*<[!?a-zA-Z]", head) else None


def _base64(head: bytes) -> str | None:
    text = re.sub(rb"\s", b"", head)
    if len(text) < 16 or not re.fullmatch(rb"[A-Za-z0-9+/_-]+={0,2}", text):
        return None
    try:
        start = base64.b64decode(text[: len(text) // 4 * 4].translate(bytes.maketrans(b"-_", b"+/")))
    except binascii.Error:
        return None
    if not start.startswith((*SIGNATURES, b"BM", b"RIFF")):
        return None
    return "is an image written in base64: decode it, and send the bytes"


def _shifted(head: bytes) -> str | None:
    places = [place for place in (head.find(signature) for signature in SIGNATURES) if place > 0]
    if not places:
        return None
    return f"has {min(places)} bytes before an image begins: send the image file from its first byte"


def _text(head: bytes) -> str | None:
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    if printable < len(head):
        return None
    return f"is text ({head[:40].decode('ascii')!r}), not an image: send the image file's bytes"


def _named(known: Mapping[bytes, str], head: bytes, sentence: str) -> str | None:
    names = (name for start, name in known.items() if head.startswith(start))
    return next((sentence.format(name) for name in names), None)


_DESCRIPTIONS: tuple[Callable[[bytes], str | None], ...] = (
    _packed,
    _damaged_on_the_way,
    _not_read,
    _data_url,
    _json,
    _form,
    _markup,
    _base64,
    _shifted,
    _text,
)
"""In this order: what comes first is surer."""

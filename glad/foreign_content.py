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
    b"\x8aMNG": "an MNG animation",
    b"\x8bJNG": "a JNG image",
    b"II\xbc\x01": "a JPEG XR image",
    b"qoif": "a QOI image",
    b"DDS ": "a DDS texture",
    b"\x01\xda\x00\x01": "an SGI image",
    b"\x01\xda\x01\x01": "an SGI image",
    b"\x0a\x05\x01": "a PCX image",
    b"\x0a\x02\x01": "a PCX image",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance HDR image",
    b"#?RGBE": "a Radiance HDR image",
    b"SDPX": "a DPX image",
    b"XPDS": "a DPX image",
    b"BPG\xfb": "a BPG image",
    b"FLIF": "a FLIF image",
    b"icns": "an icon of macOS",
    b"gimp xcf": "a GIMP project",
    b"AT&TFORM": "a DjVu document",
    b"%!PS": "a PostScript or EPS document",
    b"\xc5\xd0\xd3\xc6": "an EPS document",
    b"\xd7\xcd\xc6\x9a": "a WMF drawing",
    b"FUJIFILMCCD-RAW": "a camera's raw file (RAF)",
    b"IIRO": "a camera's raw file (ORF)",
    b"IIRS": "a camera's raw file (ORF)",
    b"IIU\0": "a camera's raw file (RW2)",
    b"II\x1a\0\0\0HEAPCCDR": "a camera's raw file (CRW)",
    b"FOVb": "a camera's raw file (X3F)",
    b"\0MRM": "a camera's raw file (MRW)",
    b"FFF\0": "a FLIR thermal file",
    b"MATLAB 5.0": "a MATLAB file",
    b"CDF\x01": "a NetCDF file",
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
        return f"is {_of_brand(head[8:12])}: convert it to one of these formats"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "is an AVI video: send its pictures one by one, in one of these formats"
    if head[40:44] == b" EMF":
        return "is an EMF drawing: convert it to one of these formats"
    if head[128:132] == b"DICM":
        return "is a DICOM file: convert it to one of these formats"
    if re.match(rb"P[Ff]\s", head):
        return "is a portable float map (PFM): convert it to one of these formats"
    if re.match(rb"#define \w+_width \d", head):
        return "is an XBM image: convert it to one of these formats"
    if _is_targa(head):
        return "looks like a TGA image: convert it to one of these formats"
    if re.match(rb"P[1-7][\s#]", head):
        return "is a portable anymap (PBM, PGM, PPM): convert it to one of these formats"
    return _named(NOT_READ, head, "is {}: convert it to one of these formats")


def _of_brand(brand: bytes) -> str:
    """Return what a file of the ISO base format is, by its brand."""
    if brand == b"crx ":
        return "a camera's raw file (CR3)"
    if brand.startswith((b"iso", b"mp4", b"avc", b"qt", b"M4V", b"3g")):
        return "a video (MP4 or MOV)"
    return "a HEIF or AVIF image"


def _is_targa(head: bytes) -> bool:
    """Return whether the first 18 bytes are a TGA's header: it has no signature."""
    if len(head) < 18:
        return False
    colours, kind, depth = head[1], head[2], head[16]
    size = head[12:14] != b"\0\0" and head[14:16] != b"\0\0"
    return size and colours == (kind in (1, 9)) and kind in (1, 2, 3, 9, 10, 11) and depth in (8, 16, 24, 32)


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

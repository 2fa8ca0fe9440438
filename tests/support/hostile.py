"""What a careless or ill-meaning client might send: files and requests, the same ones in every run."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from tests.support.line import picture

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
Files = dict[str, bytes]
Requests = dict[str, dict[str, Any]]
"""name -> method, url and the rest of an httpx request."""


def noise(kind: str, **options: Any) -> bytes:
    """An image in which every byte counts."""
    pixels = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, kind, **options)
    return target.getvalue()


def truncated() -> Files:
    """Every format, cut at every sixteenth."""
    return {
        f"{kind} cut at {part}/16": noise(kind)[: len(noise(kind)) * part // 16]
        for kind in FORMATS
        for part in range(1, 16)
    }


def flipped(per_format: int = 30) -> Files:
    """Every format with some bytes changed, in its header or anywhere."""
    return {
        f"{kind} flipped {seed}": flip(noise(kind), np.random.default_rng(seed), in_header=seed % 2 == 0)
        for kind in FORMATS
        for seed in range(per_format)
    }


def flip(data: bytes, rng: np.random.Generator, *, in_header: bool) -> bytes:
    """Some bytes changed, in the first 64 or anywhere."""
    changed = bytearray(data)
    for place in rng.integers(0, 64 if in_header else len(data), rng.integers(1, 9)):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def bombs() -> Files:
    """Small files that would become large, or keep a decoder busy."""
    huge = struct.pack(">II", 60_000, 60_000)
    return {
        "PNG of 3600 million pixels": _png(huge, zlib.compress(bytes(100_000))),
        "PNG of 2 to the 31 pixels a side": _png(b"\x7f\xff\xff\xff" * 2, b""),
        "PNG of no width": _png(struct.pack(">II", 0, 1), b""),
        "PNG whose text unpacks to 50 MB": _png(
            struct.pack(">II", 1, 1), zlib.compress(b"\0\0"), (b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
        ),
        "PNG whose colour profile unpacks to 50 MB": _png(
            struct.pack(">II", 1, 1), zlib.compress(b"\0\0"), (b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
        ),
        "PNG whose pixels unpack to 50 MB": _png(struct.pack(">II", 1, 1), zlib.compress(bytes(50_000_000), 9)),
        "PNG of 20000 chunks": _png(struct.pack(">II", 1, 1), zlib.compress(b"\0\0"), *[(b"tEXt", b"a\0b")] * 20_000),
        "JPEG of 65500 pixels a side": _patched(
            noise("JPEG"), struct.pack(">HH", 24, 32), struct.pack(">HH", 65500, 65500)
        ),
        "BMP of 2 thousand million pixels": _patched(
            noise("BMP"), struct.pack("<ii", 32, 24), struct.pack("<ii", 46341, 46341)
        ),
        "BMP of negative width": _patched(noise("BMP"), struct.pack("<ii", 32, 24), struct.pack("<ii", -32, 24)),
        "WEBP of 16384 pixels a side": _riff(b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\0" * 2),
        "TIFF that is its own next page": _tiff(next_page=8),
        "TIFF of 65535 tags": b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(12 * 100),
        "TIFF whose pixels are elsewhere": _tiff(strip=0xFFFFFFF0),
        "TIFF of 4 thousand million pixels a side": _tiff(side=0xFFFFFFFF),
        "TIFF of no side": _tiff(side=0),
    }


def _png(size: bytes, pixels: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = ((b"IHDR", size + bytes([8, 0, 0, 0, 0])), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


def _riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 36) + b"WEBP" + body + bytes(32)


def _tiff(side: int = 1, strip: int = 8, next_page: int = 0) -> bytes:
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, strip), (277, 1), (278, side), (279, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_page)


def wrong_types() -> Files:
    """Contents that are no image of ours, by their first bytes."""
    starts = {
        "PDF": b"%PDF-1.7\n",
        "GIF": b"GIF89a",
        "ZIP": b"PK\x03\x04",
        "gzip": b"\x1f\x8b\x08",
        "ELF": b"\x7fELF",
        "pickle": b"\x80\x04\x95",
        "PostScript": b"%!PS-Adobe",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'>",
        "XML entities": b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
        "HTML": b"<html><script>alert(1)</script>",
        "JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n",
        "AVIF": b"\x00\x00\x00\x20ftypavif",
        "icon": b"\x00\x00\x01\x00",
        "Photoshop": b"8BPS\x00\x01",
        "WAVE": b"RIFF\x24\x00\x00\x00WAVE",
        "FITS": b"SIMPLE  =                    T",
        "JSON": b'{"image": "aGVsbG8="}',
        "zeros": bytes(16),
        "one byte": b"\xff",
        "half a signature": b"\x89PNG",
        "a byte order mark": b"\xef\xbb\xbf" + picture(),
        "a line before the image": b"\r\n" + picture(),
    }
    return {name: start + (bytes(64) if len(start) > 4 else b"") for name, start in starts.items()}


HOSTILE_TEXTS = (
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "a\0.png",
    "a\r\nX-Evil: 1",
    '"; filename="b',
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}%s%n",
    "'; DROP TABLE parts; --",
    "EVAL \"return redis.call('FLUSHALL')\" 0\r\n",
    "\u202egnp.exe",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16") * 50,
    "測" * 200,
    "a" * 100_000,
    "CON",
    "~root",
    "",
)


def hostile_names() -> Requests:
    """File names and field names of forms."""
    found: Requests = {}
    for number, text in enumerate(HOSTILE_TEXTS):
        raw = text.encode("utf-8", "surrogatepass").replace(b'"', b'\\"')
        for place, disposition in (
            ("file name", b'name="image"; filename="' + raw + b'"'),
            ("field name", b'name="' + raw + b'"'),
        ):
            extra = picture() if place == "file name" else b"1"
            parts = [(disposition, extra)] + (
                [(b'name="image"; filename="a"', picture())] if place == "field name" else []
            )
            found[f"{place} {number}"] = _form(parts)
    return found


def _form(parts: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    body = b"".join(
        b"--b\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + text + b"\r\n" for head, text in parts
    )
    return {"content": body + b"--b--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


def hostile_fields() -> Requests:
    """Values of every text field, and metadata of every wrong kind."""
    found: Requests = {}
    for name in ("serial", "lot", "view", "station", "captured_at", "priority", "deadline_ms", "metadata"):
        for number, text in enumerate(HOSTILE_TEXTS[:-5]):
            found[f"{name} {number}"] = {"params": {name: text}, "content": picture()}
    metadata = {
        "an array": "[]",
        "a number": "1",
        "null": "null",
        "a key twice": '{"a": 1, "a": 2}',
        "infinity": '{"a": 1e999}',
        "NaN": '{"a": NaN}',
        "deep objects": '{"a":' * 150 + "1" + "}" * 150,
        "deep arrays": '{"a":' + "[" * 400 + "]" * 400 + "}",
        "a long number": '{"a": ' + "9" * 900 + "}",
        "a prototype": '{"__proto__": {"admin": true}, "constructor": 1}',
        "half a surrogate": '{"a": "\\ud800"}',
        "a null byte": '{"a\\u0000": 1}',
        "too much": '{"a": "' + "x" * 1100 + '"}',
        "an endless number": '{"a": 1' + "0" * 5000 + "}",
    }
    found["two thousand unknown fields"] = {
        "params": {f"x{number}": "" for number in range(2000)},
        "content": picture(),
    }
    return found | {
        f"metadata of {name}": {"params": {"metadata": text}, "content": picture()} for name, text in metadata.items()
    }


def hostile_paths() -> Requests:
    """Products, ids and artifacts that try to be something else."""
    raw = (
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "a%00b",
        "%0d%0aX: 1",
        "%c0%ae",
        "%ff",
        "a" * 5000,
        "*",
        "toy%20",
    )
    found: Requests = {}
    for text in raw:
        found[f"product {text[:20]}"] = {"url": f"/v1/products/{text}/inspections", "content": picture()}
        found[f"described {text[:20]}"] = {"method": "GET", "url": f"/v1/products/{text}"}
        found[f"inspection {text[:20]}"] = {"method": "GET", "url": f"/v1/inspections/{text}"}
        found[f"artifact {text[:20]}"] = {
            "method": "GET",
            "url": f"/v1/inspections/019abc12-3456-7def-8123-456789abcdef/{text}",
        }
    return found


def hostile_headers() -> Requests:
    """Headers that lie, or are no headers."""
    headers: dict[str, dict[bytes, bytes]] = {
        "a key of other letters": {b"Idempotency-Key": "ключ".encode()},
        "an endless key": {b"Idempotency-Key": b"k" * 10_000},
        "an empty key": {b"Idempotency-Key": b""},
        "an endless wait": {b"Prefer": b"wait=99999999999999999999"},
        "many preferences": {b"Prefer": b"a," * 5000},
        "an endless type": {b"Content-Type": b"a/" + b"b" * 10_000},
        "a type that is none": {b"Content-Type": b"\xff\xfe"},
        "a boundary of 10 KB": {b"Content-Type": b"multipart/form-data; boundary=" + b"b" * 10_000},
        "an empty boundary": {b"Content-Type": b"multipart/form-data; boundary="},
        "a wrong length": {b"Content-Length": b"-1"},
        "a length that is none": {b"Content-Length": "٣".encode()},
        "an authorization of nothing": {b"Authorization": b"\xff"},
        "a foreign encoding": {b"Content-Encoding": b"gzip"},
        "an evil host": {b"Host": b"evil.example\x7f"},
    }
    return {name: {"content": picture(), "headers": given} for name, given in headers.items()}

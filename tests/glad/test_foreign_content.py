"""What is no image of an allowed format is named, and its sender is told what to do."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from glad.foreign_content import describe_foreign
from glad.image_codec import UnknownImageFormat, check_image, to_png

PNG = to_png(np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3))


def saved(kind: str) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(target, format=kind)
    return target.getvalue()


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("part.png", PNG)
    return target.getvalue()


FOREIGN = {
    "gzip": (gzip.compress(PNG), "is packed with gzip: send the image file itself"),
    "zip": (zipped(), "is a ZIP archive: send the image file itself"),
    "gif": (saved("GIF"), "is a GIF image: convert it"),
    "ppm": (saved("PPM"), "is a portable anymap"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "is a JPEG 2000 image"),
    "heif": (b"\0\0\0\x18ftypheic" + bytes(20), "is a HEIF or AVIF image"),
    "numpy": (b"\x93NUMPY\x01\0", "is a NumPy array"),
    "pdf": (b"%PDF-1.7", "is a PDF document"),
    "data url": (b"data:image/png;base64," + base64.b64encode(PNG), "is a data URL: decode what follows its comma"),
    "base64": (base64.encodebytes(PNG), "is an image written in base64: decode it"),
    "base64 for urls": (base64.urlsafe_b64encode(PNG), "is an image written in base64: decode it"),
    "json": (json.dumps({"image": base64.b64encode(PNG).decode()}).encode(), "is JSON: send the image's bytes"),
    "json list": (b'[{"image": "iVBOR"}]', "is JSON"),
    "form": (b"image=%89PNG%0D%0A", "is a URL-encoded form"),
    "multipart": (
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + PNG + b"\r\n--x--",
        "is a multipart form without its header",
    ),
    "html": (b"<!doctype html><html>", "is HTML, XML or SVG"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is HTML, XML or SVG"),
    "latin 1 as utf-8": (PNG.decode("latin-1").encode(), "was read as text and written again"),
    "replaced": (PNG.decode(errors="replace").encode(), "was read as text and written again"),
    "text mode, fewer": (PNG.replace(b"\r\n", b"\n"), "is a PNG whose line ends were changed"),
    "text mode, more": (PNG.replace(b"\n", b"\r\n"), "is a PNG whose line ends were changed"),
    "bytes before": (b"\0\0\0\0" + PNG, "has 4 bytes before an image begins"),
    "a path": (b"C:\\images\\part-17.png", "is text ('C:\\\\images\\\\part-17.png'), not an image"),
    "noise": (b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", "starts with 01 02 03 04 05 06 07 08, which no image format"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_content_that_is_no_image_is_named_with_what_to_send_instead(name: str) -> None:
    data, expected = FOREIGN[name]
    with pytest.raises(UnknownImageFormat) as refused:
        check_image(data)
    assert f"the content {expected}" in str(refused.value)
    assert str(refused.value).endswith("Allowed are JPEG, PNG, BMP, TIFF, WEBP")


@pytest.mark.parametrize("data", [b"\0", b"A", b"--", b"{", b"AAAA", b"=" * 40, b"\xff" * 600, b"x=" + bytes(9)])
def test_every_content_has_a_description(data: bytes) -> None:
    assert describe_foreign(data)


def test_text_that_happens_to_be_base64_of_no_image_is_text() -> None:
    assert describe_foreign(base64.b64encode(b"no image at all, only words")).startswith("is text")

"""A file that lost a part on its way is refused where its format can show it: there is no verdict on half a picture."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from glad.image_codec import ImageDamaged, ImageNotDecodable, ImageTooCostly, check_image, decode_image

CASES = int(os.environ.get("GLAD_TEST_DAMAGES", "12"))
"""How many places each kind of file is damaged at, in each way."""
DJPEG, CJPEG = shutil.which("djpeg"), shutil.which("cjpeg")
"""libjpeg's own programs, of Debian's libjpeg-turbo-progs."""
END_OF_IMAGE = b"\xff\xd9"


def scene() -> Image.Image:
    """A part on a plain ground with some grain: about as many bytes as a camera's picture has for its size."""
    y, x = np.mgrid[:96, :128]
    inside = ((x - 64) ** 2 + (y - 48) ** 2 < 900)[:, :, None]
    grain = np.random.default_rng(5).normal(0, 6, (96, 128, 1))
    levels = np.where(inside, [150, 140, 120], [60, 70, 80]) + grain + x[:, :, None] / 4
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def saved(mode: str, name: str, **options: Any) -> bytes:
    target = io.BytesIO()
    scene().convert(mode).save(target, name, **options)
    return target.getvalue()


KINDS: dict[str, bytes] = {
    "JPEG": saved("RGB", "JPEG", quality=92),
    "JPEG, grey": saved("L", "JPEG", quality=80),
    "JPEG, CMYK": saved("CMYK", "JPEG", quality=90),
    "JPEG, own codes": saved("RGB", "JPEG", quality=90, optimize=True),
    "JPEG, progressive": saved("RGB", "JPEG", quality=92, progressive=True),
    "JPEG, with restarts": saved("RGB", "JPEG", quality=92, restart_marker_rows=1),
    "PNG": saved("RGB", "PNG"),
    "WebP": saved("RGB", "WEBP", quality=90),
    "WebP, lossless": saved("RGB", "WEBP", lossless=True),
    "WebP, moving": saved(
        "RGB", "WEBP", quality=90, save_all=True, append_images=[scene().rotate(180)], duration=100, minimize_size=False
    ),
    "TIFF, LZW": saved("RGB", "TIFF", compression="tiff_lzw"),
    "TIFF, deflate": saved("RGB", "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, PackBits": saved("RGB", "TIFF", compression="packbits"),
    "TIFF, JPEG": saved("RGB", "TIFF", compression="jpeg"),
    "TIFF, LZMA": saved("RGB", "TIFF", compression="lzma"),
    "TIFF, fax 4": saved("1", "TIFF", compression="group4"),
    "TIFF, fax 3": saved("1", "TIFF", compression="group3"),
}


def coded(data: bytes) -> tuple[int, int]:
    """Where the pixels of a file begin and end."""
    if data[:2] in (b"II", b"MM"):
        tags = TiffImagePlugin.TiffImageFile(io.BytesIO(data)).tag_v2
        starts, lengths = tags[TiffImagePlugin.STRIPOFFSETS], tags[TiffImagePlugin.STRIPBYTECOUNTS]
        return starts[0], starts[-1] + lengths[-1]
    if data[:2] == b"\xff\xd8":
        return data.index(b"\xff\xda") + 14, len(data) - 2
    if data[:4] == b"RIFF" and b"ANMF" in data:
        first = data.index(b"ANMF")
        return first + 60, first + 8 + int.from_bytes(data[first + 4 : first + 8], "little")
    return 60, len(data) - (12 if data[:4] == b"\x89PNG" else 0)


def zeroed(data: bytes, at: int, count: int) -> bytes:
    return data[:at] + bytes(count) + data[at + count :]


def swapped(data: bytes, at: int, count: int) -> bytes:
    """Two neighbouring pieces change places."""
    half = count // 2
    return data[:at] + data[at + half : at + count] + data[at : at + half] + data[at + count :]


def moved_up(data: bytes, at: int, count: int) -> bytes:
    """A piece is lost, and the same number of zeros comes where the pixels end."""
    end = coded(data)[1]
    return data[:at] + data[at + count : end] + bytes(count) + data[end:]


SPARSE = [kind for kind in KINDS if "JPEG" not in kind and "PackBits" not in kind]
"""Not all bits are codes. In a JPEG or PackBits they are: what was changed, and not lost, shows by the number of codes
alone, which may be right by chance. So it is with a WebP whose pieces changed places."""
SHOWN: dict[Callable[[bytes, int, int], bytes], list[str]] = {
    moved_up: list(KINDS),
    zeroed: SPARSE,
    swapped: [kind for kind in SPARSE if "WebP" not in kind],
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_intact_file_is_taken(kind: str) -> None:
    assert decode_image(KINDS[kind]).pixels.shape == (96, 128, 3)
    assert (check_image(KINDS[kind]).width, check_image(KINDS[kind]).height) == (128, 96)


@pytest.mark.parametrize(("damage", "kind"), [(damage, kind) for damage, kinds in SHOWN.items() for kind in kinds])
def test_a_file_of_which_a_third_was_spoiled_is_refused(damage: Callable[[bytes, int, int], bytes], kind: str) -> None:
    data = KINDS[kind]
    start, end = coded(data)
    count = (end - start) // 3
    for at in np.linspace(start, end - count - 1, CASES).astype(int):
        spoiled = damage(data, int(at), count)
        for read in (decode_image, check_image):
            with pytest.raises(ImageNotDecodable):
                read(spoiled)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("JPEG")])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
def test_a_jpeg_that_was_cut_and_ended_again_is_refused(kind: str, part: float) -> None:
    data = KINDS[kind]
    start, end = coded(data)
    cut = data[: start + int((end - start) * part)].rstrip(b"\xff") + END_OF_IMAGE
    with pytest.raises(ImageDamaged):
        decode_image(cut)
    assert decode_image(cut, intact=False).pixels.shape == (96, 128, 3), "a decoder alone goes on"


def test_a_progressive_jpeg_without_its_last_scans_is_refused_however_neatly_it_ends() -> None:
    data = KINDS["JPEG, progressive"]
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    assert len(scans) == 10
    for at in scans[1:]:
        tables = data.rindex(b"\xff\xc4", 0, at)  # a scan's tables stand before it
        cut = data[: tables if tables > scans[scans.index(at) - 1] else at] + END_OF_IMAGE
        with pytest.raises(ImageDamaged, match="scans are missing"):
            decode_image(cut)


def test_a_jpeg_with_bytes_between_its_segments_is_taken_only_where_damage_is() -> None:
    data = KINDS["JPEG"]
    padded = data[:-2] + bytes(16) + END_OF_IMAGE  # as a camera writes it that fills a block
    with pytest.raises(ImageDamaged, match="extraneous bytes"):
        decode_image(padded)
    np.testing.assert_array_equal(decode_image(padded, intact=False).pixels, decode_image(data).pixels)
    assert check_image(padded, intact=False) == check_image(data)


@pytest.mark.skipif(CJPEG is None, reason="cjpeg of libjpeg-turbo-progs is not installed")
@pytest.mark.parametrize("options", [["-sample", "4x2"], ["-sample", "2x1,1x2,1x1"], ["-rgb"], ["-arithmetic"]])
def test_an_intact_jpeg_of_a_rare_kind_is_taken(options: list[str]) -> None:
    target = io.BytesIO()
    scene().save(target, "PPM")
    done = subprocess.run([str(CJPEG), *options], input=target.getvalue(), check=True, capture_output=True)
    assert decode_image(done.stdout).pixels.shape == (96, 128, 3)


def test_what_follows_the_end_of_a_jpeg_is_no_damage() -> None:
    data = KINDS["JPEG"]
    np.testing.assert_array_equal(decode_image(data + b"camera serial 5").pixels, decode_image(data).pixels)


@pytest.mark.skipif(DJPEG is None, reason="djpeg of libjpeg-turbo-progs is not installed")
def test_no_jpeg_is_taken_of_which_libjpeg_complains() -> None:
    rng, taken = np.random.default_rng(0), 0
    for data in (KINDS[kind] for kind in KINDS if kind.startswith("JPEG") and "CMYK" not in kind):
        for _ in range(CASES):
            spoiled = bytearray(data)
            spoiled[int(rng.integers(20, len(data)))] ^= int(rng.integers(1, 256))
            try:
                decode_image(bytes(spoiled))
            except ImageNotDecodable:
                continue
            done = subprocess.run([str(DJPEG)], input=bytes(spoiled), check=False, capture_output=True)
            assert (done.returncode, done.stderr) == (0, b"")
            taken += 1
    assert taken > 0, "a changed bit may be another code: nothing but a checksum tells"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_png_with_a_wrong_checksum_or_no_end_is_refused() -> None:
    data = KINDS["PNG"]
    with pytest.raises(ImageNotDecodable):
        decode_image(data[:-12])
    comment = chunk(b"tEXt", b"part\0bracket")
    assert decode_image(data[:-12] + comment + data[-12:]).format == "PNG"
    with pytest.raises(ImageNotDecodable):
        decode_image(data[:-12] + comment.replace(b"bracket", b"bracken") + data[-12:])


def test_a_webp_of_another_length_than_it_says_is_refused() -> None:
    data = KINDS["WebP"]
    with pytest.raises(ImageDamaged, match=f"has {len(data) + 2} bytes, and says {len(data)}"):
        decode_image(data + b"\r\n")


def test_a_bmp_with_bytes_put_in_is_refused_if_its_header_is_right() -> None:
    data = saved("RGB", "BMP")
    longer = data[:5000] + b"\r" + data[5000:]
    with pytest.raises(ImageDamaged, match=f"has {len(longer)} bytes, and says {len(data)}"):
        decode_image(longer)
    careless = data[:2] + bytes(4) + data[6:]  # a size of 0, as some cameras write
    np.testing.assert_array_equal(decode_image(careless).pixels, np.asarray(scene()))
    np.testing.assert_array_equal(decode_image(careless + b"\0\0").pixels, np.asarray(scene()))


def test_a_strip_that_unpacks_to_more_than_its_rows_is_no_bomb() -> None:
    layers = zlib.compress(bytes(50_000_000), 9)
    image = io.BytesIO()
    Image.new("L", (32, 4)).save(image, "TIFF", compression="tiff_adobe_deflate")
    data = image.getvalue()
    tags = TiffImagePlugin.TiffImageFile(io.BytesIO(data)).tag_v2
    start, length = tags[TiffImagePlugin.STRIPOFFSETS][0], tags[TiffImagePlugin.STRIPBYTECOUNTS][0]
    moved = data.replace(struct.pack("<HHII", 273, 4, 1, start), struct.pack("<HHII", 273, 4, 1, len(data)))
    bomb = moved.replace(struct.pack("<HHII", 279, 4, 1, length), struct.pack("<HHII", 279, 4, 1, len(layers))) + layers
    assert len(bomb) - len(data) == len(layers)
    with pytest.raises(ImageDamaged, match="does not end after the 128 bytes"):
        decode_image(bomb)


@pytest.mark.parametrize("options", [{266: 2}, {262: 0}, {274: 6}, {278: 10}, {292: 1}])
@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_a_fax_is_taken_in_whatever_order_it_lies(compression: str, options: dict[int, int]) -> None:
    data = saved("1", "TIFF", compression=compression, tiffinfo=options)
    shown = np.asarray(scene().convert("1").convert("RGB"))
    pixels = decode_image(data).pixels
    np.testing.assert_array_equal(pixels, np.rot90(shown, -1) if 274 in options else shown)


def test_a_jpeg_of_countless_segments_does_not_keep_the_check_busy() -> None:
    data = KINDS["JPEG"]
    with pytest.raises(ImageTooCostly, match="more than 10000 segments"):
        decode_image(data[:2] + b"\xff\xfe\0\2" * 20_000 + data[2:])

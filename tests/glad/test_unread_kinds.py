"""A healthy file of a kind that is not read says what it is and what to store; a damaged one is to be checked."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glad.image_codec import (
    ImageDamaged,
    ImageKindNotRead,
    ImageNotDecodable,
    UnknownImageFormat,
    check_image,
    decode_image,
)
from tests.glad.test_camera_images import bmp, png, tiff

FRAME = b"\xff\xc0"
COLOURS = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(COLOURS).convert(mode).save(target, kind, **options)
    return target.getvalue()


def jpeg(marker: int = 0xC0, bits: int = 8) -> bytes:
    """A JPEG whose frame says another kind. A real one has other codes behind, which no decoder here comes to."""
    data = saved("JPEG")
    at = data.index(FRAME)
    return data[:at] + bytes([0xFF, marker]) + data[at + 2 : at + 4] + bytes([bits]) + data[at + 5 :]


def phone_png() -> bytes:
    """What Xcode makes of a PNG: a chunk before the header, and pixels without zlib's frame."""
    data = png(1, 8, 2, b"\1\2\3")
    chunk = b"CgBI\x50\0\x20\6"
    framed = data.replace(zlib.compress(b"\0\1\2\3"), zlib.compress(b"\0\1\2\3")[2:-4].ljust(12, b"\0"))
    return framed[:8] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + framed[8:]


def colours(bits: int = 8, *, samples: int = 3, photometric: int = 2, **options: Any) -> bytes:
    """A TIFF of four pixels."""
    values = bytes(range(1, 4 * samples * bits // 8 + 1))
    return tiff([values], 4, bits, photometric, samples=samples, **options)


FLOAT, SIGNED, COMPLEX = 3, 2, 6
PREVIEW = [(254, [1]), (330, [8, 8])]

UNREAD = {
    "JPEG of 12 bits": (jpeg(bits=12), "is a JPEG with 12 bits per sample"),
    "JPEG of 12 bits, extended": (jpeg(0xC1, 12), "is a JPEG with 12 bits per sample"),
    "JPEG, lossless": (jpeg(0xC3), "is a lossless JPEG"),
    "JPEG, lossless, arithmetic": (jpeg(0xCB), "is a lossless JPEG"),
    "JPEG, hierarchical": (jpeg(0xC5), "is a hierarchical JPEG"),
    "JPEG-LS": (jpeg(0xF7), "is a JPEG-LS"),
    "PNG for phones": (phone_png(), "is written for iPhones"),
    "JPEG in BMP": (bmp(24, saved("JPEG"), 64, 48, compression=4), "is a JPEG within a BMP"),
    "PNG in BMP": (bmp(24, saved("PNG"), 64, 48, compression=5), "is a PNG within a BMP"),
    "BMP of 2 bits": (bmp(2, bytes(4), 2, more=bytes(16)), "is a BMP with 2 bits per pixel"),
    "BMP of 64 bits": (bmp(64, bytes(8), 1), "is a BMP with 64 bits per pixel"),
    "TIFF, float 16": (colours(16, samples=1, photometric=1, sample_format=FLOAT), "has float samples of 16 bits"),
    "TIFF, float 32": (colours(32, samples=1, photometric=1, sample_format=FLOAT), "has float samples of 32 bits"),
    "TIFF, float 32 in colour": (colours(32, sample_format=FLOAT), "has float samples of 32 bits"),
    "TIFF, float 64": (colours(64, samples=1, photometric=1, sample_format=FLOAT), "has float samples of 64 bits"),
    "TIFF, complex": (colours(64, samples=1, photometric=1, sample_format=COMPLEX), "has complex samples"),
    "TIFF, signed": (colours(16, samples=1, photometric=1, sample_format=SIGNED), "has signed samples of 16 bits"),
    "TIFF of 32 bits": (colours(32, samples=1, photometric=1), "has samples of 32 bits"),
    "TIFF of 10 bits": (tiff([bytes(5)], 4, 10, 1), "has samples of 10 bits"),
    "TIFF of 14 bits": (tiff([bytes(7)], 4, 14, 1), "has samples of 14 bits"),
    "TIFF of 4-bit colours": (tiff([bytes(6)], 4, 4, 2, samples=3), "has samples of an unusual layout"),
    "TIFF, Bayer": (colours(samples=1, photometric=32803), "has the raw values of a colour sensor"),
    "TIFF, Bayer of 16 bits": (colours(16, samples=1, photometric=32803), "has the raw values of a colour sensor"),
    "TIFF, Lab of 16 bits": (colours(16, photometric=8), "has samples of an unusual layout"),
    "TIFF, LogLuv": (colours(16, photometric=32845), "has LogLuv values"),
    "TIFF, JPEG 2000": (colours(compression=34712), "has samples packed with JPEG 2000"),
    "TIFF, JPEG XL": (colours(compression=50002), "has samples packed with JPEG XL"),
    "TIFF, WebP": (colours(compression=50001), "has samples packed with WebP"),
    "TIFF, LERC": (colours(compression=34887), "has samples packed with LERC"),
    "TIFF, old JPEG": (colours(compression=6), "has samples packed with the JPEG of TIFF 6.0"),
    "BigTIFF, big-endian": (b"MM\0+\0\x08\0\0" + bytes(60), "is a BigTIFF in big-endian order"),
    "raw of Canon": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(60), "is a Canon camera's raw file"),
    "raw, with a preview": (colours(more=PREVIEW), "is a camera's raw file, such as DNG or NEF"),
    "DNG": (colours(more=[(50706, [1])]), "is a camera's raw file (DNG)"),
    "DNG, Bayer": (colours(samples=1, photometric=32803, more=[(50706, [1])]), "is a camera's raw file (DNG)"),
}


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.parametrize("read", [check_image, decode_image])
def test_a_healthy_file_of_a_kind_that_is_not_read_says_so(name: str, read: Any) -> None:
    data, said = UNREAD[name]
    with pytest.raises(ImageKindNotRead) as refused:
        read(data)
    text = str(refused.value)
    assert f"image of {len(data)} bytes {said}" in text
    assert "It is not damaged; this kind is not read: " in text
    assert any(word in text.partition("not read: ")[2] for word in ("store it", "send it as", "develop it"))
    assert "check the file" not in text


READ = {
    "CMYK JPEG": saved("JPEG", "CMYK"),
    "progressive JPEG": saved("JPEG", progressive=True),
    "several pictures in a JPEG": saved("MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    "moving WebP": saved("WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    "moving PNG": saved("PNG", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    "palette with transparency": saved("PNG", "P", transparency=b"\x80"),
    "palette with alpha": saved("TIFF", "PA"),
    "BigTIFF": saved("TIFF", big_tiff=True),
    "TIFF of two sizes": saved("TIFF", save_all=True, append_images=[Image.new("RGB", (32, 24))]),
    "TIFF, Zstandard": saved("TIFF", compression="zstd"),
    "TIFF, LZMA": saved("TIFF", compression="lzma"),
    "packed BMP": bmp(8, bytes([2, 1, 0, 0, 0, 1]), 2, compression=1, more=bytes(8)),
}


@pytest.mark.parametrize("name", READ)
def test_a_rare_kind_that_can_be_read_is_read(name: str) -> None:
    assert decode_image(READ[name]).pixels.ndim == 3


DAMAGED = {
    "JPEG, cut": saved("JPEG")[:-200],
    "JPEG of 9 bits": jpeg(bits=9),
    "JPEG without a frame": saved("JPEG").replace(FRAME, b"\xff\xe9"),
    "PNG, cut": saved("PNG")[:-60],
    "BMP, cut": saved("BMP")[:-60],
    "BMP of 7 bits": bmp(7, bytes(4), 2),
    "TIFF, cut": saved("TIFF", compression="tiff_lzw")[:200],
    "TIFF, LZMA that is none": colours(compression=34925),
    "TIFF, Zstandard that is none": colours(compression=50000),
    "TIFF, a compression that nobody knows": colours(compression=12345),
    "TIFF, colours that nobody knows": colours(photometric=777),
    "TIFF of 99 bits": tiff([bytes(50)], 4, 99, 1),
    "WebP, cut": saved("WEBP")[:-60],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_to_be_checked(name: str) -> None:
    with pytest.raises(ImageNotDecodable, match="check the file and send it again") as refused:
        check_image(DAMAGED[name])
    assert not isinstance(refused.value, ImageKindNotRead)


FOREIGN = {
    "GIF": (saved("GIF"), "a GIF image"),
    "AVIF": (saved("AVIF"), "a HEIF or AVIF image"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(60), "a HEIF or AVIF image"),
    "CR3": (b"\0\0\0\x18ftypcrx " + bytes(60), "a camera's raw file (CR3)"),
    "MP4": (b"\0\0\0\x18ftypisom" + bytes(60), "a video (MP4 or MOV)"),
    "JPEG 2000": (saved("JPEG2000"), "a JPEG 2000 image"),
    "JPEG XL": (b"\xff\x0a" + bytes(60), "a JPEG XL image"),
    "JPEG XR": (b"II\xbc\x01" + bytes(60), "a JPEG XR image"),
    "PDF": (saved("PDF"), "a PDF document"),
    "EPS": (saved("EPS"), "a PostScript or EPS document"),
    "TGA": (saved("TGA"), "looks like a TGA image"),
    "PCX": (saved("PCX"), "a PCX image"),
    "SGI": (saved("SGI"), "an SGI image"),
    "DDS": (saved("DDS"), "a DDS texture"),
    "QOI": (saved("QOI"), "a QOI image"),
    "ICO": (saved("ICO"), "an ICO image"),
    "PPM": (saved("PPM"), "a portable anymap"),
    "PFM": (b"PF\n4 4\n-1.0\n" + bytes(60), "a portable float map"),
    "XBM": (saved("XBM", "1"), "an XBM image"),
    "OpenEXR": (b"\x76\x2f\x31\x01" + bytes(60), "an OpenEXR image"),
    "raw of Olympus": (b"IIRO\x08\0\0\0" + bytes(60), "a camera's raw file (ORF)"),
    "raw of Panasonic": (b"IIU\0\x18\0\0\0" + bytes(60), "a camera's raw file (RW2)"),
    "raw of Fujifilm": (b"FUJIFILMCCD-RAW 0201" + bytes(60), "a camera's raw file (RAF)"),
    "MNG": (b"\x8aMNG\r\n\x1a\n" + bytes(60), "an MNG animation"),
    "FITS": (b"SIMPLE  =                    T" + bytes(60), "a FITS file"),
    "DICOM": (bytes(128) + b"DICM" + bytes(60), "a DICOM file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_format_is_named_with_what_to_convert_it_to(name: str) -> None:
    data, said = FOREIGN[name]
    with pytest.raises(UnknownImageFormat) as refused:
        check_image(data)
    assert said in str(refused.value)
    assert "convert it" in str(refused.value)
    assert str(refused.value).endswith("Allowed are JPEG, PNG, BMP, TIFF, WEBP")


def test_a_compression_that_hides_damage_is_not_called_damaged() -> None:
    """ThunderScan: libtiff reads it, and nothing shows whether a code was changed."""
    data = tiff([b"\xc5" * 4], 4, 4, 1, compression=32809)
    with pytest.raises(ImageDamaged, match="does not show whether it is damaged: store it with LZW") as refused:
        check_image(data)
    assert "check the file" not in str(refused.value)
    assert check_image(data, intact=False).width == 4

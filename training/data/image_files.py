"""Image files of a data folder: which files count, what their headers say, and their pixels."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from glad.image_codec import MAX_PIXELS, SUFFIXES, ImageError, decode_image, refuses_damage, sniff_format
from glad.tiff_files import UnreadKind
from glad.unread_kinds import find_unread_kind

UNSUPPORTED = {
    ".apng", ".avif", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfi", ".jfif", ".jif", ".jp2", ".jpe", ".jxl", ".pam",
    ".pbm", ".pgm", ".pnm", ".ppm", ".tga",
}  # fmt: skip
"""Images to people, but not to `glad.image_codec`: named in an error where they lie, not passed over."""
SIGNATURE_BYTES = 16
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = frozenset({b"IDAT", b"fdAT"})
TURNING_CHUNKS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
"""Chunks that may hold an orientation: EXIF, EXIF as text, XMP."""
EMPTY_PIXELS = bytes(4) + b"IDAT" + zlib.crc32(b"IDAT").to_bytes(4)
ON_ITS_SIDE = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""


class DataError(ValueError):
    """A data folder that cannot be used; names the first bad path, what was expected and the fix."""


@dataclass(frozen=True)
class Header:
    """The properties of an image file by its first bytes; width and height are those of the upright image."""

    width: int
    height: int
    format: str
    mode: str


def images_in(folder: Path) -> tuple[Path, ...]:
    """Return the image files directly in a folder, by name.

    Hidden files, such as macOS's `._000.png`, are passed over.
    """
    if not folder.is_dir():
        return ()
    images = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return tuple(sorted(p for p in images if p.is_file()))


def refuse_unsupported(folder: Path) -> None:
    """Refuse a folder that holds an image of a format that is not read, which would otherwise be missed silently.

    Raises:
        DataError: names the first such file.
    """
    if not folder.is_dir():
        return
    odd = sorted(p for p in folder.iterdir() if p.suffix.lower() in UNSUPPORTED and not p.name.startswith("."))
    if odd:
        more = f" ({len(odd)} such files lie there)" if len(odd) > 1 else ""
        raise DataError(
            f"{odd[0]}: {odd[0].suffix} files are not read, only {_known()}: convert it to PNG or move it away{more}"
        )


def _known() -> str:
    return ", ".join(sorted(SUFFIXES))


def subfolders(folder: Path) -> tuple[Path, ...]:
    """Return the folders directly in a folder, by name, hidden ones left out; () where there is no such folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def read_header(path: Path) -> Header:
    """Return format, size and mode of an image file from its header: no pixel is decoded.

    Raises:
        DataError: the file is absent, empty, of no known signature, or its header is damaged. A file that is cut
            off behind its header passes here, and is named when its pixels are read. Also for a name that is not UTF-8.
    """
    try:
        _check_name(path)
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own pixel cap; ours is in check_image
            signature = file.read(SIGNATURE_BYTES)
            if not signature:
                raise DataError(f"{path} has 0 bytes: copy it again, or remove it")
            name = sniff_format(signature)
            file.seek(0)
            with Image.open(_without_pixels(file) if name == "PNG" else file, formats=[name]) as image:
                width, height = _upright_size(image, name)
                return Header(width, height, name, image.mode)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except DataError:
        raise
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # damaged headers raise all kinds: each means that this file will not do
        if (kind := _unread_kind(path)) is not None:
            raise DataError(f"{path} {kind}") from error
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: the header cannot be read ({reason}): copy it again, or remove it") from error


def _unread_kind(path: Path) -> UnreadKind | None:
    """Return what kind a file is whose header cannot be read, if it is healthy and of a kind that is not read."""
    try:
        data = path.read_bytes()
        return find_unread_kind(sniff_format(data), data)
    except (OSError, ImageError):
        return None


def _check_name(path: Path) -> None:
    """Refuse a name that no report can hold: it would fail only when the report is written, after everything else."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        name = os.fsencode(path).decode(errors="backslashreplace")
        raise DataError(
            f"{name}: the path is not UTF-8, the encoding of file names here; it was probably written by a program "
            "that uses another one: rename it, for example with `convmv -f latin1 -t utf8`"
        ) from error


def _without_pixels(file: BinaryIO) -> BinaryIO:
    """Return a PNG file without its pixels: its beginning, and the EXIF and text chunks that stand behind the pixels.

    Decoding finds those too, and turns the image by them.
    """
    start, behind = file.read(len(PNG_SIGNATURE)), False
    kept = [start]
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind == b"IEND":
            break
        if kind in PIXEL_CHUNKS:
            behind = True
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = file.read(length + 4)
        if behind and zlib.crc32(kind + content[:-4]) != int.from_bytes(content[-4:]):
            break  # as decoding does: what is damaged behind the pixels, and all that follows, does not count
        if not behind or kind in TURNING_CHUNKS:
            kept.append(head + content)
    return io.BytesIO(b"".join([*kept, EMPTY_PIXELS]))


def _upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    width, height = image.size
    if name == "TIFF":  # Pillow gives the upright size of these already
        return width, height
    return (height, width) if _orientation(image) in ON_ITS_SIDE else (width, height)


def _orientation(image: Image.Image) -> int:
    try:
        # The base class's method: PNG's own decodes the pixels, to look for what may stand behind them.
        return int(Image.Image.getexif(image).get(Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return 1


def check_image(path: Path) -> Header:
    """Return the header of an image that can be inspected.

    Raises:
        DataError: as in `read_header`, or if the image is too large or 32-bit grey.
    """
    header = read_header(path)
    if header.width * header.height > MAX_PIXELS:
        raise DataError(
            f"{path} is {header.width}×{header.height} pixels; the limit is {MAX_PIXELS}: crop or downscale it"
        )
    if header.mode in ("I", "F"):
        raise DataError(f"{path} is 32-bit grey, which has no defined range: store it with 8 or 16 bit")
    return header


def refuse_shared(first: Iterable[Path], second: Iterable[Path], roles: str) -> None:
    """Refuse a file that is in both lists, be it through a link.

    Args:
        roles: the names of the two lists, for the message.

    Raises:
        DataError: names the first such file.
    """
    known = {os.path.realpath(path): path for path in first}
    for path in second:
        if twin := known.get(os.path.realpath(path)):
            raise DataError(f"{path} is the same file as {twin}, so it would be in {roles}: remove it from one of them")


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Return the upright RGB pixels of an image file: (H, W, 3).

    Raises:
        DataError: if it cannot be decoded; names the file.
    """
    try:
        return decode_image(path.read_bytes(), intact=refuses_damage()).pixels
    except (ImageError, OSError) as error:
        raise DataError(f"{path}: {error}") from error

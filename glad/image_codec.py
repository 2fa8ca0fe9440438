"""Image files (bytes) to arrays and back: formats, pixel limit, EXIF. No torch, no paths.

Every image becomes, whatever it was stored as: upright (EXIF), 8-bit RGB (H, W, 3), first frame only, colour profiles
ignored (an inspection camera's numbers are what the models were trained on).

| stored | rule |
|---|---|
| 8-bit grey, RGB, palette, 1 bit | as it is; grey in all three channels |
| 16-bit grey | v / 257, rounded: the full range 0 ... 65535 becomes 0 ... 255, never stretched to the content |
| 16-bit grey (TIFF) whose MaxSampleValue is that of a camera of 9 to 15 bits, such as 4095 | v / 4095 * 255, rounded |
| 12-bit grey (TIFF) | v / 4095 * 255, rounded |
| 16-bit RGB, 16-bit grey with alpha | the high byte (Pillow) |
| TIFF whose 0 is white | inverted, so that light is light |
| signed, 32-bit or float samples | refused: their range is not defined |
| 4 samples in RGB, the fourth of no said meaning | refused, unless it is opaque as alpha too |
| transparency | composited on white |
| CMYK, YCbCr, Lab | Pillow's conversion to RGB (YCbCr in TIFF: libtiff's), without colour profiles |
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from glad.foreign_content import describe_foreign
from glad.image_headers import find_jpeg_excess, find_tile_excess, read_webp_canvas
from glad.image_integrity import DamageNotShown, check_integrity
from glad.image_orientation import SIDEWAYS, allocate_upright, read_orientation
from glad.pillow_switches import QuietPillow
from glad.sample_range import eight_bit, refuse_undefined_samples, shows_nothing
from glad.tiff_files import TILE_LENGTH, TILE_WIDTH, UnreadKind, first_of, open_tiff
from glad.unread_kinds import find_unread_kind

Pixels = NDArray[np.uint8]

MAX_PIXELS = 64_000_000
GROUND = (255, 255, 255)
"""What shows through transparency."""

FORMATS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": open_tiff,
    "WEBP": WebPImageFile,
}
"""Opened by class, not by `Image.open`: no other format is ever tried, and the pixel cap is ours alone."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""How the names of such files end, in a folder of images."""

SURE = frozenset({"1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I;16B"})
"""Modes of a loaded image that always become 8-bit RGB, unless something says which of its levels is transparent."""

_quiet = QuietPillow()

STRIP_PIXELS = 1 << 20
"""So many pixels at a time are converted to RGB."""


class ImageError(ValueError):
    """The bytes are not an image that can be inspected.

    ImageError
    ├── EmptyImageFile         no bytes at all
    ├── UnknownImageFormat      no signature of an allowed format
    ├── ImageNotDecodable   a known signature that does not decode, such as a truncated file
    │   ├── ImageKindNotRead    a healthy file of a kind that is not read
    │   └── ImageDamaged    it decodes, but shows that a part of it was lost or changed
    ├── ImageTooLarge      larger than the cap, found before anything is decoded
    └── ImageTooCostly      takes more time or memory to decode than its pixels explain
    """


class EmptyImageFile(ImageError):
    """There are no bytes at all."""


class UnknownImageFormat(ImageError):
    """The bytes begin with no signature of an allowed format."""


class ImageNotDecodable(ImageError):
    """The signature is known, but the file does not decode."""


class ImageKindNotRead(ImageNotDecodable):
    """The file is healthy; its kind, such as a JPEG of 12 bits or float samples, is not read."""


class ImageDamaged(ImageNotDecodable):
    """The file shows that a part of it was lost or changed on its way; a decoder may still make a picture of it."""


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit."""


class ImageTooCostly(ImageError):
    """The image takes more time or memory to decode than its pixels explain."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image file."""

    pixels: Pixels
    """Upright RGB: (H, W, 3) uint8."""
    format: str


@dataclass(frozen=True)
class ImageInfo:
    """The format and size of an image file that decodes."""

    format: str
    width: int
    """Of the upright image, in pixels."""
    height: int


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, intact: bool = True) -> DecodedImage:
    """Return an image file decoded in full. Its size is checked before any pixel is decoded.

    Args:
        max_pixels: a larger image is refused.
        intact: refuse a file that shows damage, even if it decodes.

    Raises:
        ImageError: if it cannot be inspected; its subclasses say why.
    """
    with _refusals(data, max_pixels) as name:
        image = _loaded(name, data, max_pixels, intact)
        _refuse_invisible(image)
        return DecodedImage(_pixels(image), name)


def count_pixels(data: bytes, *, max_pixels: int = MAX_PIXELS) -> int:
    """Return the pixels that an image file declares. Its header alone is read.

    Raises:
        ImageError: if the header cannot be read, or already says that the image is too large or too costly.
    """
    with _refusals(data, max_pixels) as name:
        canvas = read_webp_canvas(data) if name == "WEBP" else None  # to open it takes the memory of its pixels
        if canvas is not None:
            _check_size(canvas, max_pixels)
        width, height = canvas or _opened(name, data, max_pixels).size
        return width * height


def refuses_damage() -> bool:
    """Return whether commands that read image files refuse damaged ones: unless GLAD_DAMAGED_IMAGES is `inspect`."""
    return os.environ.get("GLAD_DAMAGED_IMAGES") != "inspect"


def check_image(data: bytes, *, max_pixels: int = MAX_PIXELS, intact: bool = True) -> ImageInfo:
    """Return the format and size that `decode_image` would find, without making the pixels.

    Every byte is decoded, but nothing is turned, converted or copied where that cannot fail.

    Raises:
        ImageError: as `decode_image`.
    """
    with _refusals(data, max_pixels) as name:
        image = _loaded(name, data, max_pixels, intact)
        _refuse_invisible(image)
        if image.mode in SURE and "transparency" not in image.info:
            refuse_undefined_samples(image)
        else:
            for _ in _rgb_strips(image):
                pass
        width, height = image.size[::-1] if read_orientation(image) in SIDEWAYS else image.size
        return ImageInfo(name, width, height)


def _refuse_invisible(image: Image.Image) -> None:
    """Refuse an image of which nothing would be seen: an alpha of 0 that a camera never filled, most of the time."""
    if shows_nothing(image):
        raise ImageNotDecodable(
            "every pixel is transparent (an alpha of 0), so that the image shows nothing: store it without alpha, or "
            "with an alpha of 255"
        )


def load_stored(data: bytes, *, max_pixels: int = MAX_PIXELS, intact: bool = True) -> Image.Image:
    """Return an image file with its samples as they are stored, such as the classes of a mask; not turned upright.

    Raises:
        ImageError: as `decode_image`, but for samples whose range is not defined.
    """
    with _refusals(data, max_pixels) as name:
        return _loaded(name, data, max_pixels, intact)


@contextmanager
def _refusals(data: bytes, max_pixels: int) -> Iterator[str]:
    """Yield the file's format. Every exception that is raised inside becomes an ImageError."""
    if not data:
        raise EmptyImageFile("the image has 0 bytes: send the file's content")
    name = sniff_format(data)
    try:
        with _quiet:
            yield name
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{name} image: {error}; the limit is {max_pixels} pixels: crop or downscale it") from error
    except MemoryError as error:
        raise ImageTooCostly(
            f"{name} image of {len(data)} bytes takes more memory to decode than there is: store it in another form"
        ) from error
    except Exception as error:  # hostile bytes raise all kinds: each means that this file does not decode
        given = f"{name} image of {len(data)} bytes"
        kind = find_unread_kind(name, data) or (error if isinstance(error, UnreadKind) else None)
        if kind is not None:
            raise ImageKindNotRead(f"{given} {kind}") from error
        reason = str(error) or type(error).__name__
        raise ImageNotDecodable(f"{given} does not decode ({reason}): check the file and send it again") from error


def sniff_format(data: bytes) -> str:
    """Return the format by signature: JPEG, PNG, BMP, TIFF or WEBP.

    Raises:
        UnknownImageFormat: for all else.
    """
    signatures = {
        b"\xff\xd8\xff": "JPEG",
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"BM": "BMP",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"II+\0": "TIFF",
        b"MM\0+": "TIFF",
    }
    for signature, name in signatures.items():
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise UnknownImageFormat(f"the content {describe_foreign(data)}. Allowed are {', '.join(FORMATS)}")


def _loaded(name: str, data: bytes, max_pixels: int, intact: bool) -> Image.Image:
    """Return the image as it is stored, all of its bytes decoded."""
    image = _opened(name, data, max_pixels)
    image.load()
    if isinstance(image, WebPImageFile):
        image._decoder = None  # it keeps two canvases of four bytes a pixel, and all is in the image now
    if intact:
        _check_integrity(image, data)
    return image


def _opened(name: str, data: bytes, max_pixels: int) -> ImageFile:
    """Return the image with its header read, after what its header tells was checked."""
    if name == "WEBP" and (canvas := read_webp_canvas(data)) is not None:  # made when the file is opened
        _check_size(canvas, max_pixels)
    if name == "JPEG" and (excess := find_jpeg_excess(data)) is not None:
        raise ImageTooCostly(f"JPEG image of {len(data)} bytes has {excess}")
    image = FORMATS[name](io.BytesIO(data))
    _check_size(image.size, max_pixels)
    tile = tuple(_tiff_tag(image, tag) or 0 for tag in (TILE_WIDTH, TILE_LENGTH))
    if (excess := find_tile_excess(tile, image.size)) is not None:
        raise ImageTooCostly(f"TIFF image of {len(data)} bytes has {excess}")
    return image


def _check_integrity(image: ImageFile, data: bytes) -> None:
    try:
        check_integrity(image, data)
    except MemoryError:
        raise
    except DamageNotShown as error:
        raise ImageDamaged(f"{image.format} image of {len(data)} bytes {error}") from error
    except Exception as error:  # as in _refusals
        given = f"{image.format} image of {len(data)} bytes"
        raise ImageDamaged(f"{given} is damaged ({error}): check the file and send it again") from error


def _pixels(image: Image.Image) -> Pixels:
    upright, stored = allocate_upright(image.size, read_orientation(image))
    for top, strip in _rgb_strips(image):
        stored[top : top + len(strip)] = strip
    return upright


def _rgb_strips(image: Image.Image) -> Iterator[tuple[int, Pixels]]:
    """Yield a loaded image as RGB, some rows (h, W, 3) at a time, each with the number of its first row.

    Conversions make copies of four bytes and more for a pixel: of a strip, not of the image.
    """
    refuse_undefined_samples(image)
    width, height = image.size
    rows = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(height, top + rows)))
        yield top, _to_rgb(eight_bit(strip, image))


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image is {width}×{height} = {width * height} pixels; the limit is {max_pixels}: crop or downscale it"
        )


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    """Return the first value of a tag; None if the image has none, or is no TIFF."""
    return first_of(image, tag) if isinstance(image, TiffImageFile) else None


def _to_rgb(image: Image.Image) -> Pixels:
    """Return an 8-bit image of any mode as (H, W, 3) uint8."""
    if image.mode == "La":  # multiplied by its alpha; Pillow knows one way out of it
        image = image.convert("LA")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*GROUND, 255))
        return np.array(Image.alpha_composite(ground, coloured).convert("RGB"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # convert copies even what is RGB


def downscale(pixels: Pixels, longest_px: int) -> Pixels:
    """Return pixels (H, W, 3), made smaller if a side is longer than this."""
    height, width = pixels.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def to_model(pixels: Pixels) -> NDArray[np.float32]:
    """Return pixels (H, W, 3) uint8 as the models take them: (3, H, W) float32 in [-1, 1]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(127.5) - np.float32(1)


def from_model(image: NDArray[np.float32]) -> Pixels:
    """Return a model's image (3, H, W) float32, about [-1, 1], as pixels (H, W, 3) uint8, clamped."""
    levels = np.clip((image + np.float32(1)) * np.float32(127.5), 0, 255)
    return np.ascontiguousarray(np.rint(levels).astype(np.uint8).transpose(1, 2, 0))


def to_jpeg(pixels: Pixels) -> bytes:
    """Return a JPEG file of (H, W, 3) uint8 for people to look at, without coarser colours: a stain may be small."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="JPEG", quality=88, subsampling=0)
    return target.getvalue()


def to_png(array: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    """Return a PNG file of (H, W, 3), (H, W, 4) or (H, W) uint8, or of (H, W) bool, which becomes 0 and 255.

    Packed by run lengths: on pictures of parts five times as fast as zlib's usual search, and no more than a few per
    cent larger.
    """
    pixels = array.astype(np.uint8) * np.uint8(255) if array.dtype == np.bool_ else array
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG", compress_type=Image.RLE)
    return target.getvalue()

"""Image files by their headers, and masks: what they say must be what decoding gives."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import decode_image
from glad.images.placement import fit
from tests.support.line import picture
from tests.support.tiffs import WHITE_IS_ZERO, Layout, tiff_file
from training.data.image_files import DataError, check_image, read_header, read_pixels
from training.data.masks import check_mask, read_mask, read_truth


def _saved(format: str, size: tuple[int, int], orientation: int) -> bytes:
    image, target = Image.new("RGB", size, (9, 99, 9)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {} if format == "BMP" else {"exif": exif}
    image.save(target, format=format, **options)
    return target.getvalue()


@given(
    format=st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "BMP"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    orientation=st.integers(1, 8),
)
def test_the_header_gives_the_size_that_decoding_gives(
    tmp_path_factory: pytest.TempPathFactory, format: str, size: tuple[int, int], orientation: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(_saved(format, size, orientation))
    header = read_header(path)
    assert (header.height, header.width) == decode_image(path.read_bytes()).pixels.shape[:2]
    assert header.format == format


def _with_chunk_behind_the_pixels(png: bytes, kind: bytes, content: bytes) -> bytes:
    chunk = len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]


EXIF_ON_ITS_SIDE = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
XMP_ON_ITS_SIDE = (
    b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"eXIf", EXIF_ON_ITS_SIDE),
        (b"tEXt", b"Raw profile type exif\0\nexif\n32\n" + (b"Exif\0\0" + EXIF_ON_ITS_SIDE).hex().encode()),
        (b"iTXt", XMP_ON_ITS_SIDE),
    ],
    ids=["EXIF", "EXIF as text", "XMP"],
)
def test_an_orientation_behind_the_pixels_counts_in_the_header_as_in_decoding(
    tmp_path: Path, kind: bytes, content: bytes
) -> None:
    path = tmp_path / "behind.png"
    path.write_bytes(_with_chunk_behind_the_pixels(picture(40, 30), kind, content))
    assert decode_image(path.read_bytes()).pixels.shape[:2] == (40, 30)
    assert (read_header(path).width, read_header(path).height) == (30, 40)
    Image.fromarray(np.pad(np.ones((1, 1), np.uint8), ((3, 36), (2, 27)))).save(mask := tmp_path / "mask.png")
    check_mask(mask, path, read_header(path))  # a mask drawn on the upright image


def test_what_is_damaged_behind_the_pixels_spoils_no_header(tmp_path: Path) -> None:
    path = tmp_path / "damaged.png"
    path.write_bytes(picture(40, 30)[:-12] + b"\0\0\0\x04eXIfabcd1234" + b"no chunk at all")
    assert (read_header(path).width, read_header(path).height) == (40, 30)


def test_no_pixel_is_needed_to_read_a_header(tmp_path: Path) -> None:
    for format in ("PNG", "JPEG"):
        whole = _saved(format, (400, 300), 1)
        path = tmp_path / f"cut.{format}"
        path.write_bytes(whole[: -len(whole) // 4])  # ends inside the pixels
        assert (read_header(path).width, read_header(path).height) == (400, 300)


def test_images_that_cannot_be_inspected_are_refused_by_their_header(tmp_path: Path) -> None:
    grey32 = tmp_path / "grey.tif"
    Image.new("F", (4, 4)).save(grey32)
    with pytest.raises(DataError, match=r"grey\.tif is 32-bit grey"):
        check_image(grey32)
    large = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(large)
    with pytest.raises(DataError, match=r"large\.png is 10000×10000 pixels; the limit is 64000000"):
        check_image(large)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        read_header(tmp_path / "gone.png")


DEFECT = np.array([[0, 0, 1], [0, 1, 0]], dtype=np.uint8)


def _palette(indices: NDArray[np.uint8], colours: list[int]) -> Image.Image:
    image = Image.fromarray(indices, mode="L").convert("P")
    image.frombytes(indices.tobytes())
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "mask",
    [
        Image.fromarray(DEFECT * 255),  # MVTec-AD
        Image.fromarray(DEFECT * 3),  # VisA: the number of a class of defects
        Image.fromarray(DEFECT.astype(np.uint16)),
        Image.fromarray(DEFECT * 255).convert("1"),
        Image.fromarray(np.stack([DEFECT * 0, DEFECT * 200, DEFECT * 0], axis=-1)),
        Image.fromarray(np.stack([DEFECT, DEFECT, DEFECT, np.full_like(DEFECT, 255)], axis=-1)),  # opaque everywhere
        Image.merge("LA", [Image.fromarray(DEFECT), Image.new("L", (3, 2), 255)]),
        _palette(DEFECT, [0, 0, 0, 128, 0, 0]),
        _palette(1 - DEFECT, [255, 255, 255, 0, 0, 0]),  # a palette that begins with white
    ],
    ids=["0-255", "classes", "16 bit", "1 bit", "colour", "alpha", "grey alpha", "palette", "palette from white"],
)
def test_a_mask_is_defective_wherever_it_is_not_black(tmp_path: Path, mask: Image.Image) -> None:
    path = tmp_path / "mask.png"
    mask.save(path)
    assert read_mask(path).tolist() == DEFECT.astype(bool).tolist()


def test_a_mask_whose_0_is_white_is_read_in_planes_too(tmp_path: Path) -> None:
    layout = Layout(width=3, height=2, bits=1, photometric=WHITE_IS_ZERO, planar=True)
    path = tmp_path / "mask.tif"
    path.write_bytes(tiff_file(layout, (1 - DEFECT[:, :, None]).astype(np.uint16), np.zeros((3, 2), np.uint16)))
    assert read_mask(path).tolist() == DEFECT.astype(bool).tolist()


def test_half_a_jpeg_neither_trains_nor_calibrates_unless_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "part.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"part\.jpg: .* is damaged"):
        read_pixels(path)
    monkeypatch.setenv("GLAD_DAMAGED_IMAGES", "inspect")
    assert read_pixels(path).shape == (32, 48, 3)


def test_a_mask_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", (8, 8)).save(path, format="JPEG")
    with pytest.raises(DataError, match=r"mask\.png cannot be read as a mask.*save it as PNG"):
        read_mask(path)


@given(x=st.integers(0, 99), y=st.integers(0, 59), value=st.sampled_from([1, 7, 255]))
def test_a_single_defective_pixel_is_still_there_at_the_models_scale(
    tmp_path_factory: pytest.TempPathFactory, x: int, y: int, value: int
) -> None:
    """20 times smaller: a pixel is 1/400 of one of the model's, which 8 bit would round to nothing if it were 1."""
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[y, x] = value
    path = tmp_path_factory.getbasetemp() / "one.png"
    Image.fromarray(mask).save(path)
    small = fit(np.zeros((60, 100, 3), dtype=np.uint8), 5).placement
    assert (small.width, small.height) == (5, 3)
    assert np.argwhere(read_truth(path, small)).tolist() == [[y // 20, x // 20]]


def test_no_mask_means_no_defect() -> None:
    placement = fit(np.zeros((60, 100, 3), dtype=np.uint8), 10).placement
    assert read_truth(None, placement).shape == (6, 10)
    assert not read_truth(None, placement).any()

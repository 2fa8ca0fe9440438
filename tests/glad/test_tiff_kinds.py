"""TIFFs of every layout are read rightly or refused by name; never other pixels. Files are written sample by sample."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import ImageNotDecodable, Pixels, check_image, decode_image
from tests.support.tiffs import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    CMYK,
    DEFLATE,
    LONG,
    NOTHING,
    PALETTE,
    SHORT,
    UNASSOCIATED,
    WHITE_IS_ZERO,
    Layout,
    assembled,
    expected_pixels,
    random_colour_map,
    random_layout,
    random_samples,
    tiff_file,
)

CASES = int(os.environ.get("GLAD_TEST_TIFFS", "400"))
"""How many random layouts are tried; 5000 take a minute."""
TIFF2RGBA = shutil.which("tiff2rgba")
"""libtiff's own reader, of Debian's libtiff-tools."""
TOLERANCE = 2
"""Of 255: blending by alpha and CMYK round more than once."""
NAMED = "PhotometricInterpretation|ExtraSamples|ColorMap|BigTIFF"

READ = {
    "16-bit RGB in planes": Layout(bits=16, planar=True),
    "16-bit RGB in planes, the other order": Layout(bits=16, planar=True, order=">"),
    "16-bit RGB in planes, one strip each": Layout(bits=16, planar=True, rows_per_strip=17),
    "16-bit RGBA in planes": Layout(bits=16, planar=True, extra=(UNASSOCIATED,)),
    "8-bit RGBA in planes, multiplied": Layout(planar=True, extra=(ASSOCIATED,)),
    "8-bit RGB and nothing in planes": Layout(planar=True, extra=(NOTHING,)),
    "16-bit CMYK in planes": Layout(bits=16, planar=True, photometric=CMYK),
    "8-bit grey, one plane, white is 0": Layout(planar=True, photometric=WHITE_IS_ZERO),
    "1-bit grey, one plane, white is 0": Layout(bits=1, planar=True, photometric=WHITE_IS_ZERO),
    "4-bit grey, one plane": Layout(bits=4, planar=True, photometric=BLACK_IS_ZERO),
    "12-bit grey, one plane": Layout(bits=12, planar=True, photometric=BLACK_IS_ZERO),
    "16-bit grey, one plane": Layout(bits=16, planar=True, photometric=BLACK_IS_ZERO, order=">"),
    "8-bit RGB in planes of tiles": Layout(planar=True, tile=16),
    "palette, 8-bit colours": Layout(photometric=PALETTE, map_bits=8),
    "palette of 4 bits, 8-bit colours": Layout(bits=4, photometric=PALETTE, map_bits=8),
    "palette, 16-bit colours": Layout(photometric=PALETTE),
    "grey, bits from the right": Layout(photometric=BLACK_IS_ZERO, reversed_bits=True, planar=True),
    "16-bit RGB in planes, packed": Layout(bits=16, planar=True, compression=DEFLATE, predictor=True),
}
"""Kinds of which each was misread once, or stands beside one that was."""


def case(layout: Layout, seed: int) -> tuple[bytes, NDArray[np.float64]]:
    """A file of this layout, and what it shows."""
    rng = np.random.default_rng(seed)
    samples, colour_map = random_samples(layout, rng), random_colour_map(layout, rng)
    return tiff_file(layout, samples, colour_map), expected_pixels(layout, samples, colour_map)


def read_or_refused(data: bytes) -> Pixels | None:
    """The pixels, or None where a refusal names the property."""
    try:
        return decode_image(data).pixels
    except ImageNotDecodable as error:
        if re.search(NAMED, str(error)):
            return None
        raise


@pytest.mark.parametrize("kind", READ)
def test_a_tiff_is_read_as_its_samples_say(kind: str) -> None:
    data, expected = case(READ[kind], seed=3)
    assert abs(decode_image(data).pixels - expected).max() <= TOLERANCE
    assert (check_image(data).width, check_image(data).height) == (23, 17)


def test_a_tiff_of_any_layout_is_read_rightly_or_refused_by_a_property() -> None:
    read = 0
    for seed in range(CASES):
        layout = random_layout(np.random.default_rng(seed))
        data, expected = case(layout, seed)
        pixels = read_or_refused(data)
        if pixels is not None:
            read += 1
            assert abs(pixels - expected).max() <= TOLERANCE, (seed, layout)
    assert read > CASES / 4, "most combinations are nobody's, but the usual ones are read"


def tiff2rgba_is_right(layout: Layout) -> bool:
    """It keeps FillOrder 2, which Pillow then cannot read, and makes tiles of 16-bit grey lean where the image ends."""
    return not layout.reversed_bits and not (layout.bits == 16 and layout.tile)


@pytest.mark.skipif(TIFF2RGBA is None, reason="tiff2rgba of libtiff-tools is not installed")
def test_a_tiff_without_alpha_is_read_as_libtiff_reads_it(tmp_path: Path) -> None:
    compared = 0
    for seed in range(CASES // 4):
        layout = random_layout(np.random.default_rng(seed))
        data, _ = case(layout, seed)
        pixels = read_or_refused(data)
        if pixels is None or layout.extra or not tiff2rgba_is_right(layout):
            continue
        (tmp_path / "given.tif").write_bytes(data)
        command = [str(TIFF2RGBA), "-c", "none", "given.tif", "read.tif"]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
        if done.returncode != 0 or done.stderr:
            continue  # of 12 bits, say, libtiff hands out the samples, but makes no picture
        with Image.open(tmp_path / "read.tif") as theirs:
            # theirs rounds 16 bits, ours keeps the high byte of colours: 1 apart
            assert abs(pixels.astype(int) - np.asarray(theirs)[:, :, :3]).max() <= TOLERANCE, (seed, layout)
        compared += 1
    assert compared > CASES / 40


def test_a_fourth_sample_of_no_said_meaning_is_refused_unless_it_changes_nothing() -> None:
    unsaid = Layout(extra=(UNASSOCIATED,), said=False)
    data, _ = case(unsaid, seed=1)
    for read in (decode_image, check_image):
        with pytest.raises(ImageNotDecodable, match="ExtraSamples"):
            read(data)
    samples = random_samples(unsaid, np.random.default_rng(1))
    samples[:, :, 3] = 255
    pixels = decode_image(tiff_file(unsaid, samples, random_colour_map(unsaid, np.random.default_rng(1)))).pixels
    np.testing.assert_array_equal(pixels, samples[:, :, :3])


def test_a_colour_map_of_another_length_is_refused() -> None:
    layout = Layout(bits=4, photometric=PALETTE)
    rng = np.random.default_rng(0)
    data = tiff_file(layout, random_samples(layout, rng), random_colour_map(layout, rng)[:, :10])
    with pytest.raises(ImageNotDecodable, match="ColorMap has 30 values; 4 bits need 48"):
        decode_image(data)


def test_subsampled_colour_of_an_uncompressed_tiff_lies_where_it_belongs() -> None:
    block = bytes([10, 60, 110, 160, 128, 128])  # four of luma by rows, then the two of chroma, 128 for grey
    tags = {
        256: (LONG, [2]),
        257: (LONG, [2]),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, [1]),
        262: (SHORT, [6]),
        273: (LONG, [8]),
        277: (SHORT, [3]),
        278: (LONG, [2]),
        279: (LONG, [len(block)]),
        530: (SHORT, [2, 2]),
    }
    pixels = decode_image(assembled(Layout(), block, tags)).pixels
    assert pixels[:, :, 1].tolist() == [[10, 60], [110, 160]]

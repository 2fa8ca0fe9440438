"""A file's cost is bounded before it is decoded, and its pixels are made without copies of the whole image."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from PIL import Image

from glad.image_codec import (
    ImageError,
    ImageTooCostly,
    ImageTooLarge,
    check_image,
    count_pixels,
    decode_image,
)
from glad.image_headers import MAX_JUNK_BYTES, MAX_SCANS, MAX_SEGMENTS, MAX_TILE_PIXELS
from tests.support import costly_images as costly

COSTLY = costly.refused_by_their_headers()
SIDE = 3000


@pytest.mark.parametrize("name", COSTLY)
def test_a_file_that_costs_more_than_its_pixels_is_refused_by_its_header(name: str) -> None:
    words = []
    for read in (count_pixels, check_image, decode_image):
        with pytest.raises((ImageTooCostly, ImageTooLarge), match=r"the limit is|more than \d+") as refused:
            read(COSTLY[name])
        words.append(str(refused.value))
    assert len(set(words)) == 1


def test_as_many_scans_and_segments_and_as_much_junk_as_allowed_are_decoded() -> None:
    usual = costly.repeated_scans(0, 64).count(b"\xff\xda")
    allowed = costly.repeated_scans(MAX_SCANS - usual, 64)  # though a scan that comes again shows damage
    assert decode_image(allowed, intact=False).pixels.shape == (64, 64, 3)
    with pytest.raises(ImageTooCostly, match="64 scans"):
        decode_image(costly.repeated_scans(MAX_SCANS - usual + 1, 64))
    segments = costly.many_segments(MAX_SEGMENTS - 100)
    junk = costly.junk_before_a_marker(MAX_JUNK_BYTES)
    assert decode_image(segments).pixels.tolist() == decode_image(junk, intact=False).pixels.tolist()
    with pytest.raises(ImageTooCostly, match="65536 bytes before its markers"):
        decode_image(costly.junk_before_a_marker(MAX_JUNK_BYTES + 1))


def test_a_small_image_in_a_usual_tile_is_decoded_and_a_giant_tile_is_not() -> None:
    assert decode_image(costly.giant_tile(64)).pixels.shape == (64, 64, 3)
    side = int(MAX_TILE_PIXELS**0.5)
    with pytest.raises(ImageTooCostly, match=f"tiles of {side + 16}×{side + 16} pixels for an image of 64×64"):
        decode_image(costly.giant_tile(side + 16))


def test_a_long_exif_block_a_colour_profile_and_a_comment_are_no_excess() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    data = costly.saved(
        costly.noise(64, 64, "RGB"), "JPEG", exif=exif, icc_profile=bytes(1_000_000), comment=b"c" * 60_000
    )
    assert decode_image(data).pixels.shape == (64, 64, 3)


MEASURE = """
import sys
from pathlib import Path
from glad import image_codec
def status(name):
    line, = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
data = sys.stdin.buffer.read()
before = status("VmRSS")
getattr(image_codec, sys.argv[1])(data)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("read", "bytes_a_pixel"),
    [
        ("check_image", 2),  # the levels as they are stored
        ("decode_image", 5),  # and the RGB pixels
    ],
)
def test_sixteen_bit_with_a_transparent_level_costs_what_is_stored_and_what_is_made(
    read: str, bytes_a_pixel: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, read], input=costly.clear_level(SIDE), capture_output=True, check=True
    )
    assert int(done.stdout) < bytes_a_pixel * SIDE * SIDE + (64 << 20), "64 MiB: strips, the file, Pillow's buffers"


def test_a_large_image_that_is_being_decoded_delays_no_other_thread() -> None:
    large = costly.saved(costly.noise(6000, 6000), "TIFF", compression="tiff_deflate")
    small = costly.saved(costly.noise(8, 8), "PNG")
    decoding = threading.Thread(target=check_image, args=(large,))
    decoding.start()
    meanwhile = 0  # how many small images are decoded beside the large one
    while decoding.is_alive():
        check_image(small)
        meanwhile += 1
    decoding.join()
    assert meanwhile > 100, "one or two of them would wait until the large one is done"


def test_decoding_in_many_threads_leaves_the_warning_filters_as_they_were() -> None:
    filters = list(warnings.filters)

    def decode() -> None:
        for _ in range(50):
            check_image(costly.saved(costly.noise(8, 8), "TIFF"))
            with pytest.raises(ImageError):
                check_image(b"II*\0 is no TIFF")

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters

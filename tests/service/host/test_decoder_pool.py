"""Decoder processes: the same answers, within limits; one that ends is one refused image."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glad import image_codec
from glad.image_codec import MAX_PIXELS, ImageError, ImageTooCostly
from service.host.decoder_pool import DecodeLimits, DecoderEnd, DecoderPool, DecoderUnavailable
from tests.support import costly_images as costly
from tests.support import hostile
from tests.support.processes import children_of, eventually, is_running

GOOD = costly.saved(costly.noise(64, 48, "RGB"), "PNG")
SLOW = costly.run_lengths(3000)
"""Nine million pixels, each a run of its own: by far more than its share of a second."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux alone")
MakePool = Callable[..., DecoderPool]


@pytest.fixture
def ends() -> list[DecoderEnd]:
    """Why decoders were replaced."""
    return []


@pytest.fixture
def make_pool(ends: list[DecoderEnd]) -> Iterator[MakePool]:
    """Makes pools that are closed at the end."""
    pools = []

    def make(size: int = 1, **limits: float) -> DecoderPool:
        pools.append(DecoderPool(size, DecodeLimits(**limits), on_end=ends.append))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def decoders() -> set[int]:
    """The decoder processes of this process, by their ids."""
    return {pid for pid in children_of(os.getpid()) if b"decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def outcome(read: Callable[[bytes], object], data: bytes) -> object:
    """What is found, or which error with which words."""
    try:
        return read(data)
    except ImageError as error:
        return type(error), str(error)


def test_a_decoder_answers_as_the_codec_does_in_the_same_words(make_pool: MakePool, ends: list[DecoderEnd]) -> None:
    pool = make_pool()
    files = {"good": GOOD, "empty": b""} | hostile.wrong_types() | dict(list(hostile.truncated().items())[::3])
    for name, data in files.items():
        checked = outcome(lambda data: pool.check_image(data, max_pixels=1000_000), data)
        assert checked == outcome(lambda data: image_codec.check_image(data, max_pixels=1000_000), data), name
    decoded = pool.decode_image(GOOD, max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(decoded.pixels, image_codec.decode_image(GOOD).pixels)
    assert decoded.format == "PNG"
    assert pool.decode_image(GOOD, max_pixels=MAX_PIXELS, longest_px=32).pixels.shape == (24, 32, 3)
    with pytest.raises(image_codec.ImageTooLarge, match="64×48 = 3072 pixels; the limit is 3071"):
        pool.decode_image(GOOD, max_pixels=64 * 48 - 1)
    assert ends == []


def test_an_image_that_takes_too_long_is_refused_and_the_next_is_decoded(
    make_pool: MakePool, ends: list[DecoderEnd]
) -> None:
    pool = make_pool(seconds=1.0)
    with pytest.raises(ImageTooCostly, match=r"the limit is 1 s of processor time .* or raise GLAD_DECODE_LIMIT_S"):
        pool.check_image(SLOW, max_pixels=MAX_PIXELS)
    assert pool.check_image(GOOD, max_pixels=MAX_PIXELS).width == 64
    assert ends == [DecoderEnd.TIME]


def test_a_larger_image_has_more_time() -> None:
    pool = DecoderPool(1, DecodeLimits(seconds=60.0))
    try:
        with pytest.raises(image_codec.ImageNotDecodable, match="not enough image data"):
            pool.check_image(SLOW, max_pixels=9_000_000)  # all of the 60 s; it ends by itself long before
    finally:
        pool.close()


def test_an_image_that_takes_too_much_memory_is_refused_and_the_next_is_decoded(
    make_pool: MakePool, ends: list[DecoderEnd]
) -> None:
    pool = make_pool(memory_bytes=64 << 20)
    with pytest.raises(ImageTooCostly, match=r"more than 67108864 bytes .* or raise GLAD_DECODE_MEMORY_BYTES"):
        pool.decode_image(costly.clear_level(6000), max_pixels=MAX_PIXELS)
    assert pool.check_image(GOOD, max_pixels=MAX_PIXELS).width == 64
    assert ends == [DecoderEnd.MEMORY]


def test_a_webp_fits_into_its_share_of_the_memory(make_pool: MakePool, ends: list[DecoderEnd]) -> None:
    texture = np.random.default_rng(1).integers(100, 106, (4000, 4000, 3), dtype=np.uint8)
    quarter = costly.saved(Image.fromarray(texture), "WEBP", lossless=True, method=0, quality=0)
    pool = make_pool(memory_bytes=DecodeLimits().memory_bytes // 4)  # of the most pixels it has a quarter
    assert pool.check_image(quarter, max_pixels=MAX_PIXELS).height == 4000
    assert ends == []


def test_an_image_whose_decoder_somebody_kills_is_decoded_by_another(
    make_pool: MakePool, ends: list[DecoderEnd]
) -> None:
    pool = make_pool()
    pool.check_image(GOOD, max_pixels=MAX_PIXELS)
    [decoder] = decoders()
    os.kill(decoder, signal.SIGKILL)
    assert pool.check_image(GOOD, max_pixels=MAX_PIXELS).width == 64
    assert ends == [DecoderEnd.KILLED]
    assert decoders().isdisjoint({decoder})


def test_an_image_that_ends_two_decoders_is_refused(make_pool: MakePool, ends: list[DecoderEnd]) -> None:
    pool = make_pool()
    large = costly.clear_level(7900)
    assert _answer_while_decoders_end(pool, large, signal.SIGSEGV, ends) == (
        image_codec.ImageNotDecodable,
        f"image of {len(large)} bytes ends the decoder (by SIGSEGV): check the file and send it again",
    )
    assert ends == [DecoderEnd.CRASH, DecoderEnd.CRASH]
    assert pool.check_image(GOOD, max_pixels=MAX_PIXELS).width == 64


def test_an_image_is_not_blamed_where_the_machine_has_no_memory_for_decoders(
    make_pool: MakePool, ends: list[DecoderEnd]
) -> None:
    pool = make_pool()
    large = costly.clear_level(7900)
    kind, said = _answer_while_decoders_end(pool, large, signal.SIGKILL, ends)  # as the kernel does
    assert (kind, said.endswith("as where memory runs out): try again later")) == (DecoderUnavailable, True)
    assert ends == [DecoderEnd.KILLED, DecoderEnd.KILLED]
    assert pool.check_image(GOOD, max_pixels=MAX_PIXELS).width == 64


def _answer_while_decoders_end(
    pool: DecoderPool, data: bytes, by: signal.Signals, ends: list[DecoderEnd]
) -> tuple[type[Exception], str]:
    """The error of an image whose decoder is ended twice, in the middle of its work."""
    pool.start()
    found: list[tuple[type[Exception], str]] = []

    def ask() -> None:
        try:
            pool.check_image(data, max_pixels=MAX_PIXELS)
        except (ImageError, DecoderUnavailable) as error:
            found.append((type(error), str(error)))

    asking = threading.Thread(target=ask)
    asking.start()
    for number in range(2):
        eventually(lambda: any(_cpu_ticks(pid) > 30 for pid in decoders()), every_s=0.01)
        for pid in decoders():
            os.kill(pid, by)
        eventually(partial(_has_ended, ends, number + 1))
    asking.join()
    (answer,) = found
    return answer


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_whole_image_is_never_called_damaged_for_want_of_memory(make_pool: MakePool, form: str) -> None:
    """16 million pixels, with memory for half of one to 15 bytes of each: every codec comes to its end somewhere."""
    texture = np.random.default_rng(1).integers(100, 106, (4000, 4000, 3), dtype=np.uint8)
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"progressive": True},
        "PNG": {"compress_level": 1},
        "WEBP": {"lossless": True, "method": 0, "quality": 0},
        "TIFF": {"compression": "tiff_lzw"},
    }
    whole = costly.saved(Image.fromarray(texture), form, **options[form])
    for mib in (64, 80, 100, 130, 160, 200, 240):
        pool = make_pool(memory_bytes=mib << 20)
        found = outcome(partial(_height, pool), whole)
        assert found == 4000 or (isinstance(found, tuple) and found[0] is ImageTooCostly), (mib, found)
        pool.close()


def _has_ended(ends: list[DecoderEnd], count: int) -> bool:
    return len(ends) == count


def _cpu_ticks(pid: int) -> int:
    """User time of a process, in ticks of 10 ms; 0 if it has gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    except (OSError, IndexError):
        return 0


def test_a_decoder_that_is_stuck_is_replaced_and_the_image_not_blamed(
    make_pool: MakePool, ends: list[DecoderEnd]
) -> None:
    pool = make_pool(seconds=1)
    pool.check_image(GOOD, max_pixels=MAX_PIXELS)
    [decoder] = decoders()
    os.kill(decoder, signal.SIGSTOP)
    with pytest.raises(DecoderUnavailable, match=r"no answer after 4 s.*try again later"):
        pool.check_image(GOOD, max_pixels=MAX_PIXELS)
    assert ends == [DecoderEnd.STUCK]
    assert make_pool().check_image(GOOD, max_pixels=MAX_PIXELS).width == 64


def test_costly_images_in_all_decoders_delay_a_good_one_by_no_more_than_their_limit(
    make_pool: MakePool, ends: list[DecoderEnd]
) -> None:
    pool = make_pool(2, seconds=1.0)
    ended: list[str] = []

    def check(name: str, data: bytes) -> None:
        outcome(lambda data: pool.check_image(data, max_pixels=MAX_PIXELS), data)
        ended.append(name)

    threads = [threading.Thread(target=check, args=one) for one in (("slow", SLOW), ("slow", SLOW), ("good", GOOD))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["good", "slow", "slow"]
    assert ends == [DecoderEnd.TIME] * 2


def test_no_more_decoders_start_than_are_needed(make_pool: MakePool) -> None:
    pool = make_pool(4)
    for _ in range(5):
        pool.check_image(GOOD, max_pixels=MAX_PIXELS)
    assert len(decoders()) == 1
    pool.close()
    assert decoders() == set()


def test_a_decoder_knows_no_secret_of_its_parent(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_REDIS_URL", "redis://:secret-word@redis:6379/0")
    make_pool().check_image(GOOD, max_pixels=MAX_PIXELS)
    [decoder] = decoders()
    assert b"secret-word" not in Path(f"/proc/{decoder}/environ").read_bytes()


PARENT = """
import sys, time
from service.host.decoder_pool import DecodeLimits, DecoderPool
pool = DecoderPool(1, DecodeLimits())
pool.check_image(sys.stdin.buffer.read(), max_pixels=10_000)
print("decoded", flush=True)
time.sleep(600)
"""


def test_a_decoder_ends_with_its_parent_even_by_sigkill() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(GOOD)
        parent.stdin.close()
        assert parent.stdout.readline() == b"decoded\n"
        [decoder] = children_of(parent.pid)
        parent.kill()
    eventually(lambda: not is_running(decoder))


def _height(pool: DecoderPool, data: bytes) -> int:
    return pool.check_image(data, max_pixels=MAX_PIXELS).height

"""A decoder process: decodes one image after the other for its parent, within limits of time and memory.

    python -m service.host.decoder_process MEMORY_BYTES

`service.host.decoder_pool` starts it, writes it requests and reads its replies. It imports the codec and nothing else
of the project, knows no secret and has nothing to lose: a limit that is exceeded ends it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from glad.image_codec import (
    ImageError,
    ImageNotDecodable,
    ImageTooCostly,
    Pixels,
    check_image,
    count_pixels,
    decode_image,
    downscale,
)

READY = b"ready\n"
"""What the process writes first, once all is imported and its limits are set."""
EXIT_MEMORY = 71
"""Exit status of a process that needed more memory than it may take (EX_OSERR)."""
MOST_BYTES_A_PIXEL = 24
"""Memory that decoding an image of any format takes, beside its file twice; WebP takes most of it."""
LEAST_SHARE = 1 / 20
"""The smallest image, and a header, may take this share of the time that the largest one may take."""


def main(memory_bytes: int, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more.

    A request is a line of JSON and the file's bytes. The reply is a line of JSON, and the pixels if it names a shape.
    """
    _be_killed_first()
    _limit_memory(memory_bytes)
    replies.write(READY)
    replies.flush()
    _be_silent()
    while line := requests.readline():
        request = json.loads(line)
        reply, pixels = _answer(request, requests.read(request["bytes"]), memory_bytes)
        replies.write(json.dumps(reply).encode() + b"\n")
        if pixels is not None:
            replies.write(pixels.data.cast("B"))
        del pixels
        replies.flush()


def _answer(request: Mapping[str, Any], data: bytes, memory_bytes: int) -> tuple[dict[str, Any], Pixels | None]:
    try:
        with _memory_named(data, memory_bytes):
            return _decoded(request, data)
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            os._exit(EXIT_MEMORY)
        return {"error": type(error).__name__, "detail": str(error)}, None
    except MemoryError:
        os._exit(EXIT_MEMORY)
    finally:
        _limit_time(0)


@contextmanager
def _memory_named(data: bytes, memory_bytes: int) -> Iterator[None]:
    """Blame no file for what a lack of memory explains: most codecs then say that the file is broken."""
    try:
        yield
    except ImageNotDecodable as error:
        needed = MOST_BYTES_A_PIXEL * count_pixels(data, max_pixels=sys.maxsize) + 2 * len(data)
        if needed <= memory_bytes:
            raise
        raise ImageTooCostly(
            f"{error}; or raise GLAD_DECODE_MEMORY_BYTES, for it may take {needed} bytes of memory to decode, and the "
            f"limit is {memory_bytes}"
        ) from error


def _decoded(request: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], Pixels | None]:
    limit_s, longest_px = request["limit_s"], request["longest_px"]
    max_pixels, intact = request["max_pixels"], request["intact"]
    _limit_time(limit_s * LEAST_SHARE)
    share = count_pixels(data, max_pixels=max_pixels) / max_pixels
    _limit_time(limit_s * max(share, LEAST_SHARE))
    if not request["pixels"]:
        info = check_image(data, max_pixels=max_pixels, intact=intact)
        return {"format": info.format, "width": info.width, "height": info.height}, None
    image = decode_image(data, max_pixels=max_pixels, intact=intact)
    pixels = image.pixels if longest_px is None else downscale(image.pixels, longest_px)
    return {"format": image.format, "shape": pixels.shape}, pixels


def _limit_time(seconds: float) -> None:
    """End this process after so many seconds of its own processor time; 0: never.

    By a signal that nobody handles, because a decoder does not return to Python before it is done.
    """
    if hasattr(signal, "setitimer"):  # Windows: the parent's clock alone
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory(extra_bytes: int) -> None:
    """Let this process take so much more address space than it has now; no limit where there is no `/proc`.

    Raises:
        OSError, ValueError: if the system refuses.
    """
    size = Path("/proc/self/statm")
    if not size.exists():
        return
    import resource

    limit = int(size.read_text().split()[0]) * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _be_silent() -> None:
    """Write nothing to standard error: libtiff complains there of each line of a damaged file."""
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)


def _be_killed_first() -> None:
    """Ask the kernel to end this process before its parent where memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)

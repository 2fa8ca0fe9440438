"""A few decoder processes: images are decoded beside the process that needs them, within limits of time and memory.

A decoder that exceeds a limit, or that its image crashes, is one refused image: the process that asked lives on, and
another decoder takes the place. Why: docs/decisions/0020-decoder-processes.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import Enum
from io import FileIO
from queue import LifoQueue
from typing import Any

import numpy as np
import structlog

from glad import image_codec
from glad.image_codec import DecodedImage, ImageError, ImageInfo, ImageNotDecodable, ImageTooCostly
from service.host.child_process import describe_exit
from service.host.decoder_process import EXIT_MEMORY, READY

WALL_FACTOR = 4
"""A decoder that has not answered after so many times its limit of processor time is stuck, or the machine is."""
START_S = 60.0
"""Longest wait for a decoder that starts."""
MAX_LINE_BYTES = 64 << 10
PIPE_BYTES = 1 << 20
"""What the pipes to a decoder hold (Linux): all of a small image, so that neither side waits for the other."""
PASSED_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT", "LANG", "TZ")
"""What a decoder gets of the environment; passwords and keys lie in the rest."""

log = structlog.get_logger(__name__)


class DecoderEnd(Enum):
    """Why a decoder process was replaced."""

    TIME = "time"
    MEMORY = "memory"
    CRASH = "crash"
    """It died by itself, by a fault of its own."""
    KILLED = "killed"
    """The system killed it, for the machine has too little memory; or somebody did."""
    STUCK = "stuck"
    """It did not answer, and used no time either."""


class DecoderUnavailable(Exception):
    """No decoder could be started, or none got the time to decode. The image may be good."""


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding one image may cost."""

    seconds: float = 20.0
    """Of processor time, of an image of the most pixels; a smaller one may take its share, and a 20th at least."""
    memory_bytes: int = 1536 << 20
    """Beyond what a decoder takes when it is idle; the file's own bytes are included."""


@dataclass(frozen=True)
class _Request:
    bytes: int
    max_pixels: int
    intact: bool
    limit_s: float
    pixels: bool
    """False: only whether it decodes, and its size."""
    longest_px: int | None = None


class _DecoderEnded(Exception):
    def __init__(self, why: DecoderEnd, detail: str) -> None:
        super().__init__(detail)
        self.why = why


class DecoderPool:
    """Decodes images in its own processes, so many at a time; further callers wait. For several threads."""

    def __init__(
        self, size: int, limits: DecodeLimits, *, on_end: Callable[[DecoderEnd], None] = lambda why: None
    ) -> None:
        """Describe the decoders; each is started when it is first needed.

        Args:
            size: how many images are decoded at a time.
            limits: of each image.
            on_end: told why, whenever a decoder had to be replaced.
        """
        self._limits, self._on_end, self._size = limits, on_end, size
        self._idle: LifoQueue[_DecoderProcess | None] = LifoQueue()
        """None: a decoder that is not started. The last one used comes first, so that no more start than are needed."""
        for _ in range(size):
            self._idle.put(None)

    def start(self) -> None:
        """Start one decoder, so that the first image need not wait for it; if none can be started, that tries again."""
        with self._borrowed() as slot:
            try:
                slot.start()
            except DecoderUnavailable as error:
                log.warning("no decoder yet", error=str(error))

    def check_image(self, data: bytes, *, max_pixels: int, intact: bool = True) -> ImageInfo:
        """Return what `glad.image_codec.check_image` does.

        Raises:
            ImageError: as that; ImageTooCostly also if the image exceeds a limit.
            DecoderUnavailable: if the image could not be tried.
        """
        reply, _ = self._ask(data, _Request(len(data), max_pixels, intact, self._limits.seconds, pixels=False))
        return ImageInfo(str(reply["format"]), int(reply["width"]), int(reply["height"]))

    def decode_image(
        self, data: bytes, *, max_pixels: int, intact: bool = True, longest_px: int | None = None
    ) -> DecodedImage:
        """Return what `glad.image_codec.decode_image` does, made smaller if a side is longer than `longest_px`.

        Raises:
            ImageError: as that; ImageTooCostly also if the image exceeds a limit.
            DecoderUnavailable: if the image could not be tried.
        """
        request = _Request(len(data), max_pixels, intact, self._limits.seconds, pixels=True, longest_px=longest_px)
        reply, pixels = self._ask(data, request)
        assert pixels is not None, "a decoder that answers without pixels answers with an error"
        return DecodedImage(pixels, str(reply["format"]))

    def close(self) -> None:
        """End all decoders, after what they are working on. Who needs one afterwards starts it anew."""
        for decoder in [self._idle.get() for _ in range(self._size)]:
            if decoder is not None:
                decoder.kill()
            self._idle.put(None)

    def _ask(self, data: bytes, request: _Request) -> tuple[dict[str, Any], image_codec.Pixels | None]:
        """Return a decoder's answer.

        A crash, or a kill, is tried again in a fresh decoder: it may be no fault of the image.
        """
        with self._borrowed() as slot:
            try:
                return slot.ask(request, data)
            except _DecoderEnded as first:
                if first.why not in (DecoderEnd.CRASH, DecoderEnd.KILLED):
                    raise self._refusal(first, data) from first
            try:
                return slot.ask(request, data)
            except _DecoderEnded as second:
                raise self._refusal(second, data) from second

    def _refusal(self, end: _DecoderEnded, data: bytes) -> Exception:
        given = f"image of {len(data)} bytes"
        match end.why:
            case DecoderEnd.TIME:
                return ImageTooCostly(
                    f"{given} takes longer to decode than its size allows; the limit is {self._limits.seconds:g} s of "
                    "processor time for the largest image, and less for a smaller one: store it in another form, or "
                    "raise GLAD_DECODE_LIMIT_S"
                )
            case DecoderEnd.MEMORY:
                return ImageTooCostly(
                    f"{given} takes more than {self._limits.memory_bytes} bytes of memory to decode: store it in "
                    "another form, or raise GLAD_DECODE_MEMORY_BYTES"
                )
            case DecoderEnd.CRASH:
                return ImageNotDecodable(f"{given} ends the decoder ({end}): check the file and send it again")
            case DecoderEnd.STUCK | DecoderEnd.KILLED:
                return DecoderUnavailable(f"{given} could not be decoded now ({end}): try again later")

    @contextmanager
    def _borrowed(self) -> Iterator[_Slot]:
        slot = _Slot(self._idle.get(), self._limits, self._on_end)
        try:
            yield slot
        finally:
            self._idle.put(slot.decoder)


class _Slot:
    """The place of one decoder; the one in it is replaced when it ends."""

    def __init__(
        self, decoder: _DecoderProcess | None, limits: DecodeLimits, on_end: Callable[[DecoderEnd], None]
    ) -> None:
        self.decoder, self._limits, self._on_end = decoder, limits, on_end

    def start(self) -> _DecoderProcess:
        """Return the decoder, started if there is none.

        Raises:
            DecoderUnavailable: if the system refuses.
        """
        if self.decoder is None:
            try:
                self.decoder = _DecoderProcess(self._limits.memory_bytes)
            except OSError as error:
                raise DecoderUnavailable(f"no decoder can be started ({error}): try again later") from error
        return self.decoder

    def ask(self, request: _Request, data: bytes) -> tuple[dict[str, Any], image_codec.Pixels | None]:
        """Return the decoder's answer. One that ends is replaced at once: it starts while nobody needs it.

        Raises:
            ImageError: if the answer is one.
            _DecoderEnded: if there is no answer.
            DecoderUnavailable: if no decoder starts.
        """
        decoder = self.start()
        try:
            decoder.wait_until_ready()
            return decoder.ask(request, data)
        except ImageError:
            raise
        except BaseException as error:
            decoder.kill()
            self.decoder = None
            if isinstance(error, _DecoderEnded):
                log.warning("decoder replaced", why=error.why.value, detail=str(error), bytes=len(data))
                self._on_end(error.why)
                with suppress(DecoderUnavailable):
                    self.start()
            raise


class _DecoderProcess:
    """One decoder process and the pipes to it."""

    def __init__(self, memory_bytes: int) -> None:
        command = [sys.executable, "-P", "-m", "service.host.decoder_process", str(memory_bytes)]
        environment = {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ}
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # it imports what this process imports
        self._process = subprocess.Popen(
            command,
            # One thread: a decoder uses no more, and each would take address space.
            env=environment | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pipesize=PIPE_BYTES,
            process_group=0,  # Ctrl-C is for the parent: when that ends, the decoder's input does
        )
        assert isinstance(self._process.stdin, FileIO)
        assert isinstance(self._process.stdout, FileIO)
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._ready = False

    def wait_until_ready(self) -> None:
        """Return once the process has started.

        Raises:
            DecoderUnavailable: if it does not.
        """
        if self._ready:
            return
        with self._killed_after(START_S):
            self._ready = self._read_line() == READY
        if not self._ready:
            status = self._process.wait()
            raise DecoderUnavailable(f"a decoder did not start (status {status}): see the log, and try again later")

    def ask(self, request: _Request, data: bytes) -> tuple[dict[str, Any], image_codec.Pixels | None]:
        """Return the answer to one request.

        Raises:
            ImageError: if it is one.
            _DecoderEnded: if there is none.
        """
        with self._killed_after(WALL_FACTOR * request.limit_s) as is_late:
            with suppress(BrokenPipeError):
                self._write(json.dumps(asdict(request)).encode() + b"\n")
                self._write(data)
            line = self._read_line()
            reply = json.loads(line) if line.endswith(b"\n") else None
            pixels = self._read_pixels(reply["shape"], request.max_pixels) if reply and "shape" in reply else None
        if reply is None:
            raise self._end(is_late.is_set(), request)
        if "error" in reply:
            raise _image_error(str(reply["error"]), str(reply["detail"]))
        return reply, pixels

    def kill(self) -> None:
        """End the process, and reap it."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()

    def _end(self, is_late: bool, request: _Request) -> _DecoderEnded:
        status = self._process.wait()
        if is_late:
            return _DecoderEnded(DecoderEnd.STUCK, f"no answer after {WALL_FACTOR * request.limit_s:g} s")
        if status == EXIT_MEMORY:
            return _DecoderEnded(DecoderEnd.MEMORY, "out of memory")
        if hasattr(signal, "SIGPROF") and status == -signal.SIGPROF:
            return _DecoderEnded(DecoderEnd.TIME, "out of time")
        if hasattr(signal, "SIGKILL") and status == -signal.SIGKILL:
            return _DecoderEnded(DecoderEnd.KILLED, "its decoder was killed, as where memory runs out")
        return _DecoderEnded(DecoderEnd.CRASH, describe_exit(status))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._requests.write(rest) :]

    def _read_line(self) -> bytes:
        """Return a line; what came of it, if the process has ended."""
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES and (byte := self._replies.read(1)):
            line += byte
        return bytes(line)

    def _read_pixels(self, shape: list[int], max_pixels: int) -> image_codec.Pixels:
        """Return the pixels that follow.

        Raises:
            _DecoderEnded: if they do not come, or cannot be an image's.
        """
        height, width, channels = shape
        if height * width > max_pixels or channels != 3:
            raise _DecoderEnded(DecoderEnd.CRASH, f"it answered with a shape of {shape}")
        pixels = np.empty((height, width, channels), np.uint8)
        rest = pixels.data.cast("B")
        while rest:
            if not (count := self._replies.readinto(rest)):
                raise _DecoderEnded(DecoderEnd.CRASH, "it ended amid its answer")
            rest = rest[count:]
        return pixels

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the process if the block takes longer; the event tells."""
        is_late = threading.Event()

        def kill() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield is_late
        finally:
            timer.cancel()


def _image_error(name: str, detail: str) -> ImageError:
    """Return the codec's error of this name; a name that nobody knows is an image that does not decode."""
    kinds = [ImageError]
    for kind in kinds:  # grows meanwhile, by the errors of an error
        kinds += kind.__subclasses__()
    return next((kind for kind in kinds if kind.__name__ == name), ImageNotDecodable)(detail)

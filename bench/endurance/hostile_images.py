"""What hostile image files cost a decoder: thousands of them, made of good ones by rules, the same for a seed.

Random bytes are refused at once. What costs is a file that is nearly good: a length, a size or a count was changed, a
part comes a thousand times, and checksums fit all the same.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from glad.image_codec import MAX_PIXELS, ImageError
from service.host.decoder_pool import DecodeLimits, DecoderEnd, DecoderPool, DecoderUnavailable
from training.progress import Count

EXTREME = (0, 1, 2, 3, 4, 7, 8, 12, 16, 64, 255, 256, 4095, 8000, 16383, 32767, 46336, 65535, 0x7FFFFFFF, 0xFFFFFFFF)
"""Values of a field that a decoder may not expect."""
JUNK = (b"\0", b"\xff", b"\xff\0", b"\xff\xd0")
FORMAT_NAMES = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
MAX_BYTES = 4 << 20
"""No file is made larger: the aim is small ones."""


@dataclass(frozen=True)
class FileCost:
    """What one file cost."""

    name: str
    bytes: int
    outcome: str
    """`decoded`, an error's name, or which limit ended the decoder."""
    seconds: float
    """Of processor time; 0: the limit."""
    memory_bytes: int
    """Beyond what the decoder took before; 0: not known."""


@dataclass(frozen=True)
class HostileReport:
    """What all files of a seed cost."""

    seed: int
    costs: tuple[FileCost, ...]
    limits: DecodeLimits

    def outcomes(self, kind: str) -> Mapping[str, int]:
        """Return how often the files of a format ended in each way."""
        found = [cost.outcome for cost in self.costs if cost.name.startswith(kind)]
        return {outcome: found.count(outcome) for outcome in sorted(set(found))}

    def row(self, kind: str) -> tuple[str, str, str, str, str]:
        """Return the table's row of a format: the worst of its files that no limit ended, and how all ended."""
        costs = [cost for cost in self.costs if cost.name.startswith(kind)]
        seconds = max((cost.seconds for cost in costs), default=0.0)
        memory = max((cost.memory_bytes for cost in costs), default=0)
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes(kind).items())
        return kind, str(len(costs)), f"{seconds:.2f}", str(memory >> 20), outcomes


def measure_hostile_images(count: int, seed: int, limits: DecodeLimits, progress: Count) -> HostileReport:
    """Decode `count` hostile files, one by one, in decoders such as the service's; Linux only."""
    costs: list[FileCost] = []
    ends: list[DecoderEnd] = []
    pool = DecoderPool(1, limits, on_end=ends.append)
    try:
        for number, (name, data) in enumerate(hostile_files(count, seed)):
            costs.append(_cost(pool, ends, name, data))
            progress(number + 1, count)
    finally:
        pool.close()
    return HostileReport(seed, tuple(costs), limits)


def hostile_files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and files: each a good one of some format, changed by some rules."""
    rng, good = np.random.default_rng(seed), list(good_files().items())
    for number in range(count):
        kind, data = good[number % len(good)]
        rules = [list(RULES)[index] for index in rng.integers(0, len(RULES), rng.integers(1, 4))]
        for rule in rules:
            data = RULES[rule](data, rng)[:MAX_BYTES]
        yield f"{kind} {' + '.join(rules)} {number}", _mended(kind, data)


def good_files() -> dict[str, bytes]:
    """Return a good file of each format and of several of its kinds."""
    rng = np.random.default_rng(7)
    colour = Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
    grey16 = Image.fromarray(rng.integers(0, 65536, (96, 128)).astype("<u2"))
    made: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "JPEG": (colour, {}),
        "JPEG progressive": (colour, {"progressive": True}),
        "PNG": (colour, {}),
        "PNG 16": (grey16, {"transparency": 3}),
        "PNG palette": (colour.convert("P"), {"transparency": 1}),
        "BMP": (colour, {}),
        "TIFF": (colour, {}),
        "TIFF deflate": (colour, {"compression": "tiff_adobe_deflate"}),
        "TIFF lzw": (colour, {"compression": "tiff_lzw"}),
        "TIFF jpeg": (colour, {"compression": "jpeg"}),
        "TIFF fax": (colour.convert("1"), {"compression": "group4"}),
        "WEBP": (colour, {}),
        "WEBP lossless": (colour, {"lossless": True}),
        "WEBP animated": (colour, {"save_all": True, "append_images": [colour.rotate(180)]}),
    }
    return {kind: _saved(image, kind.partition(" ")[0], options) for kind, (image, options) in made.items()}


def _saved(image: Image.Image, kind: str, options: Mapping[str, Any]) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def _set_field(data: bytes, rng: np.random.Generator) -> bytes:
    """Set a field of the header, or of the end, where a TIFF has its tags."""
    at = int(rng.integers(0, min(len(data), 400)))
    place = at if rng.random() < 0.6 else len(data) - 1 - at
    value, width = int(rng.choice(EXTREME)), int(rng.choice([1, 2, 4]))
    field = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return data[: max(0, place)] + field + data[max(0, place) + width :]


def _set_size(data: bytes, rng: np.random.Generator) -> bytes:
    """Let width and height be others, wherever they stand and in whatever form."""
    width, height = (int(rng.choice([1, 64, 2000, 8000, 16383, 65500])) for _ in range(2))
    for form in (">HH", ">II", "<II", "<ii"):
        for given in ((128, 96), (96, 128)):
            data = data.replace(struct.pack(form, *given), struct.pack(form, *((width, height)[: len(given)])), 1)
    for tag, value in ((256, width), (257, height), (278, height), (322, width), (323, height)):
        for field in (3, 4):
            entry = struct.pack("<HHI", tag, field, 1)
            if (place := data.find(entry)) >= 0:
                data = data[: place + 8] + struct.pack("<I", value) + data[place + 12 :]
    return data.replace((127).to_bytes(3, "little"), (width - 1).to_bytes(3, "little"), 1)


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    """Let a part come up to some ten thousand times."""
    begin, length = int(rng.integers(0, len(data))), int(rng.choice([2, 4, 12, 64, 400, 4000]))
    times = int(min(10 ** rng.uniform(0.5, 4.5), MAX_BYTES // length))
    return data[: begin + length] + data[begin : begin + length] * times + data[begin + length :]


def _repeat_scan(data: bytes, rng: np.random.Generator) -> bytes:
    """Let the last scan of a JPEG come again; another file is cut."""
    start, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    if not data.startswith(b"\xff\xd8") or not 0 < start < end:
        return data[: int(rng.integers(1, len(data) + 1))]
    return data[:end] + data[start:end] * int(rng.integers(1, 100)) + data[end:]


def _insert_junk(data: bytes, rng: np.random.Generator) -> bytes:
    at, what = int(rng.integers(0, len(data))), JUNK[int(rng.integers(0, len(JUNK)))]
    return data[:at] + what * int(10 ** rng.uniform(0, 6)) + data[at:]


def _flip_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


RULES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "field": _set_field,
    "size": _set_size,
    "repeated": _repeat,
    "scan": _repeat_scan,
    "junk": _insert_junk,
    "bytes": _flip_bytes,
}


def _mended(kind: str, data: bytes) -> bytes:
    """Return the file with the signature and the sums that a decoder would refuse it by at once."""
    if kind.startswith("PNG"):
        return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunks(data[8:]))
    if kind.startswith("WEBP"):
        return b"RIFF" + struct.pack("<I", max(0, len(data) - 8)) + b"WEBP" + data[12:]
    signature = {"JPEG": b"\xff\xd8\xff", "BMP": b"BM", "TIFF": b"II*\0"}[kind.partition(" ")[0]]
    return signature + data[len(signature) :]


def _png_chunks(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I", data[at : at + 4])[0], data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        yield struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        at += 12 + length


def _cost(pool: DecoderPool, ends: list[DecoderEnd], name: str, data: bytes) -> FileCost:
    pool.start()
    before, decoder = len(ends), _ready_decoder()
    (decoder / "clear_refs").write_text("5")  # the peak counts from now on
    seconds, memory = _seconds(decoder), _status(decoder, "VmRSS")
    outcome = _outcome(pool, data)
    if len(ends) > before:
        return FileCost(name, len(data), f"ended by {ends[-1].value}", 0.0, 0)
    seconds, memory = _seconds(decoder) - seconds, _status(decoder, "VmHWM") - memory
    return FileCost(name, len(data), outcome, round(seconds, 4), max(0, memory))


def _outcome(pool: DecoderPool, data: bytes) -> str:
    try:
        pool.decode_image(data, max_pixels=MAX_PIXELS)
    except (ImageError, DecoderUnavailable) as error:
        return type(error).__name__
    return "decoded"


def _ready_decoder() -> Path:
    """Return the folder of the one decoder in /proc, once it waits for a request."""
    while True:
        for child in psutil.Process().children():
            if "service.host.decoder_process" in child.cmdline() and child.status() == psutil.STATUS_SLEEPING:
                return Path(f"/proc/{child.pid}")
        time.sleep(0.002)


def _seconds(process: Path) -> float:
    return int((process / "schedstat").read_text().split()[0]) / 1e9


def _status(process: Path, name: str) -> int:
    (line,) = (line for line in (process / "status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024

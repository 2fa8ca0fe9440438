"""TIFFs written sample by sample, by the specification (TIFF 6.0): of every kind that cameras and their software store,
and of kinds that nobody does. What each must look like is worked out from the same samples, never read back."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
NOTHING, ASSOCIATED, UNASSOCIATED = 0, 1, 2
"""What ExtraSamples says of a sample."""
UNCOMPRESSED, DEFLATE, PACKBITS = 1, 8, 32773
SHORT, LONG, LONG8 = 3, 4, 16

Samples = NDArray[np.uint16]
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Layout:
    """How the samples of an image lie in a file."""

    width: int = 23
    height: int = 17
    bits: int = 8
    photometric: int = RGB
    extra: tuple[int, ...] = ()
    said: bool = True
    """Whether ExtraSamples is there."""
    planar: bool = False
    order: str = "<"
    big: bool = False
    """BigTIFF."""
    reversed_bits: bool = False
    """FillOrder 2."""
    rows_per_strip: int = 5
    tile: int | None = None
    """Side of square tiles, a multiple of 16; None: strips."""
    compression: int = UNCOMPRESSED
    predictor: bool = False
    map_bits: int = 16
    """Of the values of a colour map."""

    @property
    def samples(self) -> int:
        return COLOURS[self.photometric] + len(self.extra)

    @property
    def highest(self) -> int:
        return (1 << self.bits) - 1


def random_layout(rng: np.random.Generator) -> Layout:
    """A layout of any combination, allowed or not."""
    photometric = int(rng.choice([WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, RGB, PALETTE, CMYK]))
    few = {PALETTE: [1, 2, 4, 8], RGB: [8, 16], CMYK: [8, 16]}.get(photometric, [1, 2, 4, 8, 12, 16])
    bits = int(rng.choice(few))
    single: list[tuple[int, ...]] = [(), (), (NOTHING,), (ASSOCIATED,), (UNASSOCIATED,)]
    extras = [*single, (UNASSOCIATED, NOTHING), (NOTHING, NOTHING)]
    compression = int(rng.choice([UNCOMPRESSED, UNCOMPRESSED, DEFLATE, PACKBITS]))
    return Layout(
        width=int(rng.integers(1, 40)),
        height=int(rng.integers(1, 30)),
        bits=bits,
        photometric=photometric,
        extra=extras[rng.integers(len(extras))],
        said=bool(rng.random() < 0.9),
        planar=bool(rng.random() < 0.5),
        order="<>"[rng.integers(2)],
        big=bool(rng.random() < 0.2),
        reversed_bits=bool(rng.random() < 0.15),
        rows_per_strip=int(rng.integers(1, 40)),
        tile=16 if rng.random() < 0.25 else None,
        compression=compression,
        predictor=bool(compression == DEFLATE and bits >= 8 and bits != 12 and rng.random() < 0.4),
        map_bits=int(rng.choice([8, 16])),
    )


def random_samples(layout: Layout, rng: np.random.Generator) -> Samples:
    """Samples (H, W, S) of a picture that could be: no colour is brighter than an alpha that it was multiplied by."""
    shape = layout.height, layout.width, layout.samples
    samples = rng.integers(0, layout.highest + 1, shape).astype(np.uint16)
    colours = COLOURS[layout.photometric]
    if ASSOCIATED in layout.extra:
        alpha = samples[:, :, colours + layout.extra.index(ASSOCIATED), None].astype(np.int64)
        samples[:, :, :colours] = samples[:, :, :colours] * alpha // layout.highest
    return samples


def random_colour_map(layout: Layout, rng: np.random.Generator) -> Samples:
    """Colours (3, entries)."""
    colours = rng.integers(0, 1 << layout.map_bits, (3, 1 << layout.bits)).astype(np.uint16)
    colours[0, 0] = (1 << layout.map_bits) - 1  # one value at least needs all of its bits
    return colours


def expected_pixels(layout: Layout, samples: Samples, colour_map: Samples) -> NDArray[np.float64]:
    """What the image shows, (H, W, 3), by the rules of docs/api.md; not rounded."""
    colours = COLOURS[layout.photometric]
    levels = samples.astype(np.float64)
    eight = levels * 255 / layout.highest if colours == 1 or layout.bits <= 8 else samples >> 8
    if layout.photometric == CMYK:
        return (255 - eight[:, :, :3]) * (255 - eight[:, :, 3:4]) / 255
    shown = eight[:, :, :colours] if layout.photometric != WHITE_IS_ZERO else 255 - eight[:, :, :1]
    if layout.photometric == PALETTE:
        shown = colour_map.astype(np.int64)[:, samples[:, :, 0]].transpose(1, 2, 0) >> layout.map_bits - 8
    shown = np.broadcast_to(shown, (layout.height, layout.width, 3)).astype(np.float64)
    for place, meaning in enumerate(layout.extra):
        alpha = eight[:, :, colours + place, None] / 255
        if meaning == UNASSOCIATED:
            return shown * alpha + 255 * (1 - alpha)
        if meaning == ASSOCIATED:
            return shown + 255 * (1 - alpha)
    return shown


def tiff_file(layout: Layout, samples: Samples, colour_map: Samples) -> bytes:
    """The file."""
    pieces = [_pack(layout, piece) for piece in _pieces(layout, samples)]
    start = 16 if layout.big else 8
    places = [start + sum(map(len, pieces[:number])) for number in range(len(pieces))]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (LONG, [layout.width]),
        257: (LONG, [layout.height]),
        258: (SHORT, [layout.bits] * layout.samples),
        259: (SHORT, [layout.compression]),
        262: (SHORT, [layout.photometric]),
        277: (SHORT, [layout.samples]),
        284: (SHORT, [2 if layout.planar else 1]),
        (324 if layout.tile else 273): (LONG, places),
        (325 if layout.tile else 279): (LONG, [len(piece) for piece in pieces]),
    }
    if layout.tile:
        tags |= {322: (LONG, [layout.tile]), 323: (LONG, [layout.tile])}
    else:
        tags[278] = (LONG, [layout.rows_per_strip])
    if layout.reversed_bits:
        tags[266] = (SHORT, [2])
    if layout.predictor:
        tags[317] = (SHORT, [2])
    if layout.photometric == PALETTE:
        tags[320] = (SHORT, colour_map.ravel().tolist())
    if layout.extra and layout.said:
        tags[338] = (SHORT, list(layout.extra))
    return assembled(layout, b"".join(pieces), tags)


def _pieces(layout: Layout, samples: Samples) -> Iterator[Samples]:
    """Strips or tiles, plane by plane."""
    planes = np.split(samples, layout.samples, axis=2) if layout.planar else [samples]
    for plane in planes:
        if layout.tile is None:
            yield from np.split(plane, range(layout.rows_per_strip, layout.height, layout.rows_per_strip))
            continue
        below, right = -layout.height % layout.tile, -layout.width % layout.tile
        padded = np.pad(plane, ((0, below), (0, right), (0, 0)))
        for top in range(0, padded.shape[0], layout.tile):
            for left in range(0, padded.shape[1], layout.tile):
                yield padded[top : top + layout.tile, left : left + layout.tile]


def _pack(layout: Layout, piece: Samples) -> bytes:
    if layout.predictor:
        before = np.pad(piece, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        piece = (piece - before) & np.uint16(layout.highest)
    rows = [_row(layout, row.ravel()) for row in piece]
    if layout.compression == DEFLATE:
        packed = zlib.compress(b"".join(rows))
    elif layout.compression == PACKBITS:
        packed = b"".join(_packbits(row) for row in rows)
    else:
        packed = b"".join(rows)
    return packed.translate(REVERSED) if layout.reversed_bits else packed


def _row(layout: Layout, levels: Samples) -> bytes:
    if layout.bits == 16:
        return levels.astype(layout.order + "u2").tobytes()
    bits = levels[:, None] >> np.arange(layout.bits - 1, -1, -1, dtype=np.uint16) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def _packbits(row: bytes) -> bytes:
    """A row in literals, and its last byte as a run of one more byte where the one before is the same."""
    parts = [row[place : place + 128] for place in range(0, len(row), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def assembled(layout: Layout, pixels: bytes, tags: dict[int, tuple[int, list[int]]]) -> bytes:
    """A file of packed pixels and tags, by number: kind and values."""
    order, offset = layout.order, "Q" if layout.big else "I"
    width, start = struct.calcsize(offset), 16 if layout.big else 8
    pixels += bytes(-len(pixels) % 8)
    directory = start + len(pixels)
    beyond = (
        directory + struct.calcsize(f"<{'Q' if layout.big else 'H'}") + (20 if layout.big else 12) * len(tags) + width
    )
    entries = values = b""
    for tag, (kind, given) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(given)}{'H' if kind == SHORT else 'I'}", *given)
        if len(value) > width:
            place, values = struct.pack(order + offset, beyond + len(values)), values + value
        else:
            place = value.ljust(width, b"\0")
        entries += struct.pack(f"{order}HH{offset}", tag, kind, len(given)) + place
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, directory) if layout.big else struct.pack(f"{order}HI", 42, directory)
    count = struct.pack(order + ("Q" if layout.big else "H"), len(tags))
    return mark + head + pixels + count + entries + bytes(width) + values

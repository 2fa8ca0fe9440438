"""What the models are trained on: square model images under the bundle's framing, cut from good images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glad.framing import Letterbox, Tiles
from glad.imaging import Pixels
from glad.layout import lay_out
from glad.settings import MethodSettings
from glad.zones import Zones
from training.image_files import read_pixels
from training.pool import spread


@dataclass(frozen=True)
class Square:
    """One image, or one tile of it, as the models see it."""

    pixels: Pixels
    """(S, S, 3) uint8."""
    valid: NDArray[np.bool_]
    """(S, S): false on padding."""

    @property
    def content(self) -> tuple[slice, slice]:
        """Rows and columns of what is not padding."""
        rows, columns = np.flatnonzero(self.valid.any(1)), np.flatnonzero(self.valid.any(0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def read_squares(
    paths: Sequence[Path], settings: MethodSettings, *, at_least: int, seed: int, workers: int | None = None
) -> list[Square]:
    """Every image once; of tiled images as many random tiles of each as it takes to have `at_least` squares.

    In rounds over the images, so that more of them begin with the same ones. DataError for a file that does not decode.
    """
    rounds = -(-at_least // len(paths)) if isinstance(settings.framing, Tiles) else 1
    read = partial(_read, settings=settings, rounds=rounds, seed=seed)
    found = list(spread(read, list(enumerate(paths)), workers=workers, chunk=16))
    return [squares[turn] for turn in range(rounds) for squares in found]


def of_one_square(settings: MethodSettings) -> MethodSettings:
    """The settings under which a square's content, taken as an image of its own, is that square again.

    Zones are places on the whole image: what is cut from a tiled one has none.
    """
    if isinstance(settings.framing, Tiles):
        return settings.changed(framing=Letterbox(), zones=Zones())
    return settings.changed(framing=Letterbox())


def _read(numbered: tuple[int, Path], settings: MethodSettings, rounds: int, seed: int) -> list[Square]:
    number, path = numbered
    pixels = read_pixels(path)
    layout = lay_out(pixels.shape[1], pixels.shape[0], settings)
    shown, tiles = layout.placement.valid_pixels(), layout.tiles
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7003, number])))
    squares = []
    for _ in range(rounds):
        tile = tiles[int(rng.integers(len(tiles)))]
        valid = shown[tile.y : tile.y + layout.side, tile.x : tile.x + layout.side]
        squares.append(Square(layout.square(pixels, tile), valid))
    return squares

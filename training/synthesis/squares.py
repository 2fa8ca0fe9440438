"""What the models are trained on: square model images under the bundle's framing, cut from good images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glad.foreground import grey_of, object_pixels
from glad.image_codec import Pixels, to_model
from glad.images.tiling import lay_out
from glad.settings.framing import Letterbox, Tiles, Zones
from glad.settings.method import MethodSettings
from training.data.image_files import DataError, read_pixels
from training.process_pool import spread


@dataclass(frozen=True)
class Square:
    """One image, or one tile of it, as the models see it."""

    pixels: Pixels
    """(S, S, 3) uint8."""
    valid: NDArray[np.bool_]
    """(S, S): false on padding."""
    inspected: NDArray[np.bool_]
    """(S, S): where a defect would count: the object, inside the zones."""

    @property
    def content(self) -> tuple[slice, slice]:
        """Rows and columns of what is not padding."""
        rows, columns = np.flatnonzero(self.valid.any(1)), np.flatnonzero(self.valid.any(0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def read_squares(
    paths: Sequence[Path], settings: MethodSettings, *, at_least: int, seed: int, workers: int | None = None
) -> list[Square]:
    """Every image once; of tiled images as many random tiles of each as it takes to have `at_least` squares.

    In rounds over the images, so that more of them begin with the same ones. DataError for a file that does not decode,
    or an image of which the zones let nothing count.
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
    shown, inspected_mask = layout.placement.valid_pixels(), layout.inspected_mask(settings.zones)
    tiles = [tile for tile in layout.tiles if inspected_mask[layout.span(tile)].any()]
    if not tiles:
        raise DataError(f"{path}: the zones leave nothing of it to inspect: ignore less of it")
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7003, number])))
    squares = []
    for _ in range(rounds):
        tile = tiles[int(rng.integers(len(tiles)))]
        square, counts = layout.tile_pixels(pixels, tile), inspected_mask[layout.span(tile)]
        squares.append(Square(square, shown[layout.span(tile)], _inspected(square, counts, settings)))
    return squares


def _inspected(pixels: Pixels, inspected_mask: NDArray[np.bool_], settings: MethodSettings) -> NDArray[np.bool_]:
    counts = torch.from_numpy(inspected_mask)
    grey = grey_of(torch.from_numpy(to_model(pixels))[None])[0]
    found = object_pixels(grey, counts, settings.score.foreground)
    return inspected_mask if found is None else (found & counts).numpy()

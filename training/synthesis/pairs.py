"""The training data of the models: square images cut from good photographs, and pairs (x, x^a) of them.

Pairs are made once and kept in memory: all three trainings see the same anomalies, and none waits for them. They lie on
disk too, for a run that is interrupted.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.foreground import grey_of, object_pixels
from glad.image_codec import Pixels, to_model
from glad.images.tiling import lay_out
from glad.settings.framing import Letterbox, Tiles, Zones
from glad.settings.method import MethodSettings
from training.data.camera_noise import CameraNoise, add_camera_noise
from training.data.image_files import DataError, read_pixels
from training.interrupts import interrupts_noted
from training.kept_arrays import Arrays, KeptArrays
from training.process_pool import parallel_map, process_count
from training.progress import Count
from training.synthesis.anomalies import synthesise
from training.synthesis_recipe import SynthesisRecipe


@dataclass(frozen=True)
class TrainingSquare:
    """An image, or a tile of it, as the models see it."""

    pixels: Pixels
    """(S, S, 3) uint8."""
    valid: NDArray[np.bool_]
    """(S, S): false on padding."""
    inspected: NDArray[np.bool_]
    """(S, S): where a defect would count: the object, inside the zones."""
    scale: float = 1.0
    """Model pixels per pixel of the original."""
    noisy: Pixels | None = None
    """The same of the photograph taken once more; None: not asked for."""

    @property
    def content(self) -> tuple[slice, slice]:
        """Rows and columns of what is not padding."""
        return content_of(self.valid)


def content_of(valid: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of a square (S, S) that are not padding."""
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def read_squares(
    paths: Sequence[Path],
    settings: MethodSettings,
    *,
    at_least: int,
    seed: int,
    camera: CameraNoise | None = None,
    workers: int | None = None,
) -> list[TrainingSquare]:
    """Return every image once; of tiled images as many random tiles of each as it takes to have `at_least` squares.

    Tiles are drawn in rounds over the images, so that a longer list begins with the same ones.

    Args:
        paths: of the good images.
        settings: how they are framed.
        at_least: so many squares, of tiled images.
        seed: of the tiles and the noise.
        camera: that takes each photograph once more, before it is made smaller; None: none does.
        workers: processes; None: one per core; 1: all in this one.

    Raises:
        DataError: for a file that does not decode, or an image of which the zones leave nothing to inspect.
    """
    rounds = -(-at_least // len(paths)) if isinstance(settings.framing, Tiles) else 1
    read = partial(_read, settings=settings, rounds=rounds, seed=seed, camera=camera)
    of_each_image = list(parallel_map(read, list(enumerate(paths)), workers=workers, chunk=16))
    return [squares[turn] for turn in range(rounds) for squares in of_each_image]


def single_square_settings(settings: MethodSettings) -> MethodSettings:
    """Return the settings under which a square's content, taken as an image of its own, is that square again.

    Zones are places on the whole image: what is cut from a tiled one has none.
    """
    if isinstance(settings.framing, Tiles):
        return settings.changed(framing=Letterbox(), zones=Zones())
    return settings.changed(framing=Letterbox())


def _read(
    numbered: tuple[int, Path], settings: MethodSettings, rounds: int, seed: int, camera: CameraNoise | None
) -> list[TrainingSquare]:
    number, path = numbered
    pixels = read_pixels(path)
    again = None if camera is None else add_camera_noise(pixels, camera, f"training {seed}:{number}")
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
        inspected = inspected_pixels(square, counts, settings)
        noisy = None if again is None else layout.tile_pixels(again, tile)
        squares.append(TrainingSquare(square, shown[layout.span(tile)], inspected, layout.placement.scale, noisy))
    return squares


def inspected_pixels(pixels: Pixels, inspected_mask: NDArray[np.bool_], settings: MethodSettings) -> NDArray[np.bool_]:
    """Return where a defect would count in a square (S, S, 3): inside the mask, and on the settings' foreground."""
    counts = torch.from_numpy(inspected_mask)
    grey = grey_of(torch.from_numpy(to_model(pixels))[None])[0]
    on_object = object_pixels(grey, counts, settings.score.foreground)
    return inspected_mask if on_object is None else (on_object & counts).numpy()


@dataclass(frozen=True)
class PairSet:
    """N pairs as uint8 images (N, 3, S, S); mask and valid: bool (N, S, S)."""

    normal: Tensor
    anomalous: Tensor
    mask: Tensor
    valid: Tensor

    def __len__(self) -> int:
        return int(self.normal.shape[0])


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 (B, 3, H, W) as float32 in [-1, 1]."""
    return images.float() / 127.5 - 1.0


def _one(index: int, images: Sequence[TrainingSquare], recipe: SynthesisRecipe, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7001, index])))
    source = images[index % len(images)]
    image = _photograph(source, recipe, seed, index).astype(np.float32) / 255
    pair = synthesise(rng, image, source.valid, recipe, source.inspected, scale=source.scale)
    to_bytes = [np.round(x * 255).astype(np.uint8).transpose(2, 0, 1) for x in (pair.normal, pair.anomalous)]
    return (*to_bytes, pair.mask, source.valid)


def _photograph(source: TrainingSquare, recipe: SynthesisRecipe, seed: int, index: int) -> Pixels:
    """Return which photograph of the square a pair is made of, by a draw of its own: anomalies stay as they were."""
    if source.noisy is None:
        return source.pixels
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7011, index])))
    return source.noisy if rng.random() < recipe.noisy else source.pixels


_IMAGES: list[TrainingSquare] = []  # a worker process's own copy, set once before its first pair


def _remember(images: list[TrainingSquare]) -> None:
    _IMAGES[:] = images


def _one_of_worker(index: int, recipe: SynthesisRecipe, seed: int) -> tuple[np.ndarray, ...]:
    return _one(index, _IMAGES, recipe, seed)


def make_pairs(
    paths: Sequence[Path],
    settings: MethodSettings,
    recipe: SynthesisRecipe,
    seed: int,
    *,
    progress: Count | None = None,
    workers: int | None = None,
    keep: Path | None = None,
) -> PairSet:
    """Read the good images and make `recipe.pairs` pairs; each depends only on the seed, its index and its square.

    Args:
        workers: processes; None: one per core; 1: all in this one. The pairs are the same.
        keep: a folder of this very call, which goes on from the pairs that lie there.

    Raises:
        KeyboardInterrupt: after Ctrl-C, with all pairs that were made in `keep`.
    """
    kept = None if keep is None else KeptArrays(keep, recipe.pairs)
    arrays = [] if kept is None else list(kept.read())
    images: list[TrainingSquare] = []
    if len(arrays) < recipe.pairs:
        camera = recipe.camera if recipe.noisy else None
        cut = recipe.settings(settings)
        images = read_squares(paths, cut, at_least=recipe.pairs, seed=seed, camera=camera, workers=workers)
    made = _pairs_from(len(arrays), images, recipe, seed, workers=process_count(workers))
    with closing(made), nullcontext(Event()) if kept is None else interrupts_noted() as interrupted:
        for done, result in enumerate(made, start=len(arrays) + 1):
            arrays.append(result)
            if kept is not None:
                kept.add(result)
            if progress is not None:
                progress(done, recipe.pairs)
            if kept is not None and interrupted.is_set():
                kept.flush()
                raise KeyboardInterrupt
    normal, anomalous, mask, valid = (torch.from_numpy(np.stack(column)) for column in zip(*arrays, strict=True))
    return PairSet(normal, anomalous, mask, valid)


def _pairs_from(
    first: int, images: list[TrainingSquare], recipe: SynthesisRecipe, seed: int, *, workers: int
) -> Generator[Arrays, None, None]:
    indices = range(first, recipe.pairs)
    if workers == 1:
        yield from map(partial(_one, images=images, recipe=recipe, seed=seed), indices)
        return
    make = partial(_one_of_worker, recipe=recipe, seed=seed)
    yield from parallel_map(make, indices, workers=workers, chunk=16, prepare=_remember, given=(images,))

"""Pairs (x, x^a) made once and kept in memory: all three trainings see the same anomalies and none waits for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glad.settings.method import MethodSettings
from training.process_pool import process_count, spread
from training.progress import Count
from training.recipe import SynthesisRecipe
from training.synthesis.anomalies import synthesise
from training.synthesis.squares import Square, read_squares


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
    """uint8 (B, 3, H, W) -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1.0


def _one(index: int, images: Sequence[Square], recipe: SynthesisRecipe, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7001, index])))
    source = images[index % len(images)]
    pair = synthesise(rng, source.pixels.astype(np.float32) / 255, source.valid, recipe, source.inspected)
    to_bytes = [np.round(x * 255).astype(np.uint8).transpose(2, 0, 1) for x in (pair.normal, pair.anomalous)]
    return (*to_bytes, pair.mask, source.valid)


_IMAGES: list[Square] = []  # a worker process's own copy, set once before its first pair


def _remember(images: list[Square]) -> None:
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
) -> PairSet:
    """Read the good images and make `recipe.pairs` pairs; each depends only on the seed, its index and its square.

    workers: processes; None: one per core; 1: all in this one. The pairs are the same.
    """
    arrays: list[tuple[np.ndarray, ...]] = []
    for done, result in enumerate(_all_pairs(paths, settings, recipe, seed, workers=process_count(workers)), start=1):
        arrays.append(result)
        if progress is not None:
            progress(done, recipe.pairs)
    normal, anomalous, mask, valid = (torch.from_numpy(np.stack(column)) for column in zip(*arrays, strict=True))
    return PairSet(normal, anomalous, mask, valid)


def _all_pairs(
    paths: Sequence[Path], settings: MethodSettings, recipe: SynthesisRecipe, seed: int, *, workers: int
) -> Iterator[tuple[np.ndarray, ...]]:
    images = read_squares(paths, settings, at_least=recipe.pairs, seed=seed, workers=workers)
    if workers == 1:
        return map(partial(_one, images=images, recipe=recipe, seed=seed), range(recipe.pairs))
    make = partial(_one_of_worker, recipe=recipe, seed=seed)
    return spread(make, range(recipe.pairs), workers=workers, chunk=16, prepare=_remember, given=(images,))

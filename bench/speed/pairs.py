"""How fast pairs with synthetic anomalies are made, beside how fast training's largest consumer of them eats.

Pairs are made by processes, the UNet's step by the device. On a CPU both are timed by their thread's time on a core,
with one thread, so that the ratio holds on a machine that others use as well; on a GPU the step is timed by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from training.finetune.unet import new_unet
from training.pretrained_recipe import PretrainedRecipe
from training.progress import Count
from training.recipe import FeatureRecipe, Recipe
from training.recipe_file import AnyRecipe
from training.synthesis.anomalies import fill_source, make_anomaly, synthesise
from training.synthesis.pairs import TrainingSquare, read_squares

UNTIMED = 2
"""Training steps, before those that are timed."""


@dataclass(frozen=True)
class PairSpeeds:
    """What was measured of one recipe."""

    side: int
    """Of the model image, in pixels."""
    pairs: int
    """That the recipe makes before the first training."""
    ms_by_kind: Mapping[str, float]
    """Milliseconds of one process for an anomaly of each kind in the recipe that can be seen."""
    pairs_per_s: float
    """Of one process, of the recipe's mixture."""
    eaten_per_s: float | None
    """Images a second of the UNet's training; None: not measured, of published models."""
    eaten: int
    """Images that the UNet's training takes in all."""

    @property
    def ratio(self) -> float | None:
        """Return how many times as fast one process makes pairs as the UNet's training eats them."""
        return None if self.eaten_per_s is None else self.pairs_per_s / self.eaten_per_s

    @property
    def pairs_share(self) -> float | None:
        """Return the time of making all pairs by one process as a share of the UNet's training."""
        if self.eaten_per_s is None or not self.eaten:
            return None
        return (self.pairs / self.pairs_per_s) / (self.eaten / self.eaten_per_s)


def measure_pairs(
    recipe: AnyRecipe,
    paths: Sequence[Path],
    *,
    device: str,
    count: int,
    steps: int,
    progress: Count,
) -> PairSpeeds:
    """Make pairs of good images, and take training steps of the recipe's UNet on random latents.

    Args:
        count: pairs of each kind, and of the mixture.
        steps: of the training, timed.
        progress: over kinds, mixture and training.
    """
    synthesis = recipe.synthesis
    cut = synthesis.settings(recipe.settings)
    squares = read_squares(paths, cut, at_least=len(paths), seed=0, workers=1)
    kinds = [kind for kind, weight in synthesis.weights.items() if weight > 0]
    done, total = 0, len(kinds) + 2
    by_kind = {}
    for kind in kinds:
        by_kind[kind] = 1e3 * _seconds_each(partial(_anomaly, recipe, kind, squares), count)
        progress(done := done + 1, total)
    each = _seconds_each(partial(_pair, recipe, squares), 4 * count)
    progress(done + 1, total)
    eaten_per_s = None if isinstance(recipe, PretrainedRecipe) else _training_speed(recipe, device, steps)
    progress(total, total)
    eaten = 0 if recipe.unet is None else recipe.unet.steps * recipe.unet.batch
    return PairSpeeds(recipe.settings.resolution, synthesis.pairs, by_kind, 1 / each, eaten_per_s, eaten)


def _seconds_each(make: Callable[[int], object], count: int) -> float:
    begun = time.thread_time()
    for index in range(count):
        make(index)
    return (time.thread_time() - begun) / count


def _anomaly(recipe: AnyRecipe, kind: str, squares: Sequence[TrainingSquare], index: int) -> None:
    square, rng = squares[index % len(squares)], np.random.Generator(np.random.Philox(index))
    image, source = square.pixels.astype(np.float32) / 255, fill_source(recipe.synthesis)
    try:
        make_anomaly(kind, rng, image, square.valid, square.scale, where=square.inspected, source=source)
    except ValueError:  # too small to be seen at this scale: a training gets the good image then
        return


def _pair(recipe: AnyRecipe, squares: Sequence[TrainingSquare], index: int) -> None:
    square, rng = squares[index % len(squares)], np.random.Generator(np.random.Philox(index))
    image = square.pixels.astype(np.float32) / 255
    synthesise(rng, image, square.valid, recipe.synthesis, square.inspected, scale=square.scale)


def _training_speed(recipe: Recipe | FeatureRecipe, device: str, steps: int) -> float:
    """Return images a second of the UNet's training: forward, backward and AdamW."""
    channels, side = _latent_shape(recipe)
    model = new_unet(recipe.unet, channels, side).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    noisy = torch.randn(recipe.unet.batch, channels, side, side, device=device)
    timesteps = torch.randint(1000, (recipe.unet.batch,), device=device)
    clock = time.thread_time if device == "cpu" else time.perf_counter
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    begun = 0.0
    for step in range(UNTIMED + steps):
        if step == UNTIMED:
            _wait_for(device)
            begun = clock()
        functional.mse_loss(model(noisy, timesteps).sample, noisy).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    _wait_for(device)
    taken = clock() - begun
    torch.set_num_threads(threads)
    return steps * recipe.unet.batch / taken


def _latent_shape(recipe: Recipe | FeatureRecipe) -> tuple[int, int]:
    """Return channels and side of what the recipe's UNet takes."""
    if isinstance(recipe, Recipe):
        return recipe.autoencoder.latent_channels, recipe.settings.resolution // recipe.autoencoder.factor
    fold = recipe.latent.fold
    return recipe.latent.modelled * fold**2, recipe.settings.resolution // recipe.embedding.stride // fold


def _wait_for(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()

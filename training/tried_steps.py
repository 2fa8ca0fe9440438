"""A few steps of each training loop at the recipe's sizes, beforehand: does the batch fit, how long is a step.

The loops are those of the training itself, with pairs of noise, in a folder that is gone afterwards. A batch that does
not fit ends the training in its first minute instead of after the pairs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from glad.settings.embedding import EmbeddingSettings
from model_store.backbones.loading import load_backbone
from training.finetune.autoencoder import train_autoencoder
from training.finetune.features import Reconstructions, train_features
from training.finetune.picture_decoder import train_decoder
from training.finetune.unet import LatentPairs, preconditioned_loss, train_unet
from training.peak_memory import peak_memory_bytes, reset_peak_memory, used_memory_bytes
from training.progress import progress_hidden
from training.recipe import FeatureRecipe, Recipe
from training.recipe_file import AnyRecipe
from training.synthesis.pairs import PairSet
from training.training_run import TrainingRun

STEPS = 1
"""Beyond the first, which is slower than those after it."""


@dataclass(frozen=True)
class TriedStage:
    """What a few steps of a stage took."""

    name: str
    step_s: float
    memory_bytes: int
    """Beyond what was in use before: on a GPU in all."""
    checkpoint_bytes: int


class BatchDoesNotFit(ValueError):
    """A step of a stage ran out of memory; says which, and what to change."""


Loop = Callable[[int, TrainingRun], Any]
"""Trains for so many steps in a run."""


def try_stages(recipe: AnyRecipe) -> tuple[TriedStage, ...]:
    """Return what a few steps of each loop of a recipe take on this machine.

    Raises:
        BatchDoesNotFit: if the device has too little memory.
        ValueError: whatever the training itself would refuse at its first step.
    """
    with _left_as_before(recipe.threads), progress_hidden():
        return tuple(_tried(name, loop, recipe) for name, loop in _loops(recipe))


def _loops(recipe: AnyRecipe) -> Iterator[tuple[str, Loop]]:
    if isinstance(recipe, FeatureRecipe):
        return _feature_loops(recipe)
    # Loading published models takes as long as a training of `light`: their loops are not tried.
    return _pixel_loops(recipe) if isinstance(recipe, Recipe) else iter(())


def _tried(name: str, loop: Loop, recipe: AnyRecipe) -> TriedStage:
    gc.collect()
    before = 0 if torch.cuda.is_available() else used_memory_bytes()
    reset_peak_memory()
    try:
        with TemporaryDirectory(prefix="glad-tried-") as folder:
            first_s = _seconds(lambda: loop(1, TrainingRun(Path(folder) / "first")))
            all_s = _seconds(lambda: loop(1 + STEPS, TrainingRun(Path(folder) / "all")))
            size = sum(path.stat().st_size for path in (Path(folder) / "first").rglob("*") if path.is_file())
    except torch.OutOfMemoryError as error:
        table = getattr(recipe, name)
        raise BatchDoesNotFit(
            f"a step of the stage {name} with {name}.batch {table.batch} does not fit into the memory of the device: "
            f"set {name}.batch lower, training.accumulate higher, or training.gradient_checkpointing to true "
            f"({str(error).splitlines()[0]})"
        ) from error
    return TriedStage(name, max(0.0, all_s - first_s) / STEPS, max(0, peak_memory_bytes() - before), size)


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


@contextmanager
def _left_as_before(threads: int | None) -> Iterator[None]:
    """Let nothing that the training draws or uses later depend on whether steps were tried."""
    usual = torch.get_num_threads()
    with torch.random.fork_rng():
        if threads:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(usual)


def _noise_pairs(count: int, side: int) -> PairSet:
    draw = torch.Generator().manual_seed(0)
    normal, anomalous = (torch.randint(256, (count, 3, side, side), generator=draw).byte() for _ in range(2))
    mask = torch.zeros(count, side, side, dtype=torch.bool)
    mask[:, : side // 2, : side // 2] = True
    return PairSet(normal, anomalous, mask, torch.ones_like(mask))


def _noise_latents(count: int, channels: int, side: int) -> LatentPairs:
    draw = torch.Generator().manual_seed(0)
    return LatentPairs(*(torch.randn(count, channels, side, side, generator=draw).half() for _ in range(2)))


def _pixel_loops(recipe: Recipe) -> Iterator[tuple[str, Loop]]:
    side, settings, loop, seed = recipe.settings.resolution, recipe.settings, recipe.training, recipe.seed
    pairs = _noise_pairs(4, side)
    latents = _noise_latents(4, recipe.autoencoder.latent_channels, side // recipe.autoencoder.factor)
    rebuilt = Reconstructions(pairs.normal, torch.arange(len(pairs)))

    def autoencoder(steps: int, run: TrainingRun) -> Any:
        return train_autoencoder(pairs, _so_long(recipe.autoencoder, steps), run, seed=seed, training=loop)

    def unet(steps: int, run: TrainingRun) -> Any:
        return train_unet(latents, _so_long(recipe.unet, steps), settings, run, seed=seed, training=loop)

    def features(steps: int, run: TrainingRun) -> Any:
        return train_features(pairs, rebuilt, _so_long(recipe.features, steps), settings, run, seed=seed, training=loop)

    yield from (("autoencoder", autoencoder), ("unet", unet), ("features", features))


def _feature_loops(recipe: FeatureRecipe) -> Iterator[tuple[str, Loop]]:
    side, settings, loop, seed = recipe.settings.resolution, recipe.settings, recipe.training, recipe.seed
    channels, modelled = latent_channels(recipe), recipe.latent.modelled
    pairs = _noise_pairs(4, side)
    latents = _noise_latents(4, channels, side // recipe.embedding.stride)
    fold, variances = recipe.latent.fold, torch.ones(modelled)
    loss = preconditioned_loss(variances, settings.schedule, fold, recipe.unet.error_unit)

    def unet(steps: int, run: TrainingRun) -> Any:
        table, known = _so_long(recipe.unet, steps), latents.first(modelled)
        return train_unet(known, table, settings, run, seed=seed, training=loop, fold=fold, loss=loss)

    def decoder(steps: int, run: TrainingRun) -> Any:
        return train_decoder(latents, pairs, _so_long(recipe.decoder, steps), run, seed=seed, training=loop)

    yield from (("unet", unet), ("decoder", decoder))


def latent_channels(recipe: FeatureRecipe) -> int:
    """Return the channels of a recipe's latents: as many as it keeps, or all that its backbone's levels have.

    Raises:
        ImportRefused: if the backbone's source holds none.
    """
    return recipe.latent.channels or backbone_channels(recipe.backbone, recipe.embedding)


def backbone_channels(source: str, embedding: EmbeddingSettings) -> int:
    """Return the channels of a backbone's levels together."""
    backbone = load_backbone(source).backbone
    return sum(backbone.channels(level) for level in embedding.levels)


def _so_long(table: Any, steps: int) -> Any:
    return table.model_copy(update={"steps": steps})

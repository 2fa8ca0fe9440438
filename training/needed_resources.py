"""How much memory and disk a training needs, about, and how much is free: counted, or tried; nothing is guessed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import torch

from glad.settings import Frozen
from glad.settings.framing import Tiles
from training.peak_memory import in_gib
from training.pretrained_recipe import PretrainedRecipe
from training.recipe import Recipe
from training.recipe_file import AnyRecipe
from training.tried_steps import TriedStage, latent_channels

HALF, DOUBLE = 2, 8
"""Bytes of a latent's value as it is kept, and while the latent space is found."""
CHECKPOINT_WITH_OPTIMIZER = 3
"""Times the weights: AdamW keeps two moments of each beside it."""
PUBLISHED_FACTOR, PUBLISHED_CHANNELS = 8, 4
"""Pixels per latent element on a side, and channels of a latent, of Stable Diffusion 1.x."""
CONTROL_GROUP = Path("/sys/fs/cgroup")


class Need(Frozen):
    """An amount that is needed, and how much is free of it."""

    what: str
    """Such as `memory`, or `disk at runs`."""
    bytes: int
    free_bytes: int
    because: str
    """Its largest parts."""

    @property
    def problem(self) -> str | None:
        """What is wrong and what to do; None: it is enough."""
        if self.bytes <= self.free_bytes:
            return None
        return (
            f"about {in_gib(self.bytes)} of {self.what} are needed ({self.because}), {in_gib(self.free_bytes)} are "
            "free: free some, or lower synthesis.pairs, settings.resolution or the stages' batches"
        )


def needs(recipe: AnyRecipe, images: int, tried: Sequence[TriedStage], run: Path, target: Path) -> tuple[Need, ...]:
    """Return what a training needs: memory, the device's where that is a GPU, and disk where run and bundle lie.

    Args:
        images: to train on.
        tried: stages of which steps were tried; what was not tried is not counted.
        run, target: folders, which need not exist.
    """
    return (*_memory(recipe, images, tried), *_disk(recipe, tried, run, target))


def _memory(recipe: AnyRecipe, images: int, tried: Sequence[TriedStage]) -> Iterator[Need]:
    parts = dict(_kept_in_memory(recipe, images))
    largest = max((stage.memory_bytes for stage in tried), default=0)
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        because = "a step of its largest stage"
        yield Need(what="the GPU's memory", bytes=largest, free_bytes=free, because=because)
    elif largest:
        parts["a step of its largest stage"] = largest
    yield Need(what="memory", bytes=sum(parts.values()), free_bytes=free_memory(), because=_largest(parts))


def _kept_in_memory(recipe: AnyRecipe, images: int) -> Iterator[tuple[str, int]]:
    yield "pairs", pair_bytes(recipe)
    if isinstance(recipe, PretrainedRecipe):
        side = recipe.settings.resolution // PUBLISHED_FACTOR
        yield "latents", 2 * recipe.synthesis.pairs * PUBLISHED_CHANNELS * side**2 * 4
        return
    if isinstance(recipe, Recipe):
        side = recipe.settings.resolution // recipe.autoencoder.factor
        yield "latents", 2 * recipe.synthesis.pairs * recipe.autoencoder.latent_channels * side**2 * 4
        yield "reconstructions", min(recipe.features.reconstructions, recipe.synthesis.pairs) * _picture_bytes(recipe)
        return
    place, channels = (recipe.settings.resolution // recipe.embedding.stride) ** 2, latent_channels(recipe)
    yield "latents", 2 * recipe.synthesis.pairs * channels * place * HALF
    pairs = recipe.synthesis.pairs
    distinct = pairs if isinstance(recipe.settings.framing, Tiles) else min(images, pairs)
    yield "latent space", distinct * channels * place * (DOUBLE + HALF)


def pair_bytes(recipe: AnyRecipe) -> int:
    """Return the bytes of a run's pairs: two pictures, and two masks, each."""
    return recipe.synthesis.pairs * (2 * _picture_bytes(recipe) + 2 * recipe.settings.resolution**2)


def _picture_bytes(recipe: AnyRecipe) -> int:
    return 3 * recipe.settings.resolution**2


def _disk(recipe: AnyRecipe, tried: Sequence[TriedStage], run: Path, target: Path) -> Iterator[Need]:
    weights = sum(stage.checkpoint_bytes for stage in tried)
    kept = dict(_kept_in_memory(recipe, 0))
    parts = {
        "pairs": pair_bytes(recipe),
        "checkpoints": weights * CHECKPOINT_WITH_OPTIMIZER * recipe.training.keep,
        # Of all but the pixel form they lie there twice for a moment: in the parts that survive a stop, and as a whole.
        "latents": kept["latents"] * (1 if isinstance(recipe, Recipe) else 2),
        "reconstructions": kept.get("reconstructions", 0),
    }
    places = {existing_parent(run): sum(parts.values())}
    places[existing_parent(target)] = places.get(existing_parent(target), 0) + 2 * weights
    for place, amount in places.items():
        free = shutil.disk_usage(place).free
        yield Need(what=f"disk at {place}", bytes=amount, free_bytes=free, because=_largest(parts))


def _largest(parts: dict[str, int]) -> str:
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {in_gib(amount)}" for name, amount in ordered if amount >= 0.05 * 2**30) or "little"


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above a path, or itself, that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def free_memory() -> int:
    """Return how much memory this process could still take: of the machine, and of its control group's limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((CONTROL_GROUP / "memory.max").read_text(encoding="ascii"))
        used = int((CONTROL_GROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return free
    return min(free, max(0, limit - used))


def writable_problem(folder: Path) -> str | None:
    """Return what is wrong if a folder cannot be made or written to; None: it can."""
    lowest = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.exists())
    if not lowest.is_dir():
        return f"{folder} cannot be written: {lowest} is a file, where a folder is needed; choose another folder"
    parent = existing_parent(folder)
    if os.access(parent, os.W_OK | os.X_OK):
        return None
    return f"{folder} cannot be written: this user may not write into {parent}; choose another folder"

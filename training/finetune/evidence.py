"""What the score of the feature form learns in closed form: a memory of good patches, and how to weigh two witnesses.

The comparator learns from differences as inference sees them: each good image against a memory without its own part,
and walked with the trained denoiser; each synthetic anomaly likewise. Last comes the range of first readings outside of
which an image is clear, and need not walk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glad.feature_form import LatentSpace, Witnesses, single_call
from glad.memory_bank import MemoryBank, build_memory_bank
from glad.models import Models
from glad.reconstruct import reconstruct_latents
from glad.residual_comparator import ResidualComparator, SecondMoments, average_vectors, fit_residual_comparator
from glad.seeded_noise import digest_noise, fixed_digest
from glad.settings.embedding import MemoryBankSettings
from glad.settings.method import DoubtfulRange, MethodSettings, NoiseSource
from training.calibration.thresholds import choose_delta
from training.feature_recipe import ComparatorRecipe, DoubtfulRecipe
from training.finetune.latent_space import EncodedPairs
from training.parallel_inspection import TracingComparator
from training.progress import progress_bar
from training.recipe import CalibrationRecipe

AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class GoodParts:
    """Which of the pairs show which part: pair i is of photograph i modulo their number."""

    groups: Sequence[int]
    """Of each photograph."""
    distinct: int
    """The first so many pairs show squares of their own: each photograph once; of tiled ones, a tile in every pair."""

    def of(self, pair: int) -> int:
        """Return the part that a pair shows."""
        return self.groups[pair % len(self.groups)]


def build_memory(encoded: EncodedPairs, parts: GoodParts, settings: MemoryBankSettings) -> MemoryBank:
    """Return the memory of the latents of every good square, once each."""
    count = parts.distinct
    images = range(count)
    latents, judged = encoded.pairs.normal[:count].permute(0, 2, 3, 1), encoded.judged[:count]
    owners = torch.cat([torch.full((int(judged[i].sum()),), parts.of(i)) for i in images])
    return build_memory_bank(torch.cat([latents[i][judged[i]] for i in images]), owners, settings)


def choose_walk(
    encoded: EncodedPairs, models: Models, settings: MethodSettings, recipe: CalibrationRecipe, *, seed: int
) -> MethodSettings:
    """Return the settings with the delta that good images of the training give, as calibration finds it again."""
    peaks: list[float] = []
    never = settings.with_delta(math.inf)
    count = min(recipe.delta_images, len(encoded.judged))
    with progress_bar() as bar:
        task = bar.add_task("delta", total=count, note="")
        for i in range(count):
            tracing = TracingComparator(models.comparator)
            _walked(encoded.pairs.normal, encoded, [i], replace(models, comparator=tracing), settings=never, seed=seed)
            peaks.append(max([0.0, *(score for _, score in tracing.trace)]))
            bar.update(task, advance=1)
    return settings.with_delta(choose_delta(peaks, recipe))


def fit_witnesses(
    encoded: EncodedPairs,
    changed: Tensor,
    parts: GoodParts,
    memory: MemoryBank,
    *,
    models: Models,
    settings: MethodSettings,
    recipe: ComparatorRecipe,
    seed: int,
    one_call: bool = False,
) -> Witnesses:
    """Return the memory with the comparators that weigh what it and the reconstruction say.

    Args:
        encoded: the pairs.
        changed: (N, S, S) bool, what each pair's anomaly changed.
        parts: of the pairs.
        memory: of the same good images, with their parts.
        models: with the trained denoiser.
        settings: those of the walk.
        recipe: of the comparators.
        seed: of the walks' noise, where each image draws its own.
        one_call: also a comparator of what a single call rebuilds, for first readings.

    Raises:
        ValueError: if no anomaly changes a place, or none of them shows in the features.
    """
    stride = changed.shape[-1] // encoded.judged.shape[-1]
    share = F.avg_pool2d(changed[:, None].float(), stride)[:, 0]
    damaged = (share > recipe.least_changed) & encoded.judged
    good = list(range(parts.distinct))
    anomalous = [i for i in range(len(damaged)) if bool(damaged[i].any())]
    learn = partial(
        _moments,
        encoded,
        parts,
        memory,
        models=models,
        settings=settings,
        window=recipe.window,
        seed=seed,
        one_call=one_call,
    )
    with progress_bar() as bar:
        task = bar.add_task("evidence", total=len(good) + len(anomalous), note="")
        advance = partial(bar.update, task)
        of_good = learn(side=encoded.pairs.normal, indices=good, where=encoded.judged, advance=advance)
        of_anomalies = learn(side=encoded.pairs.anomalous, indices=anomalous, where=damaged, advance=advance)
    return Witnesses(
        memory,
        *(
            fit_residual_comparator(clean, bad, window=recipe.window, shrinkage=recipe.shrinkage).in_units_of(clean)
            for clean, bad in zip(of_good, of_anomalies, strict=True)
        ),
    )


def with_doubtful_range(
    settings: MethodSettings,
    recipe: DoubtfulRecipe,
    *,
    encoded: EncodedPairs,
    parts: GoodParts,
    witnesses: Witnesses,
    models: Models,
    seed: int,
) -> MethodSettings:
    """Return the settings with the range of first readings that are doubtful, by those of good images.

    Args:
        settings: of the product.
        recipe: of the range.
        encoded: the pairs, of which the good squares are read.
        parts: of the pairs; each square is read by a memory without its own part.
        witnesses: with the fitted comparators.
        models: with the trained denoiser.
        seed: of the single calls' noise, where each image draws its own.
    """
    readings: list[float] = []
    with progress_bar() as bar:
        task = bar.add_task("first readings", total=parts.distinct, note="")
        for i in range(parts.distinct):
            latent, judged = encoded.pairs.normal[i].float(), encoded.judged[i]
            x0 = None
            if witnesses.from_one_call is not None:
                x0 = _called_once(encoded.pairs.normal, [i], models, settings=settings, seed=seed)[0]
            readings.append(witnesses.first_reading(latent, judged, settings, x0=x0, without=parts.of(i)).score)
            bar.update(task, advance=1)
    low, high = float(np.quantile(readings, recipe.low_quantile)), recipe.high_ratio * max(readings)
    return settings.changed(doubtful=DoubtfulRange(low=low, high=high))


def _moments(
    encoded: EncodedPairs,
    parts: GoodParts,
    memory: MemoryBank,
    *,
    side: Tensor,
    indices: Sequence[int],
    where: Tensor,
    models: Models,
    settings: MethodSettings,
    window: int,
    seed: int,
    one_call: bool,
    advance: Callable[..., None],
) -> tuple[SecondMoments, ...]:
    """Return the second moments of differences at the places `where` (N, h, w) of these pairs: from the memory, from
    the reconstruction, and if it is asked for from what a single call rebuilds.
    """
    space, weigh = encoded.space, alike(encoded.space, memory)
    sizes = (space.channels, *(space.modelled for _ in range(1 + one_call)))
    moments = [SecondMoments(torch.zeros(c, c).double(), 0) for c in sizes]
    for start in range(0, len(indices), AT_ONCE):
        chosen = indices[start : start + AT_ONCE]
        rebuilt = [_walked(side, encoded, chosen, models, settings=settings, seed=seed)]
        if one_call:
            rebuilt.append(_called_once(side, chosen, models, settings=settings, seed=seed))
        for i, *answers in zip(chosen, *rebuilt, strict=True):
            latent, judged = side[i].float(), encoded.judged[i]
            apart = memory.residuals(latent, judged, without=parts.of(i))
            differences = (apart, *(weigh.rebuilt(latent, x0, judged) for x0 in answers))
            for at, found in enumerate(differences):
                averaged = average_vectors(found, judged, window)
                moments[at] += SecondMoments.from_places(averaged[:, where[i]].T)
        advance(advance=len(chosen))
    return tuple(moments)


def _walked(
    side: Tensor,
    encoded: EncodedPairs,
    chosen: Sequence[int],
    models: Models,
    *,
    settings: MethodSettings,
    seed: int,
) -> Tensor:
    """Return x^_0 (B, C, h, w) of these pairs' latents, by the noise that inspections draw."""
    latents = side[list(chosen)].float()
    noise = _drawn(latents, chosen, settings, seed)
    return reconstruct_latents(latents, noise, models, settings, valid=encoded.judged[list(chosen)]).latents


@torch.inference_mode()
def _called_once(side: Tensor, chosen: Sequence[int], models: Models, *, settings: MethodSettings, seed: int) -> Tensor:
    """Return x_{t->0} (B, C, h, w) of a single call on these pairs' latents, by the same noise."""
    latents = side[list(chosen)].float()
    return single_call(models.denoiser, latents, _drawn(latents, chosen, settings, seed), settings)


def _drawn(latents: Tensor, chosen: Sequence[int], settings: MethodSettings, seed: int) -> Tensor:
    fixed = settings.noise is NoiseSource.FIXED
    digests = [fixed_digest(settings.noise_seed if fixed else seed + 7019 + i) for i in chosen]
    channels, rows, columns = latents.shape[1:]
    return torch.from_numpy(np.stack([digest_noise(digest, (channels, rows, columns)) for digest in digests]))


def alike(space: LatentSpace, memory: MemoryBank) -> Witnesses:
    """Return witnesses that weigh every difference alike, for what needs models before there are better ones."""
    return Witnesses(
        memory,
        ResidualComparator(torch.eye(space.channels), 1),
        ResidualComparator(torch.eye(space.modelled), 1),
    )

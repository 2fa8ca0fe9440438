"""A second yardstick, which the bench alone measures: a Gaussian of good patches per place (PaDiM's score).

It takes the features of the frozen yardstick's memory, learns from the training images, and calibrates on those that
are held out, as a training does. Where a product always lies in the same place it is the stronger one.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from glad.memory_bank import PatchGaussians, fit_patch_gaussians
from model_store.manifest import CalibrationKind
from training.progress import Progress
from training.yardstick.patch_memory import (
    Distances,
    LearntMemory,
    LearntYardstick,
    calibrated,
    good_scores,
    inspect_one,
    learn_patch_memory,
)


def learn_yardsticks(memory: LearntMemory, progress: Progress) -> tuple[LearntYardstick, LearntYardstick]:
    """Return the patch memory and the Gaussians, both calibrated; either takes the time of the memory's images too.

    Raises:
        ValueError: if the images are too few.
    """
    return learn_patch_memory(memory, progress), learn_gaussians(memory, progress)


def learn_gaussians(memory: LearntMemory, progress: Progress) -> LearntYardstick:
    """Return the Gaussians of the memory's training images, with thresholds from those held out."""
    began = time.perf_counter()
    good, embedder = memory.good, memory.embedder
    using = embedder.configuration
    train, held_out = good.images[: good.train], good.images[good.train :]
    progress("Gaussians", 0, 1)
    gaussians = fit_patch_gaussians(
        torch.stack([one.features for one in train]),
        torch.stack([one.judged for one in train]),
        dimensions=using.gaussian_channels,
        shrinkage=using.gaussian_shrinkage,
        seed=using.bank.seed,
    )
    distances = gaussian_distances(gaussians)
    results = [inspect_one(Path(), one, distances, using.bank.top) for one in held_out]
    progress("Gaussians", 1, 1)
    scores = good_scores(results, good.groups[good.train :], CalibrationKind.HELD_OUT)
    size = gaussians.mean.nbytes + gaussians.whitening.nbytes
    learnt = calibrated("Gaussian per place", embedder, distances, scores, size)
    return replace(learnt, seconds=memory.seconds + time.perf_counter() - began)


def gaussian_distances(gaussians: PatchGaussians) -> Distances:
    """Return the distances to the good patches of the same place."""
    return lambda image: gaussians.distances(image.features, image.judged)

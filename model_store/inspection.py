"""One image through one product's models, without a server: what `glad inspect`, calibration and evaluation share.

The worker does the same with many lanes at once; the functions of `glad` that decide are the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.compare import Comparator
from glad.imaging import Placement, fit, from_model, to_model
from glad.lane import Lane
from glad.models import Models
from glad.noise import image_noise
from glad.pictures import contact_sheet, heatmap, overlay
from glad.reconstruct import reconstruct
from glad.score import anomaly_map, image_scores
from glad.settings import MethodSettings
from model_store.thresholds import Thresholds

TITLES = ("input", "reconstruction", "heatmap", "overlay")


@dataclass(frozen=True)
class Prepared:
    """An image ready for the models.

    image: (3, S, S) in [-1, 1]; noise: (C, h, w); valid_pixels: bool (S, S); valid_patches: bool (h, w).
    """

    image: Tensor
    noise: Tensor
    valid_pixels: Tensor
    valid_patches: Tensor
    placement: Placement


@dataclass(frozen=True)
class Inspected:
    """What the method found.

    score: higher is worse; map: (S, S) float32, zero in the padding; input, reconstruction: (S, S, 3) uint8,
    letterboxed.
    """

    score: float
    map: NDArray[np.float32]
    input: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    lane: Lane
    placement: Placement


def prepare(pixels: NDArray[np.uint8], settings: MethodSettings, models: Models) -> Prepared:
    """Upright RGB (H, W, 3) -> letterboxed, with the noise that belongs to exactly these pixels."""
    side, factor = settings.resolution, models.autoencoder.factor
    fitted = fit(pixels, side)
    shape = (models.autoencoder.latent_channels, side // factor, side // factor)
    return Prepared(
        image=torch.from_numpy(to_model(fitted.pixels)),
        noise=torch.from_numpy(image_noise(pixels, settings.noise_seed, shape)),
        valid_pixels=torch.from_numpy(fitted.placement.valid_pixels()),
        valid_patches=torch.from_numpy(fitted.placement.valid_patches(factor)),
        placement=fitted.placement,
    )


def inspect(
    images: Sequence[NDArray[np.uint8]],
    models: Models,
    settings: MethodSettings,
    *,
    comparator: Comparator | None = None,
) -> list[Inspected]:
    """Inspect upright RGB images (H, W, 3) together; what is found in one does not depend on the others."""
    prepared = [prepare(pixels, settings, models) for pixels in images]
    batch = torch.stack([p.image for p in prepared])
    valid_pixels = torch.stack([p.valid_pixels for p in prepared])
    rebuilt = reconstruct(
        batch,
        torch.stack([p.noise for p in prepared]),
        models,
        settings,
        valid=torch.stack([p.valid_patches for p in prepared]),
        comparator=comparator,
    )
    maps = anomaly_map(batch, rebuilt.images, models.features, settings.score, valid_pixels)
    scores = image_scores(maps, settings.score, valid_pixels)
    return [
        Inspected(
            float(score),
            map_.cpu().numpy(),
            from_model(p.image.numpy()),
            from_model(image.cpu().numpy()),
            lane,
            p.placement,
        )
        for p, score, map_, image, lane in zip(prepared, scores, maps, rebuilt.images, rebuilt.lanes, strict=True)
    ]


def sheet(found: Inspected, limits: Thresholds) -> NDArray[np.uint8]:
    """Input, reconstruction, heatmap and overlay side by side, without the letterbox's padding: (H, W, 3)."""
    row = _row(found, limits)
    return contact_sheet([row], cell=2 * max(row[0].shape[:2]), titles=TITLES)


def overview(found: Sequence[Inspected], limits: Thresholds, *, abreast: int = 2) -> NDArray[np.uint8]:
    """Many images' sheets in one picture, so many abreast: (H, W, 3). ValueError for none."""
    rows = [_row(one, limits) for one in found]
    lines = [list(chain(*rows[start : start + abreast])) for start in range(0, len(rows), abreast)]
    cell = max(max(picture.shape[:2]) for row in rows for picture in row)
    return contact_sheet(lines, cell=cell, titles=TITLES * min(abreast, len(rows)))


def _row(found: Inspected, limits: Thresholds) -> list[NDArray[np.uint8]]:
    place, top = found.placement, limits.heatmap_top
    seen, rebuilt, heat = place.restore(found.input), place.restore(found.reconstruction), place.restore(found.map)
    return [seen, rebuilt, heatmap(heat, top), overlay(seen, heat, top, threshold=limits.pixel)]

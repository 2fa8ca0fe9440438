"""The worst misses: defects with the lowest scores and good images with the highest, with what the method saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from glad.images.rendering import contact_sheet, heatmap, overlay, reduced
from model_store.bundle import open_bundle
from model_store.inspection import TITLES
from model_store.manifest import VerdictThresholds
from training.data.dataset import read_truth, test_images
from training.evaluation.rows import EvaluationRow
from training.metrics.pixel_metrics import TOUCHING
from training.parallel_inspection import InspectionPictures, inspect_with_pictures
from training.progress import Count

CELL = 288
DASH = 5


@dataclass(frozen=True)
class Miss:
    """A miss with its strip: input, reconstruction, heatmap, overlay, side by side (H, W, 3) uint8."""

    row: EvaluationRow
    strip: NDArray[np.uint8]


def worst(rows: Sequence[EvaluationRow], count: int) -> tuple[EvaluationRow, ...]:
    """Return at most `count` rows: the lowest defects, then the highest good ones.

    They are half and half where there are enough of both.
    """
    defects = sorted((row for row in rows if not row.is_good), key=lambda row: row.score)
    good = sorted((row for row in rows if row.is_good), key=lambda row: -row.score)
    shown = min(len(defects), max(count - count // 2, count - len(good)))
    return (*defects[:shown], *good[: count - shown])


def inspect_worst(
    bundle_folder: Path,
    data: Path,
    rows: Sequence[EvaluationRow],
    count: int,
    *,
    progress: Count | None = None,
    workers: int | None = None,
) -> tuple[Miss, ...]:
    """Inspect the worst images once more, which gives the same result again, and draw them."""
    manifest = open_bundle(bundle_folder).manifest
    masks = {image.path: image.mask for image in test_images(data)}
    chosen = worst(rows, count)
    paths = [data / row.file for row in chosen]
    pictures = list(inspect_with_pictures(bundle_folder, manifest.settings, paths, progress=progress, workers=workers))
    scale = scale_of(manifest.calibration, pictures)
    return tuple(
        Miss(row, strip(one, scale, read_truth(masks[one.path], one.placement)))
        for row, one in zip(chosen, pictures, strict=True)
    )


def scale_of(limits: VerdictThresholds | None, pictures: Sequence[InspectionPictures]) -> VerdictThresholds:
    """Return the thresholds to draw by: the bundle's; without any, the colours reach up to the largest value shown."""
    if limits is not None:
        return limits
    half = max(float(np.max([one.map.max() for one in pictures], initial=0)) / 2, float(np.finfo(np.float32).tiny))
    return VerdictThresholds(review=half, fail=half, pixel=half)


def strip(
    seen: InspectionPictures, limits: VerdictThresholds, truth: NDArray[np.bool_], *, cell: int | None = None
) -> NDArray[np.uint8]:
    """Return the four pictures without the letterbox's padding; on the overlay the truth's outline, dashed.

    Args:
        seen: of the image.
        limits: by which heatmap and overlay are drawn.
        truth: (H, W), the true defect; of another size than the pictures it is resized.
        cell: the longer side of each picture; None: as large as it is, or `CELL` if that is more.
    """
    place, top = seen.placement, limits.heatmap_top
    pictures = seen.input, seen.reconstruction, reduced(seen.map)
    shown, rebuilt, heat = (np.ascontiguousarray(place.restore(picture)) for picture in pictures)
    drawn = outlined(overlay(shown, heat, top, threshold=limits.pixel), _at(truth, shown.shape[:2]))
    row = [shown, rebuilt, heatmap(heat, top), drawn]
    return contact_sheet([row], cell=cell or max(CELL, *shown.shape[:2]), titles=TITLES)


def _at(truth: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a truth (H, W) at a picture's size (h, w): true where any part of a pixel is."""
    if truth.shape == size:
        return truth
    share = Image.fromarray(truth.astype(np.float32)).resize(size[::-1], Image.Resampling.BOX)
    return np.asarray(np.asarray(share) > 0)


def outlined(pixels: NDArray[np.uint8], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the pixels with black and white dashes just outside the true regions.

    Their pattern, not a colour, tells them from the cyan line around what was found.
    """
    line = ndimage.binary_dilation(truth, TOUCHING) & ~truth
    y, x = np.nonzero(line)
    drawn = pixels.copy()
    drawn[y, x] = np.where(((x + y) // DASH % 2 == 0)[:, None], np.uint8(255), np.uint8(0))
    return drawn

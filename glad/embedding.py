"""The embedding of an image: the levels of a backbone, averaged locally, scaled, and brought to one grid.

embedding = embed(backbone, images, valid, settings, scales)
distances = bank.nearest(embedding.features[0], embedding.judged[0])      # glad.memory_bank
anomaly_map = full_resolution(distances, embedding.judged[0], valid[0])

The average runs at a level's own stride, before it is enlarged: afterwards it would average copies of the same places.

A letterboxed image ends inside some places of the grid. Such a place is not judged: it shows some padding, and would be
an anomaly where only few good images end there. It hides nothing either: the windows of the judged places beside it see
what it shows, and at full resolution the image's rim takes the value of the nearest judged place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glad import patch_matching
from glad.protocols import Backbone
from glad.settings.embedding import AverageOver, EmbeddingSettings


@dataclass(frozen=True, eq=False)
class Embedding:
    """The embedding of images, and where it says something about them."""

    features: Tensor
    """(B, C, h, w) float32; the levels' channels, the lowest level first."""
    judged: Tensor
    """(B, h, w) bool: the places that show the image alone."""


def embed(
    backbone: Backbone, images: Tensor, valid: Tensor, settings: EmbeddingSettings, scales: Sequence[float]
) -> Embedding:
    """Return the embedding of images.

    Args:
        images: (B, 3, S, S), prepared by `glad.images.preparation`.
        valid: (B, S, S) bool, true on the image, false on its padding.
        scales: of each level, see `level_scales`; all 1: as the backbone gives them.

    Raises:
        ValueError: if settings, images and scales do not fit each other.
    """
    return combine_levels(backbone(images, settings.levels), valid, settings, scales)


def combine_levels(
    levels: Sequence[Tensor], valid: Tensor, settings: EmbeddingSettings, scales: Sequence[float]
) -> Embedding:
    """Return one embedding from the levels (B, D, h, w) of a backbone; as `embed` otherwise."""
    if not len(levels) == len(scales) == len(settings.levels):
        raise ValueError(
            f"{len(levels)} levels and {len(scales)} scales for the levels {settings.levels}: give one of each"
        )
    if wrong := [scale for scale in scales if not 0 < scale < float("inf")]:
        raise ValueError(f"scales are {tuple(scales)}; {wrong[0]} is no standard deviation: give numbers above 0")
    side = grid_side(valid, settings.stride)
    parts = [
        _to_grid(_averaged(level.float(), valid, window, settings.average_over), side) / scale
        for level, window, scale in zip(levels, settings.averages, scales, strict=True)
    ]
    return Embedding(torch.cat(parts, dim=1), judged_places(valid, settings.stride))


def grid_side(valid: Tensor, stride: int) -> int:
    """Return the places on a side of the grid.

    Raises:
        ValueError: if the images are not square, or the stride does not divide them.
    """
    rows, columns = valid.shape[-2:]
    if rows != columns or rows % stride:
        raise ValueError(
            f"images are {columns}×{rows}, the grid's stride is {stride}: give square images of a multiple of {stride}"
        )
    return int(rows // stride)


def judged_places(valid: Tensor, stride: int) -> Tensor:
    """Return the places (B, h, w) all of whose pixels show the image.

    Of an image too narrow to fill any place, those that show some of it: something must be judged.

    Args:
        valid: (B, S, S) bool.
    """
    share = F.avg_pool2d(valid[:, None].float(), stride)[:, 0]
    whole = share == 1
    nowhere = ~whole.flatten(1).any(dim=1)
    return torch.where(nowhere[:, None, None], share > 0, whole)


def level_scales(embeddings: Iterable[Embedding], channels: Sequence[int]) -> tuple[float, ...]:
    """Return the standard deviation of each level over the judged places of good images, all its channels together.

    Args:
        embeddings: made with scales of 1.
        channels: of each level, in order.

    Raises:
        ValueError: without places, or for a level that is the same everywhere.
    """
    count, total, squares = 0, torch.zeros(len(channels)).double(), torch.zeros(len(channels)).double()
    for embedding in embeddings:
        places = embedding.features.permute(0, 2, 3, 1)[embedding.judged].double().cpu()
        count += len(places)
        parts = torch.split(places, list(channels), dim=1)
        total += torch.stack([part.sum() for part in parts])
        squares += torch.stack([part.square().sum() for part in parts])
    if not count:
        raise ValueError("no places to find the levels' scales from: give at least one good image")
    numbers = count * torch.tensor(channels).double()
    variances = squares / numbers - (total / numbers).square()
    if (variances <= 0).any():
        raise ValueError("a level of the backbone is the same number everywhere: its weights or these images are wrong")
    return tuple(float(scale) for scale in variances.sqrt())


def full_resolution(values: Tensor, judged: Tensor, valid: Tensor) -> Tensor:
    """Return a grid's values (h, w) as a map (S, S): interpolated bilinearly, 0 on the padding.

    First the places that are not judged take the value of the nearest judged one, so that whatever they hold never
    reaches the image, and its rim is not dimmed by zeros beside it.

    Args:
        values: (h, w).
        judged: (h, w) bool.
        valid: (S, S) bool.

    Raises:
        ValueError: if no place is judged.
    """
    extended = values.flatten()[_nearest_judged(judged)].view(values.shape)
    enlarged = F.interpolate(extended[None, None], size=valid.shape, mode="bilinear", align_corners=False)[0, 0]
    return enlarged * valid


def top_mean(values: Tensor, judged: Tensor, share: float) -> float:
    """Return the mean of the largest judged values (h, w): of this share of the judged places, at least of one."""
    found = values[judged]
    return float(patch_matching.top_mean(found, max(1, round(share * len(found)))))


def _averaged(level: Tensor, valid: Tensor, window: int, over: AverageOver) -> Tensor:
    """Return a level (B, D, h, w), each place the mean of its window; beyond the square lie zeros."""
    if window == 1:
        return level
    summed = F.avg_pool2d(level, window, 1, window // 2, count_include_pad=True)
    if over is AverageOver.ALL:
        return summed
    return average_counted(level, F.adaptive_max_pool2d(valid[:, None].float(), level.shape[-2:]), window)


def average_counted(values: Tensor, counted: Tensor, window: int) -> Tensor:
    """Return values (B, C, h, w), each the mean over the places of its window that count; 0 where none does.

    Args:
        values: (B, C, h, w).
        counted: (B, 1, h, w) float, 1 on the places that count, 0 elsewhere.
        window: odd, in places.
    """
    summed, weight = (
        F.avg_pool2d(part, window, 1, window // 2, count_include_pad=True) for part in (values * counted, counted)
    )
    return summed / weight.clamp_min(1 / window**2)


def _to_grid(level: Tensor, side: int) -> Tensor:
    """Return a level (B, D, h, w) as (B, D, side, side): a coarser one interpolated, a finer one averaged."""
    places = level.shape[-1]
    if places == side:
        return level
    if places < side:
        return F.interpolate(level, size=(side, side), mode="bilinear", align_corners=False)
    if places % side:
        raise ValueError(
            f"a level has {places} places on a side, the grid {side}: give a stride that is a multiple of the level's"
        )
    return F.avg_pool2d(level, places // side)


def _nearest_judged(judged: Tensor) -> Tensor:
    """Return for each place (h · w,) the index of the nearest judged one: itself, if it is; the first of equally near.

    Found on the CPU, so that a tie falls the same way on every device.
    """
    if not bool(judged.any()):
        raise ValueError("no place is judged: nothing of the image is left to extend to its rim")
    here = judged.cpu()
    inside, outside = here.nonzero(), (~here).nonzero()
    nearest = torch.arange(here.numel())
    if len(outside):
        apart = (outside[:, None] - inside[None]).square().sum(dim=2)
        rows, columns = inside[apart.argmin(dim=1)].unbind(1)
        nearest[~here.flatten()] = rows * here.shape[1] + columns
    return nearest.to(judged.device)

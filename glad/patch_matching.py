"""Patch matching by cosine (Eq. 11), and the resizing and averaging that trigger and score share.

Images are matched one at a time, because a batched product may pick another kernel for another batch, and batch mates
must never change a score.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glad.settings.method import Direction

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ROWS_AT_ONCE = 1024
"""Patches matched against all others at once; 64² patches then need 16 MB instead of 64."""
NO_MATCH = -2.0
"""Below every cosine."""


def imagenet_normalised(images: Tensor) -> Tensor:
    """Return images (B, 3, H, W) in about [-1, 1] with the mean and deviation of ImageNet's taken out."""
    mean = images.new_tensor(IMAGENET_MEAN)[:, None, None]
    std = images.new_tensor(IMAGENET_STD)[:, None, None]
    return (images * 0.5 + 0.5 - mean) / std


def match_map(
    inputs: Tensor, references: Tensor, direction: Direction, window: int | None = None, valid: Tensor | None = None
) -> Tensor:
    """Return one layer's anomaly map of one image (Eq. 11).

    M_l(i, j) = min over the references' patches (k, m) of 1 - cos(inputs[i, j], references[k, m])

    Args:
        inputs: patch features (h, w, D) of the input.
        references: patch features (h, w, D) of the reconstruction.
        direction: whose patches look for a match.
        window: matches lie within this many patches on either axis; None: anywhere.
        valid: (h, w) bool, the patches that show the image and not its padding; None: all of them.

    Returns:
        (h, w) float32 in [0, 2], with `Direction.SUM` in [0, 4]. Padding matches nothing, and is 0 in the map.
    """
    # float32: lower precisions reorder near-ties of the cosine.
    sources = F.normalize(inputs.float(), dim=-1)
    targets = F.normalize(references.float(), dim=-1)
    widest = max(sources.shape[:2]) - 1
    if window is None or window >= widest:
        forward, backward = _best_anywhere(sources, targets, valid)
    else:
        forward, backward = _best_within(sources, targets, window, valid)
    # Rounding may take the cosine of equal patches a little above 1.
    layer_map = _combine((1 - forward).clamp_min(0), (1 - backward).clamp_min(0), direction)
    return layer_map if valid is None else torch.where(valid, layer_map, 0.0)


def _combine(forward: Tensor, backward: Tensor, direction: Direction) -> Tensor:
    match direction:
        case Direction.INPUT:
            return forward
        case Direction.SUM:
            return forward + backward
        case Direction.MEAN:
            return (forward + backward) / 2


def _best_anywhere(sources: Tensor, targets: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the best cosine of every source patch, and of every target patch: (h, w) each."""
    grid = sources.shape[:2]
    rows, columns = sources.flatten(0, 1), targets.flatten(0, 1)
    hidden = None if valid is None else ~valid.flatten()
    forward = []
    backward = columns.new_full((len(columns),), NO_MATCH)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        cosines = rows[start : start + ROWS_AT_ONCE] @ columns.T
        if hidden is not None:
            cosines = cosines.masked_fill(hidden[None, :], NO_MATCH)
            cosines = cosines.masked_fill(hidden[start : start + ROWS_AT_ONCE, None], NO_MATCH)
        forward.append(cosines.amax(1))
        backward = torch.maximum(backward, cosines.amax(0))
    return torch.cat(forward).view(grid), backward.view(grid)


def _best_within(sources: Tensor, targets: Tensor, window: int, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the same as `_best_anywhere`, with matches at most `window` patches away on either axis.

    One batched product per vertical offset: row r of the sources against row r + offset of the targets, and of that the
    band around the diagonal. That is (2k + 1) h w² D multiplications in place of h² w² D.
    """
    height, width = sources.shape[:2]
    columns = torch.arange(width, device=sources.device)
    outside = (columns[:, None] - columns[None, :]).abs() > window
    forward, backward = (sources.new_full((height, width), NO_MATCH) for _ in range(2))
    reach = min(window, height - 1)
    for offset in range(-reach, reach + 1):
        here = slice(max(0, -offset), height - max(0, offset))
        there = slice(max(0, offset), height - max(0, -offset))
        cosines = (sources[here] @ targets[there].mT).masked_fill(outside, NO_MATCH)
        if valid is not None:
            cosines = cosines.masked_fill(~(valid[here][:, :, None] & valid[there][:, None, :]), NO_MATCH)
        forward[here] = torch.maximum(forward[here], cosines.amax(2))
        backward[there] = torch.maximum(backward[there], cosines.amax(1))
    return forward, backward


def resize_map(values: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
    """Return values (h, w) as (H, W), resized bilinearly with aligned corners (authors' code).

    Patches that are not valid contribute nothing.
    """
    if values.shape == size:
        return values
    if valid is None:
        return _bilinear(values, size)
    weights = _bilinear(valid.float(), size)
    summed = _bilinear(torch.where(valid, values, 0.0), size)
    return torch.where(weights > 0, summed / weights.clamp_min(torch.finfo(weights.dtype).tiny), 0.0)


def _bilinear(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[None, None], size, mode="bilinear", align_corners=True)[0, 0]


def resize_valid(valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Return valid (h, w) bool as (H, W) bool: true where any part of an element is, so that no edge goes unseen."""
    return valid if valid.shape == size else F.adaptive_max_pool2d(valid.float()[None], size)[0] > 0


def top_mean(values: Tensor, count: int) -> Tensor:
    """Return the mean of the `count` largest of values (n,), a scalar tensor.

    A NaN anywhere gives NaN, so that it never passes as good.
    """
    return values.topk(count).values.mean()

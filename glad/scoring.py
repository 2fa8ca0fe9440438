"""The anomaly map and the image's score (Sec. 3.6): evidence of each model image, judged once per image.

Everything in pixels (smoothing, the score's largest pixels) is at the scoring resolution; the map that leaves has the
model's scale. Every quantity is per image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glad.batching import in_buckets
from glad.foreground import foreground_mask, grey_of
from glad.patch_matching import feature_input, match_map, resize_map, resize_valid, top_mean
from glad.protocols import Features
from glad.settings.method import Foreground, Resize, ScoreSettings
from glad.smoothing import smooth_inspected


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an image or one of its tiles shows at the scoring resolution, before anything is smoothed: (H, W) each."""

    found: Tensor
    """The layers' maps, summed (Eq. 12)."""
    distance: Tensor | None
    """D: the mean absolute difference of the normalised images; None where the pixel term is off."""
    grey: Tensor | None
    """The input's, 0 ... 255; None where the foreground is the whole image."""

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All that is there, in this order."""
        return tuple(part for part in (self.found, self.distance, self.grey) if part is not None)

    def each(self, change: Callable[[Tensor], Tensor]) -> Evidence:
        """The same change to all that is there."""
        distance = None if self.distance is None else change(self.distance)
        return Evidence(change(self.found), distance, None if self.grey is None else change(self.grey))


@dataclass(frozen=True, eq=False)
class ImageScore:
    """What the method says of one image."""

    map: Tensor
    """(rows, columns) float32 at the model's scale, 0 where nothing counts."""
    score: Tensor
    """A scalar."""


@torch.no_grad()
def gather_evidence(
    inputs: Tensor,
    reconstructions: Tensor,
    features: Features,
    settings: ScoreSettings,
    inspected_mask: Tensor | None = None,
    *,
    buckets: Sequence[int] = (1,),
) -> list[Evidence]:
    """Where each model image differs from its reconstruction (Eqs. 11 and 12, and the pixel distance).

    inputs, reconstructions: (B, 3, S, S) in about [-1, 1]; inspected_mask: (B, S, S) bool, what is neither padding nor
    ignored -> per image (r, r), r the scoring resolution. What does not count is 0 and nobody's match. NaN stays NaN.
    """
    seen, rebuilt = (at_side(images, settings.resolution, settings.resize) for images in (inputs, reconstructions))
    size = (seen.shape[2], seen.shape[3])
    fed = [feature_input(images, settings.imagenet_normalise) for images in (seen, rebuilt)]
    layers = in_buckets(lambda images: tuple(features(images, settings.layers)), (torch.cat(fed),), buckets)
    greys = grey_of(seen) if settings.foreground is not Foreground.WHOLE else None
    count = len(inputs)
    gathered = []
    for i in range(count):
        shown = (
            None if inspected_mask is None or bool(inspected_mask[i].all()) else resize_valid(inspected_mask[i], size)
        )
        pairs = [(layer[i], layer[count + i]) for layer in layers]
        distance = (fed[0][i] - fed[1][i]).abs().mean(0) if settings.pixel_weight > 0 else None
        found = patch_map(pairs, size, settings, shown)
        gathered.append(Evidence(found, distance, None if greys is None else greys[i]))
    return gathered


@torch.no_grad()
def score_image(
    evidence: Evidence, valid: Tensor, inspected_mask: Tensor, settings: ScoreSettings, side: int
) -> ImageScore:
    """One image's map and score from the evidence of all of it.

    evidence: (h, w) at the scoring resolution; valid: (rows, columns) bool, the filled rectangle that is not padding;
    inspected_mask: (rows, columns) bool, what of it counts; both at the model's scale; side: of one model image there.
    """
    size = (evidence.found.shape[0], evidence.found.shape[1])
    shown, counts = resize_valid(valid, size), resize_valid(inspected_mask, size)
    scoring_side = settings.resolution or side
    rectangle = valid_rectangle(shown)
    inside = evidence.each(lambda part: part[rectangle])
    found = torch.zeros_like(evidence.found)
    found[rectangle] = _finished(inside, counts[rectangle], settings, scoring_side)
    score = image_scores(found[None], settings, counts[None], side=scoring_side)[0]
    return ImageScore(_at_model_scale(found, counts, inspected_mask, settings.resize), score)


def anomaly_map(
    inputs: Tensor,
    reconstructions: Tensor,
    features: Features,
    settings: ScoreSettings,
    valid_pixels: Tensor | None = None,
) -> Tensor:
    """The maps of images that are one model image each.

    inputs, reconstructions: (B, 3, S, S) in about [-1, 1]; valid_pixels: (B, S, S) bool, the rectangle that is not
    padding -> (B, S, S) float32, 0 on padding. A NaN from a model stays NaN, in the map and in the score.
    """
    gathered = gather_evidence(inputs, reconstructions, features, settings, valid_pixels)
    side = max(inputs.shape[2:])
    shown = torch.ones_like(inputs[:, 0], dtype=torch.bool) if valid_pixels is None else valid_pixels
    return torch.stack(
        [score_image(one, own, own, settings, side).map for one, own in zip(gathered, shown, strict=True)]
    )


def at_side(images: Tensor, side: int | None, resize: Resize = Resize.PIXEL_AREAS) -> Tensor:
    """images: (B, 3, S, S) -> (B, 3, side, side), bilinear; None: as they are."""
    if side is None or images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=resize is Resize.ALIGNED_CORNERS)


def patch_map(
    pairs: Sequence[tuple[Tensor, Tensor]], size: tuple[int, int], settings: ScoreSettings, valid: Tensor | None = None
) -> Tensor:
    """Eq. 12: the layers' maps of one image, upsampled and summed.

    pairs: per layer the features (h, w, D) of the input and of its reconstruction; valid: (H, W) bool -> (H, W)
    float32.
    """
    total = torch.zeros(size, device=pairs[0][0].device)
    for ours, theirs in pairs:
        grid = None if valid is None else resize_valid(valid, (ours.shape[0], ours.shape[1]))
        total = total + resize_map(match_map(ours, theirs, settings.direction, settings.window, grid), size, grid)
    return total


def _finished(evidence: Evidence, inspected_mask: Tensor, settings: ScoreSettings, side: int) -> Tensor:
    """Add the pixel term, smooth, and mask, on the image's own rectangle (h, w) only."""
    found = torch.where(inspected_mask, evidence.found, 0.0)
    if evidence.distance is not None:
        found = add_pixel_term(found, torch.where(inspected_mask, evidence.distance, 0.0), settings.pixel_weight)
    smoothed = smooth_inspected(found, inspected_mask, settings.smoothing, settings.taps, side)
    if evidence.grey is None:
        return smoothed
    return smoothed * foreground_mask(evidence.grey, inspected_mask, settings, side)


def _at_model_scale(found: Tensor, counts: Tensor, inspected_mask: Tensor, resize: Resize) -> Tensor:
    """(h, w) where it was scored -> (rows, columns), the way back of `at_side` over what counts; 0 elsewhere."""
    size = (inspected_mask.shape[0], inspected_mask.shape[1])
    if found.shape == size:
        return found
    aligned = resize is Resize.ALIGNED_CORNERS
    values, weights = (
        F.interpolate(part[None, None], size, mode="bilinear", align_corners=aligned)[0, 0]
        for part in (found, counts.float())
    )
    return torch.where(inspected_mask & (weights > 0), values / weights, 0.0)


def valid_rectangle(valid: Tensor) -> tuple[slice, slice]:
    """valid: (H, W) bool -> its rows and columns. ValueError unless it is a filled rectangle, as a letterbox leaves
    it."""
    rows, columns = (torch.nonzero(valid.any(axis)).flatten().tolist() for axis in (1, 0))
    if not rows or int(valid.sum()) != (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1):
        raise ValueError(f"the {int(valid.sum())} valid pixels form no filled rectangle: give Placement.valid_pixels()")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def add_pixel_term(found: Tensor, distance: Tensor, weight: float) -> Tensor:
    """M + v * max(M) / max(D) * D: (H, W) twice -> (H, W). Both maxima are this image's own, never the batch's."""
    largest = distance.amax()
    scale = torch.where(largest == 0, 0.0, weight * found.amax() / largest)  # two equal images have no pixel distance
    return found + scale * distance


@torch.no_grad()
def image_scores(
    maps: Tensor, settings: ScoreSettings, inspected_mask: Tensor | None = None, *, side: int | None = None
) -> Tensor:
    """maps: (B, H, W); inspected_mask: (B, H, W) bool -> (B,): the mean of each map's largest values.

    How many is `settings.top`, absolute or as a fraction of the pixels that count; of those of one tile (side²) at
    most, so that a scratch on an image of many tiles weighs as much as on one of a single tile.
    """
    scores = []
    for i, found in enumerate(maps):
        values = found.flatten() if inspected_mask is None else found[inspected_mask[i]]
        area = values.numel() if side is None else min(values.numel(), side * side)
        scores.append(top_mean(values, settings.top.elements(area)))
    return torch.stack(scores)

"""The anomaly map and the image's score (Sec. 3.6): evidence of each model image, scored once per image.

Lengths and areas in pixels (smoothing, the score's largest pixels) are at the scoring resolution; the map that is
returned has the model's scale. Every quantity is per image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from glad.batching import in_buckets
from glad.first_reading import FirstReading
from glad.foreground import foreground_mask, grey_of
from glad.patch_matching import imagenet_normalised, match_map, resize_map, resize_valid, top_mean
from glad.protocols import Features
from glad.settings.method import Foreground, Resize, ScoreSettings
from glad.smoothing import smooth_inspected


@dataclass(frozen=True, eq=False)
class Evidence:
    """The differences of an image or a tile from its reconstruction, before smoothing: (H, W) at scoring resolution."""

    layers_map: Tensor
    """M: the layers' maps, summed (Eq. 12)."""
    distance: Tensor | None
    """D: the mean absolute difference of the normalised images; None where the pixel term is off."""
    grey: Tensor | None
    """The input's, 0 ... 255; None where the foreground is the whole image."""

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Return the tensors that are there, in this order."""
        return tuple(part for part in (self.layers_map, self.distance, self.grey) if part is not None)

    def each(self, change: Callable[[Tensor], Tensor]) -> Evidence:
        """Return evidence with the same change made to every tensor that is there."""
        distance = None if self.distance is None else change(self.distance)
        return Evidence(change(self.layers_map), distance, None if self.grey is None else change(self.grey))


@dataclass(frozen=True, eq=False)
class LaneResult:
    """What the lane of an image or a tile ended with: all that a scorer may look at."""

    image: Tensor
    """The input: (3, S, S) in about [-1, 1]."""
    latent: Tensor
    """z, the input's: (C, h, w), scaled."""
    x0: Tensor
    """x^_0, the reconstruction's: (C, h, w), scaled."""
    picture: Tensor | None
    """x^_0 decoded: (3, S, S), about [-1, 1]; None for a scorer that needs no picture."""
    inspected_mask: Tensor | None = None
    """(S, S) bool, true on what is neither padding nor ignored; None: everywhere."""
    valid: Tensor | None = None
    """The same on the latent's grid: (h, w) bool; None: everywhere."""
    reading: FirstReading | None = None
    """The first one; None: it was not read."""
    walked: bool = True
    """False: clear at its first reading; `x0` is the counterpart of that, and no reconstruction."""


class Scorer(Protocol):
    """Compares images with their reconstructions. The result of one image never depends on the others."""

    @property
    def needs_picture(self) -> bool:
        """Return whether it looks at the decoded reconstruction; if not, `LaneResult.picture` is None."""
        ...

    def __call__(
        self, results: Sequence[LaneResult], settings: ScoreSettings, buckets: Sequence[int]
    ) -> Sequence[Evidence]:
        """Return one evidence per result; models are called with batches of the sizes in `buckets` only."""
        ...


@dataclass(frozen=True, eq=False)
class ImageScore:
    """The method's result for one image."""

    map: Tensor
    """(rows, columns) float32 at the model's scale, 0 where nothing is inspected."""
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
    """Return where each model image differs from its reconstruction (Eqs. 11 and 12, and the pixel distance).

    Args:
        inputs: (B, 3, S, S) in about [-1, 1].
        reconstructions: (B, 3, S, S) in about [-1, 1].
        features: the extractor.
        settings: of the score.
        inspected_mask: (B, S, S) bool, true on what is neither padding nor ignored; None: everywhere. What is outside
            of it is 0 in the map and matches nothing.
        buckets: the batch sizes in which `features` is called.

    Returns:
        Per image (r, r), r the scoring resolution. A NaN of a model stays NaN.
    """
    scored, rebuilt = (at_side(images, settings.resolution, settings.resize) for images in (inputs, reconstructions))
    size = (scored.shape[2], scored.shape[3])
    normalise = settings.imagenet_normalise
    fed = [imagenet_normalised(images) if normalise else images for images in (scored, rebuilt)]
    layers = in_buckets(lambda images: tuple(features(images, settings.layers)), (torch.cat(fed),), buckets)
    greys = grey_of(scored) if settings.foreground is not Foreground.WHOLE else None
    count = len(inputs)
    gathered = []
    for i in range(count):
        everywhere = inspected_mask is None or bool(inspected_mask[i].all())
        mask = None if inspected_mask is None or everywhere else resize_valid(inspected_mask[i], size)
        pairs = [(layer[i], layer[count + i]) for layer in layers]
        distance = (fed[0][i] - fed[1][i]).abs().mean(0) if settings.pixel_weight > 0 else None
        gathered.append(Evidence(patch_map(pairs, size, settings, mask), distance, None if greys is None else greys[i]))
    return gathered


@dataclass(frozen=True)
class ImageScorer:
    """The paper's score: match the features of the image and of its decoded reconstruction (Sec. 3.6)."""

    features: Features

    @property
    def needs_picture(self) -> bool:
        """Return True: pictures are what it compares."""
        return True

    def __call__(
        self, results: Sequence[LaneResult], settings: ScoreSettings, buckets: Sequence[int]
    ) -> list[Evidence]:
        """Return one evidence per result: two feature passes each, of the score's layers only.

        Raises:
            ValueError: if a result has no picture.
        """
        pictures = [result.picture for result in results if result.picture is not None]
        if len(pictures) < len(results):
            raise ValueError(
                f"{len(results) - len(pictures)} of {len(results)} results have no picture, and this score compares "
                "pictures: decode the reconstructions first"
            )
        everywhere = torch.ones_like(results[0].image[0], dtype=torch.bool)
        masks = [everywhere if result.inspected_mask is None else result.inspected_mask for result in results]
        return gather_evidence(
            torch.stack([result.image for result in results]),
            torch.stack(pictures),
            self.features,
            settings,
            torch.stack(masks),
            buckets=buckets,
        )


@torch.no_grad()
def score_image(
    evidence: Evidence, valid: Tensor, inspected_mask: Tensor, settings: ScoreSettings, side: int
) -> ImageScore:
    """Return one image's map and score from the evidence of all of it.

    Args:
        evidence: (h, w), at the scoring resolution.
        valid: (rows, columns) bool at the model's scale, the filled rectangle that is not padding.
        inspected_mask: (rows, columns) bool at the model's scale, what of the rectangle is inspected.
        settings: of the score.
        side: of one model image, in pixels.
    """
    size = (evidence.layers_map.shape[0], evidence.layers_map.shape[1])
    scored_mask = resize_valid(inspected_mask, size)
    scoring_side = settings.resolution or side
    rectangle = valid_rectangle(resize_valid(valid, size))
    content = evidence.each(lambda part: part[rectangle])
    scored_map = torch.zeros_like(evidence.layers_map)
    scored_map[rectangle] = _finished(content, scored_mask[rectangle], settings, scoring_side)
    score = image_scores(scored_map[None], settings, scored_mask[None], side=scoring_side)[0]
    return ImageScore(_at_model_scale(scored_map, scored_mask, inspected_mask, settings.resize), score)


def anomaly_map(
    inputs: Tensor,
    reconstructions: Tensor,
    features: Features,
    settings: ScoreSettings,
    valid_pixels: Tensor | None = None,
) -> Tensor:
    """Return the maps (B, S, S) float32 of images that are one model image each, 0 on padding.

    Args:
        inputs: (B, 3, S, S) in about [-1, 1].
        reconstructions: (B, 3, S, S) in about [-1, 1].
        features: the extractor.
        settings: of the score.
        valid_pixels: (B, S, S) bool, the rectangle that is not padding. A NaN of a model stays NaN.
    """
    gathered = gather_evidence(inputs, reconstructions, features, settings, valid_pixels)
    side = max(inputs.shape[2:])
    valid = torch.ones_like(inputs[:, 0], dtype=torch.bool) if valid_pixels is None else valid_pixels
    return torch.stack(
        [score_image(one, mask, mask, settings, side).map for one, mask in zip(gathered, valid, strict=True)]
    )


def at_side(images: Tensor, side: int | None, resize: Resize = Resize.PIXEL_AREAS) -> Tensor:
    """Return images (B, 3, S, S) as (B, 3, side, side), resized bilinearly; None: as they are."""
    if side is None or images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=resize is Resize.ALIGNED_CORNERS)


def patch_map(
    pairs: Sequence[tuple[Tensor, Tensor]], size: tuple[int, int], settings: ScoreSettings, valid: Tensor | None = None
) -> Tensor:
    """Return M = sum over the layers l of M_l, upsampled to `size` (Eq. 12): (H, W) float32, of one image.

    Args:
        pairs: per layer the features (h, w, D) of the input and of its reconstruction.
        size: H, W.
        settings: of the score.
        valid: (H, W) bool; None: everywhere.
    """
    total = torch.zeros(size, device=pairs[0][0].device)
    for inputs, references in pairs:
        grid = None if valid is None else resize_valid(valid, (inputs.shape[0], inputs.shape[1]))
        layer_map = match_map(inputs, references, settings.direction, settings.window, grid)  # M_l, Eq. 11
        total = total + resize_map(layer_map, size, grid)
    return total


def _finished(evidence: Evidence, inspected_mask: Tensor, settings: ScoreSettings, side: int) -> Tensor:
    """Return the map with the pixel term, smoothed and masked, on the image's own rectangle (h, w) only."""
    summed = torch.where(inspected_mask, evidence.layers_map, 0.0)
    if evidence.distance is not None:
        summed = add_pixel_term(summed, torch.where(inspected_mask, evidence.distance, 0.0), settings.pixel_weight)
    smoothed = smooth_inspected(summed, inspected_mask, settings.smoothing, settings.taps, side)
    if evidence.grey is None:
        return smoothed
    return smoothed * foreground_mask(evidence.grey, inspected_mask, settings, side)


def _at_model_scale(scored_map: Tensor, scored_mask: Tensor, inspected_mask: Tensor, resize: Resize) -> Tensor:
    """Return the map (h, w) at the model's scale (rows, columns): the way back of `at_side` inside the mask, 0 outside.

    Values and mask are resized alike and divided, so that the zeros outside the mask do not darken its edge.
    """
    size = (inspected_mask.shape[0], inspected_mask.shape[1])
    if scored_map.shape == size:
        return scored_map
    aligned = resize is Resize.ALIGNED_CORNERS
    values, weights = (
        F.interpolate(part[None, None], size, mode="bilinear", align_corners=aligned)[0, 0]
        for part in (scored_map, scored_mask.float())
    )
    return torch.where(inspected_mask & (weights > 0), values / weights, 0.0)


def valid_rectangle(valid: Tensor) -> tuple[slice, slice]:
    """Return the rows and columns of the rectangle that is true in valid (H, W) bool, as a letterbox leaves it.

    Raises:
        ValueError: if the true pixels are not a filled rectangle.
    """
    rows, columns = (torch.nonzero(valid.any(axis)).flatten().tolist() for axis in (1, 0))
    if not rows or int(valid.sum()) != (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1):
        raise ValueError(f"the {int(valid.sum())} valid pixels form no filled rectangle: give Placement.valid_pixels()")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def add_pixel_term(layers_map: Tensor, distance: Tensor, weight: float) -> Tensor:
    """Return M + v * max(M) / max(D) * D: (H, W).

    Departure from the authors' code: both maxima are this image's own, not the batch's, so that batch mates never
    change a score.
    """
    largest = distance.amax()
    scale = torch.where(largest == 0, 0.0, weight * layers_map.amax() / largest)  # two equal images: no distance
    return layers_map + scale * distance


@torch.no_grad()
def image_scores(
    maps: Tensor, settings: ScoreSettings, inspected_mask: Tensor | None = None, *, side: int | None = None
) -> Tensor:
    """Return the scores (B,) of maps (B, H, W): the mean of each map's largest values.

    How many is `settings.top`, absolute or as a fraction of the inspected pixels; of those of one tile (side²) at most,
    so that a scratch on an image of many tiles weighs as much as on one of a single tile.

    Args:
        maps: (B, H, W).
        settings: of the score.
        inspected_mask: (B, H, W) bool; None: everywhere.
        side: of a model image where it is scored; None: the images are one model image each.
    """
    scores = []
    for i, one in enumerate(maps):
        values = one.flatten() if inspected_mask is None else one[inspected_mask[i]]
        area = values.numel() if side is None else min(values.numel(), side * side)
        scores.append(top_mean(values, settings.top.elements(area)))
    return torch.stack(scores)

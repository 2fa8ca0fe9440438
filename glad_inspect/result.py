"""What an inspector says of one image, and the pictures of it, drawn when they are asked for. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.images.rendering import DefectRegion, heatmap, mask, overlay

if TYPE_CHECKING:
    from glad.images.placement import Placement
    from glad.quality_gate.limits import Unfit
    from model_store.manifest import Verdict, VerdictThresholds

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageQuality:
    """The quality gate's answer: is the image fit for inspection?"""

    passed: bool
    reasons: tuple[Unfit, ...] = ()
    """What is wrong; what to put right first stands first."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What the models made of an image that is fit."""

    score: float
    plane: NDArray[np.float32]
    """The anomaly map of the placement's plane: (rows, columns)."""
    reconstruction: Pixels
    """The plane too: (rows, columns, 3)."""
    placement: Placement
    denoising_step: int | None
    unet_evaluations: int
    near_tie: bool


@dataclass(frozen=True)
class InspectedWith:
    """The bundle that inspected an image, and the limits in force."""

    product: str
    version: str
    hash: str
    thresholds: VerdictThresholds
    heatmap_top: float
    """The map value of the hottest colour; fixed for a bundle, so that pictures of a product can be compared."""
    seed: int
    engine: str


@dataclass(frozen=True, eq=False)
class InspectionResult:
    """The result of one image. `verdict` is pass, review or fail; an unfit image is for review and has no score."""

    verdict: Verdict
    quality: ImageQuality
    inspected_with: InspectedWith
    original: Pixels = field(repr=False)
    """The upright image: (H, W, 3)."""
    measured: Measured | None = field(repr=False)
    """None: the image is unfit."""

    @property
    def score(self) -> float | None:
        """The raw image score; None for an unfit image."""
        return None if self.measured is None else self.measured.score

    @property
    def calibrated_score(self) -> float | None:
        """score / (score + fail threshold): 0.5 at the fail threshold; None for an unfit image."""
        return None if self.score is None else self.inspected_with.thresholds.calibrate(self.score)

    @cached_property
    def regions(self) -> tuple[DefectRegion, ...]:
        """Connected areas at or above the pixel threshold, in pixels of the original, the highest peak first."""
        from glad.images.rendering import defect_regions

        if self.measured is None:
            return ()
        return tuple(defect_regions(self._content, self.inspected_with.thresholds.pixel, self.measured.placement))

    @cached_property
    def anomaly_map(self) -> NDArray[np.float32] | None:
        """The anomaly map (H, W) float32 of the original; None for an unfit image."""
        return None if self.measured is None else np.asarray(_resized(self._content, self._size), dtype=np.float32)

    @property
    def heatmap(self) -> Image.Image | None:
        """The anomaly map in colours, of the original's size; None for an unfit image."""
        return self._drawn(lambda values: heatmap(values, self.inspected_with.heatmap_top))

    @property
    def mask(self) -> Image.Image | None:
        """White where the map reaches the pixel threshold, of the original's size; None for an unfit image."""
        return self._drawn(lambda values: mask(values, self.inspected_with.thresholds.pixel))

    @property
    def overlay(self) -> Image.Image | None:
        """The part with its anomalies drawn on it, of the original's size; None for an unfit image."""
        top, threshold = self.inspected_with.heatmap_top, self.inspected_with.thresholds.pixel
        return self._drawn(lambda values: overlay(self.original, values, top, threshold=threshold))

    @property
    def reconstruction(self) -> Image.Image | None:
        """The part as it would be without a defect, of the original's size; None for an unfit image."""
        if self.measured is None:
            return None
        content = self.measured.placement.restore(self.measured.reconstruction)
        return Image.fromarray(np.ascontiguousarray(content)).resize(self._size, Image.Resampling.BICUBIC)

    def to_dict(self) -> dict[str, Any]:
        """Return the result in the words of the REST contract, without what belongs to a service alone."""
        height, width = self.original.shape[:2]
        of, measured = self.inspected_with, self.measured
        return {
            "product": of.product,
            "bundle": {"version": of.version, "hash": of.hash},
            "verdict": str(self.verdict),
            "score": self.score,
            "calibrated_score": self.calibrated_score,
            "thresholds": {name: getattr(of.thresholds, name) for name in ("review", "fail", "pixel")},
            "quality": {
                "passed": self.quality.passed,
                "reasons": [
                    {
                        "check": str(one.check),
                        "measure": one.measure,
                        "value": one.value,
                        "limit": one.limit,
                        "detail": one.detail,
                    }
                    for one in self.quality.reasons
                ],
            },
            "regions": [
                {"box": list(region.box), "area_px": region.area_px, "peak": region.peak} for region in self.regions
            ],
            "denoising_step": None if measured is None else measured.denoising_step,
            "unet_evaluations": 0 if measured is None else measured.unet_evaluations,
            "near_tie": None if measured is None else measured.near_tie or of.thresholds.near_tie(measured.score),
            "seed": of.seed,
            "width": width,
            "height": height,
            "pixels_sha256": hashlib.sha256(self.original.tobytes()).hexdigest(),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    @property
    def _size(self) -> tuple[int, int]:
        height, width = self.original.shape[:2]
        return width, height

    @cached_property
    def _content(self) -> NDArray[np.float32]:
        """The map in the original's aspect, at the model's scale."""
        assert self.measured is not None, "an unfit image has no map"
        return np.ascontiguousarray(self.measured.placement.restore(self.measured.plane))

    def _drawn(self, draw: Any) -> Image.Image | None:
        return None if self.anomaly_map is None else Image.fromarray(draw(self.anomaly_map))


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)

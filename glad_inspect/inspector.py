"""An inspector: one product's bundle, loaded and ready. Needs torch."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from glad.image_codec import Pixels, decode_image, refuses_damage
from glad.models import Models
from glad.quality_gate.limits import QualityGate
from glad.quality_gate.measure import find_unfit, measure_quality
from glad_inspect.result import ImageQuality, InspectedWith, InspectionResult, Measured
from model_store.bundle import Bundle
from model_store.bundle_lookup import find_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.loading import load as load_engine
from model_store.inspection import InspectedImage, inspect
from model_store.manifest import Manifest, Verdict, VerdictThresholds
from model_store.store import Store

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]"
"""A path, a file's bytes, a PIL image, or an array (H, W, 3) or (H, W) uint8."""
STORABLE_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
"""Of PIL images that keep all of their levels in a PNG, by whose rules they are then read."""


@dataclass(frozen=True)
class Judging:
    """The bundle with the thresholds and the quality gate that are in force."""

    bundle: Bundle
    thresholds: VerdictThresholds
    gate: QualityGate | None


@dataclass(frozen=True, eq=False)
class Inspector:
    """Judges images of one product. Made by `glad_inspect.load`.

    An image's result does not depend on the images before it or beside it. Not to be called from two threads at once.
    """

    inspected_with: InspectedWith
    device: str
    _manifest: Manifest = field(repr=False)
    _gate: QualityGate | None = field(repr=False)
    _models: Models = field(repr=False)

    def __call__(self, image: ImageLike) -> InspectionResult:
        """Return the result of one image.

        Args:
            image: a path, a file's bytes, a PIL image, or an array (H, W, 3) or (H, W) uint8.

        Raises:
            ImageError: if it is no image that can be read: see its text.
            ValueError: for an array of another shape or type, or an image that the bundle's zones leave nothing of.
            OSError: if the file cannot be read.
        """
        (result,) = self.map([image], batch_size=1)
        return result

    def map(self, images: Iterable[ImageLike], *, batch_size: int = 8) -> Iterator[InspectionResult]:
        """Yield the result of each image, in their order.

        Args:
            images: as in a call.
            batch_size: so many are read and inspected together; a GPU gains from it, a CPU does not.

        Raises:
            ImageError, ValueError, OSError: as in a call, at the image that it concerns.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give at least 1")
        waiting = iter(images)
        while batch := [read_pixels(image) for image in islice(waiting, batch_size)]:
            qualities = [self._quality(pixels) for pixels in batch]
            fit = [pixels for pixels, quality in zip(batch, qualities, strict=True) if quality.passed]
            found = iter(inspect(fit, self._models, self._manifest.settings, device=self.device))
            for pixels, quality in zip(batch, qualities, strict=True):
                yield self._result(pixels, quality, next(found) if quality.passed else None)

    def _quality(self, pixels: Pixels) -> ImageQuality:
        if self._gate is None:
            return ImageQuality(passed=True)
        reasons = find_unfit(self._gate, measure_quality(pixels, self._manifest.settings))
        return ImageQuality(not reasons, reasons)

    def _result(self, pixels: Pixels, quality: ImageQuality, found: InspectedImage | None) -> InspectionResult:
        if found is None:
            return InspectionResult(Verdict.REVIEW, quality, self.inspected_with, pixels, None)
        lane = found.lane
        measured = Measured(
            score=found.score,
            plane=found.map,
            reconstruction=found.reconstruction,
            placement=found.placement,
            denoising_step=lane.denoising_step,
            unet_evaluations=lane.unet_evaluations,
            near_tie=lane.near_tie,
        )
        verdict = self.inspected_with.thresholds.verdict(found.score)
        return InspectionResult(verdict, quality, self.inspected_with, pixels, measured)


def load_inspector(
    bundle: str | Path, *, version: str | None, device: str, engine: EngineSpec, store: Store
) -> Inspector:
    """Return an inspector: see `glad_inspect.load`."""
    judging = _judging(bundle, version, store)
    manifest = judging.bundle.manifest
    loaded = load_engine(judging.bundle, device, engine)
    inspected_with = InspectedWith(
        product=manifest.product,
        version=manifest.version,
        hash=judging.bundle.hash,
        thresholds=judging.thresholds,
        heatmap_top=manifest.thresholds.heatmap_top,
        seed=manifest.settings.noise_seed,
        engine=loaded.engine,
    )
    return Inspector(inspected_with, device, manifest, judging.gate, loaded.models)


def _judging(bundle: str | Path, version: str | None, store: Store) -> Judging:
    """Return the bundle with what is in force: of a folder its own, of a product the store's."""
    found = find_bundle(bundle, store, version)
    ref, opened = found.ref, found.ref.open()
    if not found.in_store:
        return Judging(opened, opened.manifest.thresholds, opened.manifest.gate)
    return Judging(opened, store.thresholds(ref), store.gate(ref))


def read_pixels(image: ImageLike) -> Pixels:
    """Return the upright pixels (H, W, 3) uint8 of an image, by the rules of `glad.image_codec`.

    Raises:
        ImageError, OSError: if a file cannot be read or decoded.
        ValueError: for an array or a PIL image that has no defined meaning as 8-bit RGB.
        TypeError: for anything else.
    """
    match image:
        case bytes():
            return decode_image(image, intact=refuses_damage()).pixels
        case str() | os.PathLike():
            return decode_image(Path(image).read_bytes(), intact=refuses_damage()).pixels
        case Image.Image():
            return _from_pil(image)
        case np.ndarray():
            return _from_array(image)
    raise TypeError(
        f"an image is {type(image).__name__}: give a path, bytes, a PIL image, or an array (H, W, 3) of uint8"
    )


def _from_pil(image: Image.Image) -> Pixels:
    if image.mode not in STORABLE_MODES:
        raise ValueError(
            f"a PIL image of mode {image.mode} has no defined 8-bit range: convert it to one of "
            f"{', '.join(sorted(STORABLE_MODES))}"
        )
    stored = io.BytesIO()
    ImageOps.exif_transpose(image).save(stored, format="PNG", compress_level=0)
    return decode_image(stored.getvalue()).pixels


def _from_array(array: NDArray[np.uint8]) -> Pixels:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(
            f"an array is {array.dtype} {array.shape}: give uint8 of the shape (H, W, 3), RGB, or (H, W), grey"
        )
    if not array.size:
        raise ValueError(f"an array is {array.shape}: it has no pixels")
    return np.ascontiguousarray(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))

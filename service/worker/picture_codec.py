"""Image files to model inputs before the device, maps to pictures after it. Pure functions: no device.

Pillow and NumPy release the interpreter's lock in their heavy parts, so these run beside the device loop.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import Pixels, decode_image, to_png
from glad.images.mosaic import reduced
from glad.images.rendering import DefectRegion, defect_regions, heatmap, mask, overlay
from glad.images.tiling import FramedImage, frame
from glad.quality_gate.limits import QualityGate, Unfit
from glad.quality_gate.measure import find_unfit, measure_quality
from service.contract import ArtifactName
from service.worker.bundle_cache import LoadedBundle

PREVIEW_SIDE_PX = 1024
"""The longer side of the picture under the overlay: sharp enough to recognise the part, small enough to send."""


@dataclass(frozen=True, eq=False)
class PreparedInspection:
    """A decoded image and its framing: ready for its lanes."""

    bundle: LoadedBundle
    framed: FramedImage
    preview: Pixels
    """The upright original, at most `PREVIEW_SIDE_PX` a side."""
    decode_ms: float
    unfit: tuple[Unfit, ...] = ()
    """Why the quality gate stops it; () if it is fit or no gate was asked."""


@dataclass(frozen=True, eq=False)
class RenderedPictures:
    """The pictures and defect regions of one inspection."""

    regions: tuple[DefectRegion, ...]
    pictures: dict[ArtifactName, bytes]
    """Artifact name -> file."""


def prepare_inspection(
    data: bytes, bundle: LoadedBundle, max_pixels: int, gate: QualityGate | None = None
) -> PreparedInspection:
    """Decode and frame an image file, and measure it for the quality gate.

    Args:
        max_pixels: a larger image is refused before it is decoded.
        gate: limits that the image must keep to be inspected; None: it is not measured.

    Raises:
        ImageError: if the file does not decode.
        NothingCounts: if the bundle's zones leave nothing to inspect.
        PlaneTooLarge: if the image has too many tiles.
    """
    began = time.perf_counter()
    original = decode_image(data, max_pixels=max_pixels).pixels
    framed = frame(original, bundle.settings, bundle.latent_shape)
    unfit = () if gate is None else find_unfit(gate, measure_quality(original, bundle.settings))
    return PreparedInspection(
        bundle=bundle,
        framed=framed,
        preview=_preview(original),
        decode_ms=(time.perf_counter() - began) * 1e3,
        unfit=unfit,
    )


def render_pictures(
    image: PreparedInspection, anomaly_map: NDArray[np.float32], reconstruction: Pixels, pixel_threshold: float
) -> RenderedPictures:
    """Return regions and pictures, all in the original's aspect, of a map and a reconstruction of the plane.

    The heat scale is fixed by the bundle's calibration, so that two pictures of a product can be compared. Pictures are
    at most `glad.images.mosaic.LONGEST_PX` long; `map.npy` is the whole map.
    """
    placement, top = image.framed.layout.placement, image.bundle.manifest.thresholds.heatmap_top
    restored = np.ascontiguousarray(placement.restore(anomaly_map))
    shown = reduced(restored)
    return RenderedPictures(
        regions=tuple(defect_regions(restored, pixel_threshold, placement)),
        pictures={
            "heatmap.png": to_png(heatmap(shown, top)),
            "overlay.png": to_png(overlay(image.preview, shown, top, threshold=pixel_threshold)),
            "reconstruction.png": to_png(np.ascontiguousarray(placement.restore(reconstruction))),
            "mask.png": to_png(mask(shown, pixel_threshold)),
            "map.npy": to_npy(restored),
        },
    )


def to_npy(values: NDArray[np.float32]) -> bytes:
    """Return an array as the bytes of a .npy file."""
    target = io.BytesIO()
    np.save(target, values, allow_pickle=False)
    return target.getvalue()


def _preview(original: Pixels) -> Pixels:
    height, width = original.shape[:2]
    scale = PREVIEW_SIDE_PX / max(height, width)
    if scale >= 1:
        return original
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(original).resize(size, Image.Resampling.BOX))

"""Bytes to what a lane needs, and what a lane found to pictures. Pure functions for the codec threads: no device.

Pillow and NumPy release the interpreter's lock in their heavy parts, so these run beside the device loop.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.imaging import Pixels, Placement, decode_image, fit, to_model, to_png
from glad.noise import image_noise
from glad.pictures import heatmap, mask, overlay
from glad.score import Region, defect_regions
from service.contract import ArtifactName
from service.worker.models import LoadedBundle

PREVIEW_SIDE_PX = 1024
"""The longer side of the picture under the overlay: sharp enough to recognise the part, small enough to send."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image, decoded and letterboxed, with its own noise: ready for a lane."""

    bundle: LoadedBundle
    image: NDArray[np.float32]
    """(3, side, side) in [-1, 1]."""
    noise: NDArray[np.float32]
    """(C, h, w), seeded by the upright original's pixels."""
    placement: Placement
    valid_patches: NDArray[np.bool_]
    """(h, w): true where the latent shows image, false on padding."""
    preview: Pixels
    """The upright original, at most `PREVIEW_SIDE_PX` a side."""
    decode_ms: float


@dataclass(frozen=True, eq=False)
class Rendered:
    """What is kept of an inspection besides its numbers."""

    regions: tuple[Region, ...]
    pictures: dict[ArtifactName, bytes]
    """Artifact name -> file."""


def prepare(data: bytes, bundle: LoadedBundle, max_pixels: int) -> Prepared:
    """An image file -> what a lane needs. Raises `glad.imaging.ImageError`."""
    began = time.perf_counter()
    original = decode_image(data, max_pixels=max_pixels).pixels
    fitted = fit(original, bundle.settings.resolution)
    return Prepared(
        bundle=bundle,
        image=to_model(fitted.pixels),
        noise=image_noise(original, bundle.settings.noise_seed, bundle.latent_shape),
        placement=fitted.placement,
        valid_patches=fitted.placement.valid_patches(bundle.models.autoencoder.factor),
        preview=_preview(original),
        decode_ms=(time.perf_counter() - began) * 1e3,
    )


def render(prepared: Prepared, found: NDArray[np.float32], reconstruction: Pixels, pixel_threshold: float) -> Rendered:
    """A map (side, side) and a reconstruction (side, side, 3) -> regions and pictures, all in the original's aspect.

    The heat scale is fixed by the bundle's calibration, so that two pictures of a product can be compared.
    """
    placement, top = prepared.placement, prepared.bundle.manifest.thresholds.heatmap_top
    own = np.ascontiguousarray(placement.restore(found))
    return Rendered(
        regions=tuple(defect_regions(own, pixel_threshold, placement)),
        pictures={
            "heatmap.png": to_png(heatmap(own, top)),
            "overlay.png": to_png(overlay(prepared.preview, own, top, threshold=pixel_threshold)),
            "reconstruction.png": to_png(np.ascontiguousarray(placement.restore(reconstruction))),
            "mask.png": to_png(mask(own, pixel_threshold)),
            "map.npy": to_npy(own),
        },
    )


def to_npy(values: NDArray[np.float32]) -> bytes:
    """An array as a .npy file."""
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

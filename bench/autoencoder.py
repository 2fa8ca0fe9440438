"""What an autoencoder keeps: the error of a round trip on good images, and inside the defects of bad ones.

A defect that the round trip loses is not there for the trigger, which compares decoded latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glad.image_codec import to_model
from glad.images.placement import fit
from glad.protocols import Autoencoder
from model_store.bundle import open_bundle
from model_store.engines.torch import load_models
from training.data.dataset import TestImage, read_pixels, read_truth, test_images
from training.progress import Count


@dataclass(frozen=True)
class RoundTrip:
    """Mean absolute error of decode(encode(x)), images in [-1, 1]: of good images whole, of defects inside the mask."""

    kind: str
    images: int
    error: float


def measure_round_trips(bundle: Path, data: Path, progress: Count = lambda done, total: None) -> tuple[RoundTrip, ...]:
    """One figure per kind of image, good ones first. Kinds without masks are left out."""
    opened = open_bundle(bundle)
    autoencoder, side = load_models(opened).autoencoder, opened.manifest.settings.resolution
    errors: dict[str, list[float]] = {}
    labelled = test_images(data)
    for done, image in enumerate(labelled, start=1):
        if (error := _error(autoencoder, image, side)) is not None:
            errors.setdefault(image.defect, []).append(error)
        progress(done, len(labelled))
    kinds = sorted(errors, key=lambda kind: (kind != "good", kind))
    return tuple(RoundTrip(kind, len(errors[kind]), float(np.mean(errors[kind]))) for kind in kinds)


def _error(autoencoder: Autoencoder, image: TestImage, side: int) -> float | None:
    fitted = fit(read_pixels(image.path), side)
    images = torch.from_numpy(to_model(fitted.pixels))[None]
    rebuilt = autoencoder.decode(autoencoder.encode(images)).clamp(-1, 1)
    error: NDArray[np.float32] = (rebuilt - images)[0].abs().mean(0).numpy()
    content = fitted.placement.restore(error)
    if image.defect == "good":
        return float(content.mean())
    truth = read_truth(image.mask, fitted.placement)
    return float(content[truth].mean()) if truth.any() else None

"""The preparation of an image for a backbone: letterbox, exposure, padding. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glad.image_codec import Pixels
from glad.images.placement import Fitted, Placement, fit
from glad.settings.embedding import Exposure, ImagePreparation, Padding

MEAN_GREY = 127.0
"""The mean of a normalised exposure, in grey levels."""
CONTRAST = 50.0
"""The standard deviation of a normalised exposure, in grey levels: about that of photographs."""
LEAST_CONTRAST = 8.0
"""Grey levels. An image of less contrast is not stretched further: that would show its noise."""

GreyLevels = NDArray[np.float32]
"""0 ... 255, but for a normalised exposure, which may go beyond both."""


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as a backbone's input."""

    values: NDArray[np.float32]
    """(side, side, 3), in [-1, 1] but for a normalised exposure, which may go beyond."""
    placement: Placement

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Return the mask (side, side): true on the image, false on its padding."""
        return self.placement.valid_pixels()


def prepare_image(
    pixels: Pixels, side: int, preparation: ImagePreparation, mean: tuple[float, float, float]
) -> PreparedImage:
    """Return an image (H, W, 3), letterboxed and prepared.

    Args:
        pixels: (H, W, 3) uint8, upright.
        side: of the result.
        mean: of the backbone, per colour, of images in [0, 1]; see `glad.protocols.Backbone.mean`.
    """
    return prepare_fitted(fit(pixels, side), preparation, mean)


def prepare_fitted(fitted: Fitted, preparation: ImagePreparation, mean: tuple[float, float, float]) -> PreparedImage:
    """Return an image that is letterboxed already, prepared; as `prepare_image` otherwise."""
    return PreparedImage(prepare_square(fitted.pixels, fitted.placement.content, preparation, mean), fitted.placement)


def prepare_square(
    pixels: Pixels, content: tuple[slice, slice], preparation: ImagePreparation, mean: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return a square model image (S, S, 3), or a tile of a larger one, prepared; as `prepare_image` otherwise.

    Args:
        pixels: (S, S, 3) uint8.
        content: rows and columns of what is not padding.
    """
    values = pixels.astype(np.float32)
    if preparation.exposure is Exposure.NORMALISED:
        values = normalise_exposure(values, content)
    if preparation.padding is Padding.MEAN_GREY:
        canvas = np.empty_like(values)
        canvas[:] = np.float32(255) * np.array(mean, dtype=np.float32)
        canvas[content] = values[content]
        values = canvas
    return values / np.float32(127.5) - np.float32(1)


def normalise_exposure(values: GreyLevels, content: tuple[slice, slice]) -> GreyLevels:
    """Return an image (H, W, 3) whose content has the mean `MEAN_GREY` and the standard deviation `CONTRAST`.

    Mean and deviation are those of the content over all channels together, so that colours keep their relation; the
    padding goes the same way. Nothing is clipped: a network of floats takes any value, and the brightest speck of a
    dull image is what an inspection must not flatten.
    """
    inside = values[content].astype(np.float64)
    gain = CONTRAST / max(float(inside.std()), LEAST_CONTRAST)
    return np.asarray((values - inside.mean()) * gain + MEAN_GREY, dtype=np.float32)

"""An image under its framing: the model input of each of its tiles, cut when it is needed. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glad.image_codec import Pixels, to_model
from glad.images.placement import in_patches
from glad.images.tiling import Tile, TileLayout, lay_out
from glad.seeded_noise import digest_noise, pixel_digest
from glad.settings.method import MethodSettings


class NothingCounts(ValueError):
    """The zones leave nothing of the image to inspect."""


@dataclass(frozen=True, eq=False)
class ModelInput:
    """The input of one lane: a square model image, its noise and its masks."""

    picture: Pixels
    """(side, side, 3) uint8."""
    image: NDArray[np.float32]
    """The same for the models: (3, side, side) in [-1, 1]."""
    noise: NDArray[np.float32]
    """(C, h, w), of this image and tile."""
    inspected_pixels: NDArray[np.bool_]
    """(side, side): false on padding, and where the zones leave nothing to inspect."""
    inspected_patches: NDArray[np.bool_]
    """(h, w): true where any pixel is inspected, so that no edge goes unseen."""


@dataclass(frozen=True, eq=False)
class FramedImage:
    """An upright original and where its tiles lie. Holds the original once, and no tile's pixels."""

    pixels: Pixels
    layout: TileLayout
    inspected_mask: NDArray[np.bool_]
    """(rows, columns) of the plane: true where the image shows and its zones are inspected."""
    tiles: tuple[Tile, ...]
    """Those of which anything is inspected, each a lane: at least one."""
    latent_shape: tuple[int, int, int]
    digest: bytes
    """Of the pixels, for the noise."""

    def model_input(self, tile: Tile) -> ModelInput:
        """Return the model input of a tile: its pixels, its noise and what of it is inspected."""
        side = self.layout.side
        picture = self.layout.tile_pixels(self.pixels, tile)
        inspected_mask = self.inspected_mask[self.layout.span(tile)]
        return ModelInput(
            picture=picture,
            image=to_model(picture),
            noise=digest_noise(self.digest, self.latent_shape, tile.index),
            inspected_pixels=inspected_mask,
            inspected_patches=in_patches(inspected_mask, side // self.latent_shape[1]),
        )


def frame(pixels: Pixels, settings: MethodSettings, latent_shape: tuple[int, int, int]) -> FramedImage:
    """Return an image under the settings' framing.

    Args:
        pixels: upright RGB, (H, W, 3) uint8.
        settings: those of its product.
        latent_shape: (C, h, w) of one tile's latent.

    Raises:
        NothingCounts: if the zones leave no pixel of an image of this size.
        PlaneTooLarge: as `lay_out`.
    """
    height, width = pixels.shape[:2]
    layout = lay_out(width, height, settings)
    inspected_mask = layout.inspected_mask(settings.zones)
    tiles = tuple(tile for tile in layout.tiles if inspected_mask[layout.span(tile)].any())
    if not tiles:
        raise NothingCounts(
            f"the bundle's zones leave nothing of an image of {width}×{height} pixels to inspect: ignore less of it"
        )
    return FramedImage(pixels, layout, inspected_mask, tiles, latent_shape, pixel_digest(pixels, settings.noise_seed))

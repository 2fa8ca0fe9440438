"""Inspect images with one product's models, without a server: for `glad inspect`, calibration and evaluation.

The worker does the same with many lanes at once, by the same functions of `glad`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.batching import BatchSizes, batch_sizes_for_device
from glad.image_codec import from_model
from glad.images.placement import Placement
from glad.images.rendering import Mosaic
from glad.images.tiling import FramedImage, ModelInput, Tile, frame
from glad.lane import Lane, merge_lanes
from glad.models import Models
from glad.reconstruct import reconstruct
from glad.scoring import Evidence, LaneResult, score_image
from glad.settings.method import MethodSettings
from glad.stitching import Stitching

TITLES = ("input", "reconstruction", "heatmap", "overlay")
TILES_AT_ONCE = 8


@dataclass(frozen=True)
class ScoredImage:
    """The result of one image, without pictures."""

    score: float
    """Higher is worse."""
    map: NDArray[np.float32]
    """Of the placement's plane: (S, S), or (rows, columns) of a tiled image; 0 where nothing is inspected."""
    lane: Lane
    """How it got there, all its tiles together: `glad.lane.merge_lanes`."""
    placement: Placement


@dataclass(frozen=True)
class InspectedImage(ScoredImage):
    """The result of one image."""

    input: NDArray[np.uint8]
    """(…, 3), of the plane too, at most `glad.images.rendering.LONGEST_PX` long."""
    reconstruction: NDArray[np.uint8]
    """As `input`."""


@dataclass(frozen=True, eq=False)
class TileResult:
    """The result of one tile."""

    rebuilt: Tensor | None
    """(3, S, S), about [-1, 1]; None if no picture was made of it."""
    evidence: Evidence
    lane: Lane


class PartialInspection:
    """The inspection of one image, some of whose tiles are done."""

    def __init__(self, framed: FramedImage, settings: MethodSettings) -> None:
        self._framed, self._settings = framed, settings
        self._stitching = Stitching(framed.layout, settings.scoring_side)
        self._input, self._reconstruction = Mosaic(framed.layout), Mosaic(framed.layout)
        self._rebuilt: set[Tile] = set()
        self._lanes: list[Lane] = []
        for tile in set(framed.layout.tiles) - set(framed.tiles):  # not inspected: drawn as they are
            picture = framed.layout.tile_pixels(framed.pixels, tile)
            self._input.add(tile, picture)
            self._reconstruction.add(tile, picture)

    def add(self, tile: Tile, picture: NDArray[np.uint8], tile_result: TileResult) -> None:
        """Add a tile that is done; picture: its input, (S, S, 3)."""
        self._stitching.add(tile, tile_result.evidence)
        self._input.add(tile, picture)
        if tile_result.rebuilt is not None:
            self.add_reconstruction(tile, tile_result.rebuilt)
        self._lanes.append(tile_result.lane)

    def add_reconstruction(self, tile: Tile, rebuilt: Tensor) -> None:
        """Add the picture of a tile that was added without one: (3, S, S), about [-1, 1]."""
        self._reconstruction.add(tile, from_model(rebuilt.float().cpu().numpy()))
        self._rebuilt.add(tile)

    @property
    def reconstruction(self) -> NDArray[np.uint8] | None:
        """Return the picture of the reconstruction; None if not all tiles' were added."""
        return self._reconstruction.picture if self._rebuilt.issuperset(self._framed.tiles) else None

    @property
    def complete(self) -> bool:
        """Return whether every tile is done of which anything is inspected."""
        return len(self._lanes) == len(self._framed.tiles)

    def result(self) -> InspectedImage:
        """Return the image's result, once it is complete and every tile has its picture."""
        rebuilt = self.reconstruction
        assert rebuilt is not None, "every tile has its picture"
        return InspectedImage(**vars(self.scored()), input=self._input.picture, reconstruction=rebuilt)

    def scored(self) -> ScoredImage:
        """Return score and map, once the image is complete."""
        framed, evidence = self._framed, self._stitching.evidence
        placement, device = framed.layout.placement, evidence.layers_map.device
        valid, inspected_mask = (
            torch.from_numpy(part).to(device) for part in (placement.valid_pixels(), framed.inspected_mask)
        )
        result = score_image(evidence, valid, inspected_mask, self._settings.score, framed.layout.side)
        return ScoredImage(
            score=float(result.score),
            map=result.map.cpu().numpy(),
            lane=merge_lanes(self._lanes),
            placement=placement,
        )


def inspect(
    images: Sequence[NDArray[np.uint8]],
    models: Models,
    settings: MethodSettings,
    *,
    tiles_at_once: int = TILES_AT_ONCE,
    device: str = "cpu",
) -> list[InspectedImage]:
    """Return the results of images; that of one does not depend on the others.

    Args:
        images: upright RGB, (H, W, 3) uint8 each.
        models: those of the product.
        settings: those of the product.
        tiles_at_once: so many model images go through the models together; a tiled image has many.
        device: the models'.

    Raises:
        ValueError: if an image cannot be framed: see `glad.images.tiling.frame`.
    """
    framed = [frame(pixels, settings, models.latent_shape(settings.resolution)) for pixels in images]
    queue = ((index, tile) for index, one in enumerate(framed) for tile in one.tiles)
    begun: dict[int, PartialInspection] = {}
    done: dict[int, InspectedImage] = {}
    while group := list(islice(queue, tiles_at_once)):
        inputs = [framed[index].model_input(tile) for index, tile in group]
        results = _inspect_tiles(inputs, models, settings, device)
        for (index, tile), model_input, tile_result in zip(group, inputs, results, strict=True):
            if index not in begun:
                begun[index] = PartialInspection(framed[index], settings)
            begun[index].add(tile, model_input.picture, tile_result)
            if begun[index].complete:
                done[index] = begun.pop(index).result()
    return [done[index] for index in range(len(images))]


def _inspect_tiles(
    inputs: Sequence[ModelInput], models: Models, settings: MethodSettings, device: str
) -> list[TileResult]:
    """Return the result of every model input, all denoised side by side."""
    images, noise, pixels, patches = (
        torch.from_numpy(np.stack(parts)).to(device)
        for parts in zip(*((s.image, s.noise, s.inspected_pixels, s.inspected_patches) for s in inputs), strict=True)
    )
    sizes = BatchSizes(denoiser=batch_sizes_for_device(images.device.type, len(images)).denoiser)
    rebuilt = reconstruct(images, noise, models, settings, valid=patches, inspected_mask=pixels, batch_sizes=sizes)
    lane_results = [
        LaneResult(
            image=images[i],
            latent=rebuilt.encoded[i],
            x0=rebuilt.latents[i],
            picture=rebuilt.images[i] if models.scorer.needs_picture else None,
            inspected_mask=pixels[i],
            valid=patches[i],
            reading=rebuilt.readings[i],
            walked=rebuilt.lanes[i].walked,
        )
        for i in range(len(images))
    ]
    evidence = models.scorer(lane_results, settings.score, (1,))
    return [TileResult(*parts) for parts in zip(rebuilt.images, evidence, rebuilt.lanes, strict=True)]

"""Images through one product's models, without a server: what `glad inspect`, calibration and evaluation share.

The worker does the same with many lanes at once; the functions of `glad` that decide are the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.comparator import Comparator
from glad.image_codec import from_model
from glad.images.framed import FramedImage, ModelInput, frame
from glad.images.mosaic import Mosaic, reduced
from glad.images.placement import Placement
from glad.images.rendering import contact_sheet, heatmap, overlay
from glad.images.tiling import Tile
from glad.lane import Lane, merge_lanes
from glad.protocols import Models
from glad.reconstruct import reconstruct
from glad.scoring import Evidence, gather_evidence, score_image
from glad.settings.method import MethodSettings
from glad.stitching import Stitching
from model_store.thresholds import VerdictThresholds

TITLES = ("input", "reconstruction", "heatmap", "overlay")
TILES_AT_ONCE = 8
LARGEST_CELL_PX = 2048


@dataclass(frozen=True)
class InspectedImage:
    """What the method found.

    score: higher is worse; map: float32, of the placement's plane (S, S), or (rows, columns) of a tiled image, zero
    where nothing counts; input, reconstruction: uint8 (…, 3), the plane too, at most `glad.images.mosaic.LONGEST_PX`
    long; lane: how it got there, all its tiles together (`glad.lane.merge_lanes`).
    """

    score: float
    map: NDArray[np.float32]
    input: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    lane: Lane
    placement: Placement


@dataclass(frozen=True, eq=False)
class TileResult:
    """A tile at the end of its way."""

    rebuilt: Tensor
    """(3, S, S), about [-1, 1]."""
    evidence: Evidence
    lane: Lane


class PartialInspection:
    """One image, some of whose tiles are done."""

    def __init__(self, framed: FramedImage, settings: MethodSettings) -> None:
        self._framed, self._settings = framed, settings
        self._stitching = Stitching(framed.layout, settings.scoring_side)
        self._input, self._reconstruction = Mosaic(framed.layout), Mosaic(framed.layout)
        self._lanes: list[Lane] = []
        for tile in set(framed.layout.tiles) - set(framed.tiles):  # nobody looks at them: they show what they are
            picture = framed.layout.tile_pixels(framed.pixels, tile)
            self._input.add(tile, picture)
            self._reconstruction.add(tile, picture)

    def add(self, tile: Tile, picture: NDArray[np.uint8], walked: TileResult) -> None:
        """Take in a tile that is done, and what it showed at first: (S, S, 3)."""
        self._stitching.add(tile, walked.evidence)
        self._input.add(tile, picture)
        self._reconstruction.add(tile, from_model(walked.rebuilt.float().cpu().numpy()))
        self._lanes.append(walked.lane)

    @property
    def complete(self) -> bool:
        """Every tile that counts is done."""
        return len(self._lanes) == len(self._framed.tiles)

    def result(self) -> InspectedImage:
        """The image's verdict, once it is complete."""
        framed, evidence = self._framed, self._stitching.evidence
        placement, device = framed.layout.placement, evidence.layers_map.device
        valid, inspected_mask = (
            torch.from_numpy(part).to(device) for part in (placement.valid_pixels(), framed.inspected_mask)
        )
        result = score_image(evidence, valid, inspected_mask, self._settings.score, framed.layout.side)
        return InspectedImage(
            score=float(result.score),
            map=result.map.cpu().numpy(),
            input=self._input.picture,
            reconstruction=self._reconstruction.picture,
            lane=merge_lanes(self._lanes),
            placement=placement,
        )


def inspect(
    images: Sequence[NDArray[np.uint8]],
    models: Models,
    settings: MethodSettings,
    *,
    comparator: Comparator | None = None,
    tiles_at_once: int = TILES_AT_ONCE,
    device: str = "cpu",
) -> list[InspectedImage]:
    """Inspect upright RGB images (H, W, 3); what is found in one does not depend on the others.

    Model images, of which a tiled image has many, go through the models `tiles_at_once` together, and exist only so
    long. `device` is the models'. ValueError: see `glad.images.framed.frame`.
    """
    side, factor = settings.resolution, models.autoencoder.factor
    shape = (models.autoencoder.latent_channels, side // factor, side // factor)
    framed = [frame(pixels, settings, shape) for pixels in images]
    todo = ((index, tile) for index, one in enumerate(framed) for tile in one.tiles)
    begun: dict[int, PartialInspection] = {}
    done: dict[int, InspectedImage] = {}
    while group := list(islice(todo, tiles_at_once)):
        squares = [framed[index].model_input(tile) for index, tile in group]
        walked = _walk(squares, models, settings, comparator, device)
        for (index, tile), square, own in zip(group, squares, walked, strict=True):
            if index not in begun:
                begun[index] = PartialInspection(framed[index], settings)
            begun[index].add(tile, square.picture, own)
            if begun[index].complete:
                done[index] = begun.pop(index).result()
    return [done[index] for index in range(len(images))]


def _walk(
    squares: Sequence[ModelInput], models: Models, settings: MethodSettings, comparator: Comparator | None, device: str
) -> list[TileResult]:
    """Every square on its way down the grid, side by side, and what it shows then."""
    images, noise, pixels, patches = (
        torch.from_numpy(np.stack(parts)).to(device)
        for parts in zip(*((s.image, s.noise, s.inspected_pixels, s.inspected_patches) for s in squares), strict=True)
    )
    rebuilt = reconstruct(images, noise, models, settings, valid=patches, comparator=comparator)
    evidence = gather_evidence(images, rebuilt.images, models.features, settings.score, pixels)
    return [TileResult(*own) for own in zip(rebuilt.images, evidence, rebuilt.lanes, strict=True)]


def sheet(found: InspectedImage, limits: VerdictThresholds) -> NDArray[np.uint8]:
    """Input, reconstruction, heatmap and overlay side by side, without the letterbox's padding: (H, W, 3)."""
    row = _row(found, limits)
    cell = min(LARGEST_CELL_PX, 2 * max(row[0].shape[:2]))
    return contact_sheet([row], cell=cell, titles=TITLES)


def overview(found: Sequence[InspectedImage], limits: VerdictThresholds, *, abreast: int = 2) -> NDArray[np.uint8]:
    """Many images' sheets in one picture, so many abreast: (H, W, 3). ValueError for none."""
    rows = [_row(one, limits) for one in found]
    lines = [list(chain(*rows[start : start + abreast])) for start in range(0, len(rows), abreast)]
    cell = max(max(picture.shape[:2]) for row in rows for picture in row)
    return contact_sheet(lines, cell=cell, titles=TITLES * min(abreast, len(rows)))


def _row(found: InspectedImage, limits: VerdictThresholds) -> list[NDArray[np.uint8]]:
    place, top = found.placement, limits.heatmap_top
    pictures = found.input, found.reconstruction, reduced(found.map)
    seen, rebuilt, heat = (np.ascontiguousarray(place.restore(picture)) for picture in pictures)
    return [seen, rebuilt, heatmap(heat, top), overlay(seen, heat, top, threshold=limits.pixel)]

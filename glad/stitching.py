"""The evidence of an image's tiles put together without seams: blended where they overlap."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from glad.images.tiling import Tile, TileLayout
from glad.scoring import Evidence


class Stitching:
    """The evidence of one image, which grows tile by tile; in any order, up to the last bits of a sum."""

    def __init__(self, layout: TileLayout, scoring_side: int) -> None:
        self._layout, self._side = layout, scoring_side
        self._evidence: Evidence | None = None

    def add(self, tile: Tile, evidence: Evidence) -> None:
        """Add the evidence of a tile: (r, r) each, r the scoring side."""
        if self._evidence is None:
            rows, columns = (self._scaled(n) for n in (self._layout.placement.rows, self._layout.placement.columns))
            self._evidence = evidence.each(lambda part: part.new_zeros(rows, columns))
        column, row = tile.index % len(self._layout.xs), tile.index // len(self._layout.xs)
        down = self._weights(self._layout.ys)[row].to(evidence.layers_map)
        across = self._weights(self._layout.xs)[column].to(evidence.layers_map)
        top, left = self._scaled(tile.y), self._scaled(tile.x)
        place = slice(top, top + self._side), slice(left, left + self._side)
        weights = down[:, None] * across  # weights of a plane are products of those of its two axes
        for whole, part in zip(self._evidence.parts, evidence.parts, strict=True):
            whole[place] += weights * part

    @property
    def evidence(self) -> Evidence:
        """Return the image's evidence so far, (rows, columns) each at the scoring resolution.

        Raises:
            ValueError: if no tile was added yet.
        """
        if self._evidence is None:
            raise ValueError("no tile was added yet: add at least one before reading the evidence")
        return self._evidence

    def _scaled(self, length: int) -> int:
        """Return a length of whole scoring units in the plane at the scoring resolution."""
        return length * self._side // self._layout.side

    def _weights(self, starts: tuple[int, ...]) -> Tensor:
        return blend_weights(tuple(self._scaled(start) for start in starts), self._side)


@lru_cache(maxsize=16)
def blend_weights(starts: tuple[int, ...], side: int) -> Tensor:
    """Return the weights (tiles, side) float32 of tiles that begin at `starts` along a line.

    Each weight falls linearly to its tile's border, and at every pixel of the line all weights together are 1.
    """
    ramp = torch.minimum(torch.arange(1, side + 1), torch.arange(side, 0, -1)).double()
    total = torch.zeros(starts[-1] + side, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += ramp
    return torch.stack([ramp / total[start : start + side] for start in starts]).float()

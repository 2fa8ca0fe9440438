"""An anomaly planted into an original, as large and as strong as wanted, and measured there.

The bundle then inspects the whole original: framing, tiles and zones do to the anomaly what they do on the line. It is
drawn on the piece of the original that one model image shows, at up to twice the model's resolution, and faded to the
contrasts that are wanted: so the same anomaly is tried at each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import Pixels
from glad.images.tiling import TileLayout, lay_out
from glad.settings.method import MethodSettings
from training.synthesis.anomalies import FLAWS, LEAST_VISIBLE, VISIBLE, Pair, make_anomaly
from training.synthesis.overlays import COMPUTED, FillSource
from training.synthesis.pairs import inspected_pixels
from training.synthesis.patterns import Floats, Mask

OVERSAMPLED = 2.0
"""Pixels in which anomalies are drawn, per model pixel; never more than the original has ..."""
LARGEST_PIECE = 512
"""... nor more on a side than this, where the model image itself is not larger: drawing would take too long."""
LEAST_WINDOW = 24
"""Pixels on a side of the window that an overlay is drawn in."""
TRIES = 3
"""Anomalies drawn until one can be seen."""
LINES = frozenset({"crack", "stroke", "fray"})
"""Kinds whose size is their length; that of the others is the side of a square of their area."""
DIRECTIONS = 18
GREY_LEVELS = 255.0


@dataclass(frozen=True)
class AnomalyDraw:
    """All that decides the shape and the place of an anomaly on a given image."""

    kind: str
    seed: tuple[int, ...]
    magnification: float
    """Of its usual size: of a flaw; of an overlay the share of the model image that it is drawn in, at most 1."""
    source: FillSource = COMPUTED


@dataclass(frozen=True)
class AnomalyMeasures:
    """What was measured of an anomaly."""

    size_px: float
    """Length or side (`LINES`), in pixels of the original."""
    contrast: float
    """Mean change of the pixels that changed visibly, in grey levels of 255."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """What one model image shows of an original, as anomalies are drawn on it."""

    rows: slice
    """In the original."""
    columns: slice
    picture: Floats
    """(S, S, 3) in [0, 1], padded at the right and at the bottom."""
    valid: Mask
    reach: Mask
    scale: float
    """Pixels of the picture per pixel of the original."""


@dataclass(frozen=True, eq=False)
class DrawnAnomaly:
    """An anomaly at its full strength, and where it lies in the original."""

    kind: str
    piece: _Piece
    change: Floats
    """What it adds to the piece: (S, S, 3)."""

    @property
    def contrast(self) -> float:
        """Return its contrast at full strength, in grey levels of 255."""
        return GREY_LEVELS * _contrast(self.change)

    def measures(self, contrast: float) -> AnomalyMeasures | None:
        """Return what is measured of it, faded to a contrast; None if nothing of it can be seen then."""
        faded = self._faded(contrast)
        seen = np.abs(faded).mean(-1) > VISIBLE
        if seen.sum() < LEAST_VISIBLE:
            return None
        return AnomalyMeasures(_size(seen, self.kind) / self.piece.scale, GREY_LEVELS * _contrast(faded))

    def applied(self, pixels: Pixels, contrast: float) -> Pixels:
        """Return the original (H, W, 3) with the anomaly, faded to a contrast."""
        return _applied(pixels, self.piece, self._faded(contrast))

    def _faded(self, contrast: float) -> Floats:
        return self.change * np.float32(min(1.0, contrast / max(self.contrast, 1e-6)))


@dataclass(frozen=True)
class Planting:
    """A change of an image as `training.parallel_inspection.inspect_altered` takes it."""

    draw: AnomalyDraw
    contrast: float
    """Mean change that is wanted, in grey levels of 255: a stronger anomaly is faded to it."""
    settings: MethodSettings

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return the image with the anomaly."""
        drawn = draw_anomaly(pixels, self.settings, self.draw)
        assert drawn is not None, "only anomalies that were seen are planted"
        return drawn.applied(pixels, self.contrast)


def draw_anomaly(pixels: Pixels, settings: MethodSettings, draw: AnomalyDraw) -> DrawnAnomaly | None:
    """Return the anomaly of a draw on an original; None if nothing of it could be seen.

    Args:
        pixels: upright RGB, (H, W, 3) uint8.
        settings: of the bundle; they say what is inspected.
        draw: the same one makes the same anomaly.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(draw.seed)))
    piece = _piece(pixels, settings, rng)
    if not piece.reach.any():
        return None
    try:
        return DrawnAnomaly(draw.kind, piece, _change(rng, piece, draw))
    except ValueError:  # too small to be seen here, or on what looks like its filling
        return None


def _piece(pixels: Pixels, settings: MethodSettings, rng: np.random.Generator) -> _Piece:
    """Return a random one of the pieces that the model images show, with something to inspect in it."""
    layout = lay_out(pixels.shape[1], pixels.shape[0], settings)
    inspected_mask = layout.inspected_mask(settings.zones)
    tiles = [tile for tile in layout.tiles if inspected_mask[layout.span(tile)].any()]
    tile = tiles[int(rng.integers(len(tiles)))]
    within = layout.content(tile)
    counts = inspected_mask[layout.span(tile)][within]
    rows, columns = _in_original(layout, tile.x, tile.y, within)
    cut = Image.fromarray(pixels[rows, columns])
    most = max(layout.side, LARGEST_PIECE) / max(cut.size)
    scale = min(1.0, OVERSAMPLED * layout.placement.scale, most)
    width, height = (max(1, round(length * scale)) for length in cut.size)
    shown = np.asarray(cut.resize((width, height), Image.Resampling.LANCZOS))
    inspected = np.asarray(Image.fromarray(counts).resize((width, height), Image.Resampling.NEAREST))
    side = max(width, height)
    padding = ((0, side - height), (0, side - width))
    square = np.pad(shown, (*padding, (0, 0)), mode="edge")
    valid = np.pad(np.ones((height, width), dtype=np.bool_), padding)
    reach = inspected_pixels(square, np.pad(inspected, padding), settings)
    return _Piece(rows, columns, square.astype(np.float32) / np.float32(GREY_LEVELS), valid, reach, scale)


def _in_original(layout: TileLayout, x: int, y: int, within: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return the rows and columns of the original that a tile at (x, y) of the plane shows."""
    place = layout.placement
    down, across = place.original_height / place.content_height, place.original_width / place.content_width
    top, left = y - place.top, x - place.left
    rows, columns = within
    return (
        slice(round((top + rows.start) * down), round((top + rows.stop) * down)),
        slice(round((left + columns.start) * across), round((left + columns.stop) * across)),
    )


def _change(rng: np.random.Generator, piece: _Piece, draw: AnomalyDraw) -> Floats:
    """Return what the anomaly adds to the piece, (S, S, 3), at its full strength."""
    if draw.kind in FLAWS:
        pair = make_anomaly(
            draw.kind, rng, piece.picture, piece.valid, piece.scale * draw.magnification, where=piece.reach, tries=TRIES
        )
        return pair.anomalous - pair.normal
    window = _window(rng, piece, draw.magnification)
    pair = make_anomaly(
        draw.kind,
        rng,
        np.ascontiguousarray(piece.picture[window]),
        piece.valid[window],
        piece.scale,
        where=piece.reach[window],
        tries=TRIES,
        source=draw.source,
    )
    return _within(piece, window, pair)


def _window(rng: np.random.Generator, piece: _Piece, share: float) -> tuple[slice, slice]:
    """Return a square of this share of the piece, around a random place where an anomaly may lie."""
    whole = len(piece.valid)
    side = int(np.clip(round(share * whole), min(LEAST_WINDOW, whole), whole))
    places = np.argwhere(piece.reach)
    row, column = places[int(rng.integers(len(places)))]
    top, left = (int(np.clip(at - side // 2, 0, whole - side)) for at in (row, column))
    return slice(top, top + side), slice(left, left + side)


def _within(piece: _Piece, window: tuple[slice, slice], pair: Pair) -> Floats:
    change = np.zeros_like(piece.picture)
    change[window] = pair.anomalous - pair.normal
    return change


def _contrast(change: Floats) -> float:
    """Return the mean change of the pixels that change visibly; 0 if none does."""
    amount = np.abs(change).mean(-1)
    return float(amount[amount > VISIBLE].mean()) if (amount > VISIBLE).any() else 0.0


def _size(seen: NDArray[np.bool_], kind: str) -> float:
    """Return a mask's length, or the side of a square of its area, in its own pixels."""
    if kind not in LINES:
        return float(np.sqrt(seen.sum()))
    angles = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
    along = np.argwhere(seen) @ np.stack([np.sin(angles), np.cos(angles)])
    return float(np.ptp(along, axis=0).max() + 1)


def _applied(pixels: Pixels, piece: _Piece, change: Floats) -> Pixels:
    """Return the original with the change at its own resolution."""
    height, width = pixels[piece.rows, piece.columns].shape[:2]
    rows, columns = piece.valid.any(1).sum(), piece.valid.any(0).sum()
    added = change[:rows, :columns]
    if added.shape[:2] != (height, width):
        channels = [Image.fromarray(np.ascontiguousarray(added[..., channel])) for channel in range(3)]
        larger = [np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in channels]
        added = np.stack(larger, axis=-1)
    changed = pixels.copy()
    whole = pixels[piece.rows, piece.columns] + GREY_LEVELS * added
    changed[piece.rows, piece.columns] = np.clip(np.round(whole), 0, GREY_LEVELS).astype(np.uint8)
    return changed

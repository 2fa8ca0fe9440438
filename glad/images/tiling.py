"""The square model images ("tiles") that an original becomes under its framing, and what zones inspect. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glad.image_codec import Pixels, decode_image
from glad.images.placement import Placement, Size, centred, in_patches, letterbox, padded, resample, stretched
from glad.images.preparation import prepare_square
from glad.seeded_noise import digest_noise, fixed_noise, pixel_digest
from glad.settings.embedding import BundlePreparation
from glad.settings.framing import Letterbox, Polygon, Stretch, Tiles, Zones
from glad.settings.method import MethodSettings, NoiseSource

MAX_PLANE_PIXELS = 64_000_000


class PlaneTooLarge(ValueError):
    """The tiles are enlarged so much that their common map would not fit the memory."""


@dataclass(frozen=True)
class Tile:
    """One square of a layout. An image that is not tiled is one tile."""

    index: int
    """Row by row from the top left; part of the noise's seed."""
    x: int
    """Its first column in the plane."""
    y: int
    """Its first row."""


@dataclass(frozen=True)
class TileLayout:
    """The tiles of one original, and the plane that they cover together."""

    side: int
    """Of a tile, in pixels of the model image."""
    placement: Placement
    """Where the original lies in the plane."""
    xs: tuple[int, ...]
    """First columns of the tiles, ascending; there is a tile at every pair of column and row."""
    ys: tuple[int, ...]
    """First rows of the tiles, ascending."""
    via: int | None = None
    """The side to which the original is stretched before all else."""
    how: Image.Resampling = Image.Resampling.LANCZOS

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Return the tiles, row by row."""
        places = [(x, y) for y in self.ys for x in self.xs]
        return tuple(Tile(index, x, y) for index, (x, y) in enumerate(places))

    def tile_pixels(self, pixels: Pixels, tile: Tile) -> Pixels:
        """Return the pixels of a tile, (side, side, 3) with its padding, cut from the upright original (H, W, 3)."""
        place = self.placement
        top, bottom, left, right = self._shown(tile)
        source = pixels if self.via is None else resample(pixels, _whole(pixels), self.via, self.via, self.how)
        across, down = source.shape[1], source.shape[0]
        box = (
            (left - place.left) * across / place.content_width,
            (top - place.top) * down / place.content_height,
            (right - place.left) * across / place.content_width,
            (bottom - place.top) * down / place.content_height,
        )
        content = resample(source, box, right - left, bottom - top, self.how)
        return padded(content, self.side, self.content(tile))

    def content(self, tile: Tile) -> tuple[slice, slice]:
        """Return the rows and columns of a tile that show the original, and not padding."""
        top, bottom, left, right = self._shown(tile)
        return slice(top - tile.y, bottom - tile.y), slice(left - tile.x, right - tile.x)

    def _shown(self, tile: Tile) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right, in the plane, of what a tile shows of the original."""
        place = self.placement
        return (
            max(tile.y, place.top),
            min(tile.y + self.side, place.top + place.content_height),
            max(tile.x, place.left),
            min(tile.x + self.side, place.left + place.content_width),
        )

    def span(self, tile: Tile) -> tuple[slice, slice]:
        """Return a tile's rows and columns in the plane."""
        return slice(tile.y, tile.y + self.side), slice(tile.x, tile.x + self.side)

    def inspected_mask(self, zones: Zones) -> NDArray[np.bool_]:
        """Return the mask (rows, columns) of the plane: true where the image shows and its zones are inspected."""
        inspected_mask = self.placement.valid_pixels()
        if not zones.everywhere:
            place = self.placement
            inspected_mask[place.content] &= zone_mask(zones, place.content_width, place.content_height)
        return inspected_mask


def lay_out(width: int, height: int, settings: MethodSettings) -> TileLayout:
    """Return the layout of an original of this size, in pixels, under the settings' framing.

    Raises:
        PlaneTooLarge: if the plane of all tiles has more than `MAX_PLANE_PIXELS`.
    """
    side = settings.resolution
    match settings.framing:
        case Letterbox():
            return TileLayout(side, letterbox(width, height, side), (0,), (0,))
        case Stretch(via=via):
            return TileLayout(side, stretched(width, height, side), (0,), (0,), via, Image.Resampling.BILINEAR)
        case Tiles() as tiles:
            return _tiled(width, height, side, tiles, settings.scoring_unit)


def _tiled(width: int, height: int, side: int, tiles: Tiles, unit: int) -> TileLayout:
    """Return the layout of the whole image at the scale at which a tile fills a model image.

    The plane is whole steps of `unit` wide and high, so that tiles meet at whole pixels of the scoring resolution too;
    an image smaller than a tile is padded, not enlarged to it.
    """
    scale = side / tiles.side
    content = [max(unit, round(length * scale / unit) * unit) for length in (width, height)]
    columns, rows = (max(side, length) for length in content)
    if rows * columns > MAX_PLANE_PIXELS:
        raise PlaneTooLarge(
            f"tiles of {tiles.side} px become {side}, and the whole image {columns}×{rows} = {columns * rows} pixels; "
            f"the limit is {MAX_PLANE_PIXELS}: give the bundle tiles of a larger side"
        )
    overlap = min(math.ceil(tiles.overlap * scale / unit) * unit, side - unit)
    xs, ys = (_starts(length, side, overlap, unit) for length in (columns, rows))
    return TileLayout(side, centred(Size(columns, rows), Size(*content), Size(width, height)), xs, ys)


def _starts(length: int, side: int, overlap: int, unit: int) -> tuple[int, ...]:
    """Return where tiles begin along a line: the first at 0, the last ending with the line, evenly spread between."""
    if length == side:
        return (0,)
    count = math.ceil((length - overlap) / (side - overlap))
    return tuple((length - side) // unit * index // (count - 1) * unit for index in range(count))


def _whole(pixels: Pixels) -> tuple[float, float, float, float]:
    return 0, 0, pixels.shape[1], pixels.shape[0]


def zone_mask(zones: Zones, width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask (height, width) of the zones drawn at this size: true where an image is inspected.

    A pixel belongs to a polygon that covers its centre or touches it with its outline; it is ignored by `ignore_mask`
    if more than half of it is white there.
    """
    inspected = _filled(zones.include, width, height) if zones.include else np.ones((height, width), dtype=np.bool_)
    inspected &= ~_filled(zones.ignore, width, height)
    if zones.ignore_png is not None:
        white = decode_image(zones.ignore_png).pixels[:, :, 0] > 127
        inspected &= np.asarray(Image.fromarray(white).convert("L").resize((width, height), Image.Resampling.BOX)) < 128
    return inspected


def _filled(polygons: Iterable[Polygon], width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask (height, width) of the polygons: true inside any of them."""
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:  # Pillow's whole numbers are the middles of pixels
        draw.polygon([(x * width - 0.5, y * height - 0.5) for x, y in polygon.points], fill=1, outline=1)
    return np.array(image)


class NothingCounts(ValueError):
    """The zones leave nothing of the image to inspect."""


@dataclass(frozen=True, eq=False)
class ModelInput:
    """The input of one lane: a square model image, its noise and its masks."""

    picture: Pixels
    """(side, side, 3) uint8."""
    image: NDArray[np.float32]
    """The same, prepared for the models: (3, side, side) in [-1, 1]; a normalised exposure may go beyond."""
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
    noise: Callable[[int], NDArray[np.float32]]
    """Of the tile with this index: (C, h, w)."""
    preparation: BundlePreparation

    def model_input(self, tile: Tile) -> ModelInput:
        """Return the model input of a tile: its pixels, its noise and what of it is inspected."""
        side = self.layout.side
        picture = self.layout.tile_pixels(self.pixels, tile)
        inspected_mask = self.inspected_mask[self.layout.span(tile)]
        return ModelInput(
            picture=picture,
            image=self._for_models(picture, tile),
            noise=self.noise(tile.index),
            inspected_pixels=inspected_mask,
            inspected_patches=in_patches(inspected_mask, side // self.latent_shape[1]),
        )

    def _for_models(self, picture: Pixels, tile: Tile) -> NDArray[np.float32]:
        using = self.preparation
        prepared = prepare_square(picture, self.layout.content(tile), using, using.mean)
        return np.ascontiguousarray(prepared.transpose(2, 0, 1))


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
    noise: Callable[[int], NDArray[np.float32]]
    if settings.noise is NoiseSource.FIXED:
        noise = partial(fixed_noise, settings.noise_seed, latent_shape)
    else:  # hashed once for all tiles
        noise = partial(digest_noise, pixel_digest(pixels, settings.noise_seed), latent_shape)
    return FramedImage(pixels, layout, inspected_mask, tiles, latent_shape, noise, settings.preparation)

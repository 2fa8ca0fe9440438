"""MemSeg's anomalies as its published code draws them (Yang et al., 2023): two sources in a Perlin shape.

A texture, or the product's own image cut into 8 x 8 tiles and shuffled, each after three of ten changes of colour and
geometry. `SynthesisRecipe.overlays` chooses between this and this project's variation of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from training.synthesis.patterns import Floats, Unit

CHANGES_AT_ONCE = 3
BEYOND_EDGE = 0.21
"""Share of the side mirrored around a picture, so that turned by 45 degrees it still fills the square: (√2 - 1) / 2."""


def memseg_changes(rng: np.random.Generator, image: Unit) -> Floats:
    """Return the image (S, S, 3) in [0, 1] after three different ones of `CHANGES`, in random order."""
    picture = Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    for index in rng.choice(len(CHANGES), CHANGES_AT_ONCE, replace=False):
        picture = CHANGES[index](rng, picture)
    return np.asarray(np.asarray(picture, dtype=np.float32) / 255, dtype=np.float32)


def _gamma(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Return each channel with a gamma of its own."""
    levels = np.arange(256) / 255
    return picture.point(np.concatenate([255 * levels**gamma for gamma in rng.uniform(0.5, 2.0, 3)]).round().tolist())


def _brightness(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    levels = np.clip(np.arange(256) * rng.uniform(0.8, 1.2) + rng.uniform(-30, 30), 0, 255)
    return picture.point(levels.round().tolist() * 3)


def _sharpness(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    return ImageEnhance.Sharpness(picture).enhance(rng.uniform(0, 3))


def _hue_and_saturation(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    hue, saturation, value = (np.asarray(band).astype(int) for band in picture.convert("HSV").split())
    hue = (hue + int(rng.integers(-50, 51))) % 256
    saturation = np.clip(saturation + int(rng.integers(-50, 51)), 0, 255)
    bands = [Image.fromarray(band.astype(np.uint8)) for band in (hue, saturation, value)]
    return Image.merge("HSV", bands).convert("RGB")


def _solarised(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    return ImageOps.solarize(picture, int(rng.integers(32, 129)))


def _posterised(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    return ImageOps.posterize(picture, int(rng.integers(1, 8)))


def _inverted(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    return ImageOps.invert(picture)


def _stretched(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Return the picture with its contrast stretched; a few of the darkest and brightest pixels are cut off."""
    return ImageOps.autocontrast(picture, cutoff=int(rng.integers(0, 20)))


def _equalised(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    return ImageOps.equalize(picture)


def _turned(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Return the picture turned by up to 45 degrees, mirrored beyond its edges: black corners would be no texture."""
    around = int(np.ceil(BEYOND_EDGE * picture.width))
    wide = np.pad(np.asarray(picture), ((around, around), (around, around), (0, 0)), mode="symmetric")
    turned = Image.fromarray(wide).rotate(float(rng.uniform(-45, 45)), Image.Resampling.BILINEAR)
    return turned.crop((around, around, around + picture.width, around + picture.height))


CHANGES: tuple[Callable[[np.random.Generator, Image.Image], Image.Image], ...] = (
    _gamma,
    _brightness,
    _sharpness,
    _hue_and_saturation,
    _solarised,
    _posterised,
    _inverted,
    _stretched,
    _equalised,
    _turned,
)

"""Good images spoiled as lamps, lenses and empty fixtures spoil them, and changed as any line changes them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from glad.image_codec import Pixels
from glad.quality_gate.limits import QualityCheck

GAMMA = 2.2
"""Grey levels grow with light to the power of 1 / GAMMA."""

Spoil = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True)
class Spoiling:
    """A way to spoil an image, at one strength."""

    name: str
    expected: QualityCheck | None
    """The check that should stop it; None: none."""
    apply: Spoil


def light(stops: float) -> Spoil:
    """Return a change of the light by this many stops; negative values make the image darker."""
    return partial(_lit, factor=2 ** (stops / GAMMA))


def _lit(pixels: Pixels, rng: np.random.Generator, *, factor: float) -> Pixels:
    return _bytes(pixels * np.float32(factor))


def blur(share: float) -> Spoil:
    """Return a Gaussian blur whose sigma is this share of the longer side."""
    return partial(_blurred, share=share)


def _blurred(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(share * max(pixels.shape))))


def defocus(share: float) -> Spoil:
    """Return a blur by a disc whose radius is this share of the longer side: a lens out of focus."""
    return partial(_defocused, share=share)


def _defocused(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    radius = share * max(pixels.shape)
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    channels = [
        ndimage.convolve(pixels[..., c].astype(np.float32), disc / disc.sum(), mode="nearest") for c in range(3)
    ]
    return _bytes(np.stack(channels, axis=-1))


def motion(share: float) -> Spoil:
    """Return a motion blur along x over this share of the longer side."""
    return partial(_moved, share=share)


def _moved(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    length = max(1, round(share * max(pixels.shape)))
    return _bytes(ndimage.uniform_filter1d(pixels.astype(np.float32), length, axis=1, mode="nearest"))


def noise(sigma: float) -> Spoil:
    """Return Gaussian noise of this many grey levels."""
    return partial(_noised, sigma=sigma)


def _noised(pixels: Pixels, rng: np.random.Generator, *, sigma: float) -> Pixels:
    return _bytes(pixels + rng.normal(0, sigma, pixels.shape))


def in_turn(*steps: Spoil) -> Spoil:
    """Return these changes, applied one after the other."""
    return partial(_in_turn, steps=steps)


def _in_turn(pixels: Pixels, rng: np.random.Generator, *, steps: tuple[Spoil, ...]) -> Pixels:
    for step in steps:
        pixels = step(pixels, rng)
    return pixels


def _surface(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a bare surface as bright as the image, with a camera's noise."""
    return _noised(np.full_like(pixels, round(float(pixels.mean()))), rng, sigma=3)


def _capped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _bytes(rng.normal(0, 2, pixels.shape))


def _turned(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(pixels[::-1, ::-1])


def _jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def _halved(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(Image.fromarray(pixels).reduce(2))


def _shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    by = round(0.03 * max(pixels.shape))
    return np.asarray(np.pad(pixels, ((by, 0), (by, 0), (0, 0)), mode="edge")[:-by, :-by])


def _bytes(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


SPOILINGS: tuple[Spoiling, ...] = (
    Spoiling("as it is", None, in_turn()),
    Spoiling("1/3 stop darker", None, light(-1 / 3)),
    Spoiling("1/3 stop brighter", None, light(1 / 3)),
    Spoiling("noise of 8 grey levels", None, noise(8)),
    Spoiling("JPEG quality 50", None, _jpeg),
    Spoiling("half the resolution", None, _halved),
    Spoiling("shifted by 3 %", None, _shifted),
    Spoiling("1 stop darker", QualityCheck.TOO_DARK, light(-1)),
    Spoiling("2 stops darker", QualityCheck.TOO_DARK, light(-2)),
    Spoiling("4 stops darker", QualityCheck.TOO_DARK, light(-4)),
    Spoiling("camera cap on", QualityCheck.TOO_DARK, _capped),
    Spoiling("1 stop brighter", QualityCheck.TOO_BRIGHT, light(1)),
    Spoiling("2 stops brighter", QualityCheck.TOO_BRIGHT, light(2)),
    Spoiling("4 stops brighter", QualityCheck.TOO_BRIGHT, light(4)),
    Spoiling("blurred, sigma 0.4 %", QualityCheck.BLURRED, blur(0.004)),
    Spoiling("blurred, sigma 0.6 %", QualityCheck.BLURRED, blur(0.006)),
    Spoiling("blurred, sigma 0.8 %", QualityCheck.BLURRED, blur(0.008)),
    Spoiling("blurred, sigma 1.2 %", QualityCheck.BLURRED, blur(0.012)),
    Spoiling("out of focus, radius 1 %", QualityCheck.BLURRED, defocus(0.01)),
    Spoiling("out of focus, radius 2 %", QualityCheck.BLURRED, defocus(0.02)),
    Spoiling("moved by 3 %", QualityCheck.BLURRED, motion(0.03)),
    Spoiling("moved by 5 %", QualityCheck.BLURRED, motion(0.05)),
    Spoiling("blurred 0.8 %, noise of 4", QualityCheck.BLURRED, in_turn(blur(0.008), noise(4))),
    Spoiling(
        "out of focus 2 %, 1/2 stop darker, noise of 4",
        QualityCheck.BLURRED,
        in_turn(defocus(0.02), light(-0.5), noise(4)),
    ),
    Spoiling("a bare surface", QualityCheck.NO_PART, _surface),
    Spoiling("turned by 180°", QualityCheck.NO_PART, _turned),
)

"""From linear light to the sensor's bytes: lens, exposure, white balance, noise and tone curve."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.sample_product.geometry import SIDE, Field, image_axes


@dataclass(frozen=True)
class Camera:
    """One exposure. blur: sigma in pixels; noise: grey levels of read noise; balance: gains of R, G, B."""

    exposure: float
    balance: tuple[float, float, float]
    blur: float
    noise: float
    vignette: float


def expose(
    scene: Field, camera: Camera, gradient: tuple[float, float], noise_rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture of a scene in linear light, (SIDE, SIDE, 3), as the camera hands it out: RGB bytes."""
    x, y = image_axes()
    fall_off = 1 - np.float32(camera.vignette) * (x * x + y * y) / np.float32(2 * (SIDE / 2) ** 2)
    fall_off = fall_off * (1 + (np.float32(gradient[0]) * x + np.float32(gradient[1]) * y) / np.float32(SIDE / 2))
    gains = np.float32(camera.exposure) * np.asarray(camera.balance, dtype=np.float32)
    light = ndimage.gaussian_filter(scene, (camera.blur, camera.blur, 0), truncate=3.5)
    light *= fall_off[..., None] * gains
    grey = tone_curve(light) * np.float32(255)
    grey += _sensor_noise(grey, camera.noise, noise_rng)
    image: NDArray[np.uint8] = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return image


def tone_curve(light: Field) -> Field:
    """Linear light to display values in [0, 1): sRGB-like, with a soft shoulder where metal glares."""
    film = 1 - np.exp(np.float32(-2.0) * np.maximum(light, 0))
    toned: Field = film ** np.float32(1 / 1.45)
    return toned


def _sensor_noise(grey: Field, level: float, rng: np.random.Generator) -> Field:
    """Shot and read noise in grey levels, mostly common to the three colours as after demosaicing."""
    common = rng.standard_normal((SIDE, SIDE, 1), dtype=np.float32)
    colour = rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    spread = np.float32(level) * (np.float32(0.7) + np.float32(0.0024) * grey)
    noise: Field = spread * (np.float32(0.8) * common + np.float32(0.55) * colour)
    return noise

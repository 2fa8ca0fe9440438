"""The light over the bench, what surfaces send back of it, and the camera that turns it into bytes.

Luminances are linear; 1 is a white sheet in full light.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.sample_product.geometry import SIDE, Field, Grid, image_axes, length

VIEW_DISTANCE = 620.0  # pixels; how fast the mirror direction turns across the picture


@dataclass(frozen=True)
class SceneLight:
    """A large softbox and the room.

    x, y: the mirror direction in which the softbox stands, 0.4 or so from up.
    """

    x: float
    y: float
    key: float
    room: float
    gradient_x: float
    gradient_y: float

    @property
    def toward(self) -> tuple[float, float]:
        """The unit vector in the picture that points toward the softbox."""
        away = float(np.hypot(self.x, self.y))
        return self.x / away, self.y / away


def normal_tilt(height: Field) -> tuple[Field, Field]:
    """Return the tilt (x, y) of the surface normals of a height field in pixels: unit normals without their z."""
    slope_y, slope_x = np.gradient(height)
    normal = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    tilt_x: Field = -slope_x / normal
    tilt_y: Field = -slope_y / normal
    return tilt_x, tilt_y


def diffuse(tilt_x: Field, tilt_y: Field, light: SceneLight) -> Field:
    """Return Lambert's share of softbox and room, 1 for a face that looks up."""
    upward = np.sqrt(np.maximum(1 - tilt_x * tilt_x - tilt_y * tilt_y, 0))
    steep = 1.15
    facing = np.maximum(upward + np.float32(steep * light.x) * tilt_x + np.float32(steep * light.y) * tilt_y, 0)
    lit: Field = np.float32(light.key) * facing + np.float32(light.room) * upward
    return lit / np.float32(light.key + light.room)


def mirrored(tilt: Field, upward: Field, position: Field) -> Field:
    """Return one component of the direction in which a tilted face at a position mirrors the camera's view."""
    direction: Field = 2 * tilt * upward + position / np.float32(VIEW_DISTANCE)
    return direction


def softbox(off_x: Field, off_y: Field, spread_x: float, spread_y: float) -> Field:
    """Return how much of the softbox a face mirrors, in [0, 1].

    The mirror direction of the face is off the softbox by (off_x, off_y).
    """
    mirrored_share: Field = np.exp(
        off_x * off_x * np.float32(-0.5 / spread_x**2) + off_y * off_y * np.float32(-0.5 / spread_y**2)
    )
    return mirrored_share


def mirror_room(tilt_x: Field, tilt_y: Field, grid: Grid, light: SceneLight, spread: tuple[float, float]) -> Field:
    """Return what a metal face mirrors: softbox, weaker window opposite, ceiling.

    spread: its roughness across x and y.
    """
    upward = np.sqrt(np.maximum(1 - tilt_x * tilt_x - tilt_y * tilt_y, 0))
    direction_x, direction_y = mirrored(tilt_x, upward, grid.x), mirrored(tilt_y, upward, grid.y)
    key = softbox(direction_x - np.float32(light.x), direction_y - np.float32(light.y), *spread)
    window = softbox(direction_x + np.float32(1.5 * light.x), direction_y + np.float32(1.5 * light.y), *spread)
    mirrored_light: Field = np.float32(light.key) * (key + np.float32(0.35) * window) + np.float32(0.45 * light.room)
    return mirrored_light


def turned_metal(from_x: Field, from_y: Field, grid: Grid, light: SceneLight, width: float) -> Field:
    """Return the two bright fans that a lathe's rings mirror about their centre.

    from_x, from_y: pixels from that centre.
    """
    radius = np.maximum(length(from_x, from_y), np.float32(1))
    off_x = np.float32(light.x) - grid.x / np.float32(VIEW_DISTANCE)
    off_y = np.float32(light.y) - grid.y / np.float32(VIEW_DISTANCE)
    along_ring = (off_y * from_x - off_x * from_y) / radius
    fans: Field = np.exp(along_ring * along_ring * np.float32(-0.5 / width**2))
    return np.float32(light.key) * fans + np.float32(0.45 * light.room)


def cast_shadow(distance: Field, softness: float, strength: float) -> Field:
    """Return the factor left of the light near a shape of a (shifted) signed distance; 1 from softness / 2 outward."""
    covered = np.clip(np.float32(0.5) - distance / np.float32(softness), 0, 1)
    left: Field = 1 - np.float32(strength) * covered * covered * (3 - 2 * covered)
    return left


def crevice(distance: Field, reach: float, strength: float) -> Field:
    """Return the factor left of the room's light beside a raised shape, reach pixels wide; exactly 1 beyond."""
    near = np.clip(1 - np.maximum(distance, 0) / np.float32(reach), 0, 1)
    left: Field = 1 - np.float32(strength) * near * near
    return left


@dataclass(frozen=True)
class CameraExposure:
    """The settings of an exposure.

    blur: sigma in pixels; noise: grey levels of read noise; balance: gains of R, G, B.
    """

    exposure: float
    balance: tuple[float, float, float]
    blur: float
    noise: float
    vignette: float


def expose(
    scene: Field, camera: CameraExposure, gradient: tuple[float, float], noise_rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the picture of a scene in linear light, (SIDE, SIDE, 3), as the camera hands it out: RGB bytes."""
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
    """Return display values in [0, 1) of linear light: sRGB-like, with a soft shoulder where metal glares."""
    film = 1 - np.exp(np.float32(-2.0) * np.maximum(light, 0))
    toned: Field = film ** np.float32(1 / 1.45)
    return toned


def _sensor_noise(grey: Field, level: float, rng: np.random.Generator) -> Field:
    """Return shot and read noise in grey levels, mostly common to the three colours as after demosaicing."""
    common = rng.standard_normal((SIDE, SIDE, 1), dtype=np.float32)
    colour = rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    spread = np.float32(level) * (np.float32(0.7) + np.float32(0.0024) * grey)
    noise: Field = spread * (np.float32(0.8) * common + np.float32(0.55) * colour)
    return noise

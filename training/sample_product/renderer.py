"""A picture of the sample product, whole or with a defect, and the mask of that defect."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.sample_product.fittings import PartFinish
from training.sample_product.flaws import DEFECTS, NO_FLAWS, SEVERITIES, Flaws, draw_flaws, flaw_mask
from training.sample_product.geometry import LABEL, PIN_X, SCREWS, Grid, Pose, grid_of
from training.sample_product.light import CameraExposure, SceneLight, expose
from training.sample_product.paint import paint, paint_empty

RENDERER_VERSION = 1


class Stream(IntEnum):
    """The purposes of random streams; each has its own, so that a defect never changes part, camera or noise."""

    PART = 0
    TEXTURE = 1
    SETUP = 2
    NOISE = 3
    DEFECT = 4


class Lamp(StrEnum):
    """Where the softbox stands: all else of a picture, its defect too, stays as it is."""

    USUAL = "usual"
    """Above the left edge of the picture."""
    OPPOSITE = "opposite"
    """Below the right edge: a lamp that was moved, or a second line."""


@dataclass(frozen=True)
class RenderedPart:
    """A picture (512, 512, 3), RGB, and where it is defective (512, 512); a good part's mask is False everywhere."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def render(
    seed: int | Sequence[int], defect: str | None = None, severity: int | None = None, lamp: Lamp = Lamp.USUAL
) -> RenderedPart:
    """Return the part of a seed, good or with one defect of a severity (1 to 3, 3 worst).

    The same arguments give the same bytes. A good part is the same picture as a defective one of its seed, but for the
    defect.

    Raises:
        ValueError: an unknown defect or severity, or only one of the two.
    """
    entropy = (seed,) if isinstance(seed, int) else tuple(seed)
    flaws = _flaws(entropy, defect, severity)
    part = _draw_part(entropy)
    setup = _rng(entropy, Stream.SETUP)
    pose, light, camera = _draw_pose(setup), _draw_light(setup, lamp), _draw_camera(setup)
    grid = grid_of(pose)
    label_grid = _label_grid(grid, part.label)
    scene = paint(part, flaws, grid, label_grid, light)
    image = expose(scene, camera, (light.gradient_x, light.gradient_y), _rng(entropy, Stream.NOISE))
    return RenderedPart(image, flaw_mask(flaws, grid, label_grid))


def render_empty(seed: int) -> NDArray[np.uint8]:
    """Return the fixture without a part, (512, 512, 3), under the light and camera that this seed's part would have."""
    setup = _rng((seed,), Stream.SETUP)
    _draw_pose(setup)
    light, camera = _draw_light(setup), _draw_camera(setup)
    return expose(paint_empty(light), camera, (light.gradient_x, light.gradient_y), _rng((seed,), Stream.NOISE))


def _sequence(entropy: tuple[int, ...], *purpose: int) -> np.random.SeedSequence:
    # The length goes in: SeedSequence takes (1,) and (1, 0) for the same.
    return np.random.SeedSequence((len(entropy), *entropy), spawn_key=purpose)


def _rng(entropy: tuple[int, ...], *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(_sequence(entropy, *purpose)))


def _flaws(entropy: tuple[int, ...], defect: str | None, severity: int | None) -> Flaws:
    if defect is None and severity is None:
        return NO_FLAWS
    if defect not in DEFECTS:
        raise ValueError(f"unknown defect {defect!r}; choose one of {', '.join(DEFECTS)}, or None with severity None")
    if severity not in SEVERITIES:
        raise ValueError(f"unknown severity {severity!r} of {defect}; choose one of {', '.join(map(str, SEVERITIES))}")
    return draw_flaws(defect, severity, _rng(entropy, Stream.DEFECT, DEFECTS.index(defect), severity))


def _draw_part(entropy: tuple[int, ...]) -> PartFinish:
    rng = _rng(entropy, Stream.PART)
    return PartFinish(
        texture=tuple(int(word) for word in _sequence(entropy, Stream.TEXTURE).generate_state(4)),
        reflectance=float(rng.uniform(0.95, 1.05)),
        warmth=float(rng.uniform(-0.012, 0.022)),
        head_angles=tuple(float(angle) for angle in rng.uniform(0, np.pi / 3, len(SCREWS))),
        head_shades=tuple(float(shade) for shade in rng.uniform(0.92, 1.08, len(SCREWS))),
        pin_wobble=tuple(float(shift) for shift in rng.uniform(-0.5, 0.5, len(PIN_X))),
        label=Pose(
            float(rng.uniform(-1.5, 1.5)), float(rng.uniform(-1.5, 1.5)), np.radians(float(rng.uniform(-0.7, 0.7)))
        ),
    )


def _draw_pose(rng: np.random.Generator) -> Pose:
    shift_x, shift_y = (float(shift) for shift in rng.uniform(-4, 4, 2))
    return Pose(shift_x, shift_y, np.radians(float(rng.uniform(-1, 1))), float(rng.uniform(0.995, 1.005)))


def _draw_light(rng: np.random.Generator, lamp: Lamp = Lamp.USUAL) -> SceneLight:
    turned = 180 if lamp is Lamp.OPPOSITE else 0
    azimuth = np.radians(float(rng.uniform(-135, -105)) + turned)
    away = float(rng.uniform(0.36, 0.46))
    return SceneLight(
        x=float(np.cos(azimuth)) * away,
        y=float(np.sin(azimuth)) * away,
        key=float(rng.uniform(0.94, 1.06)),
        room=float(rng.uniform(0.42, 0.52)),
        gradient_x=float(rng.uniform(-0.05, 0.05)),
        gradient_y=float(rng.uniform(-0.05, 0.05)),
    )


def _draw_camera(rng: np.random.Generator) -> CameraExposure:
    red, blue = (float(gain) for gain in rng.uniform(0.98, 1.02, 2))
    return CameraExposure(
        exposure=float(rng.uniform(0.92, 1.08)),
        balance=(red, 1.0, blue),
        blur=float(rng.uniform(0.4, 1.1)),
        noise=float(rng.uniform(1.5, 3.0)),
        vignette=float(rng.uniform(0.12, 0.22)),
    )


def _label_grid(grid: Grid, stuck: Pose) -> Grid:
    """Return coordinates in which the label lies straight, turned about its own centre."""
    x, y = stuck.to_part(grid.x - np.float32(LABEL.x), grid.y - np.float32(LABEL.y))
    return Grid(x + np.float32(LABEL.x), y + np.float32(LABEL.y), grid.rows, grid.columns)


OUTLINE = np.array([255, 64, 200], dtype=np.float32)


def contact_sheet(seed: int) -> NDArray[np.uint8]:
    """Return a sheet of the sample product for viewing: (6 * 512, 4 * 512, 3).

    Rows are defects, columns the good twin and severities 1, 2, 3, with the masks outlined.
    """
    good = render(seed).image
    rows = [
        np.hstack([good, *(_outlined(render(seed, defect, severity)) for severity in SEVERITIES)]) for defect in DEFECTS
    ]
    return np.vstack(rows)


def _outlined(sample: RenderedPart) -> NDArray[np.uint8]:
    near, nearer = (ndimage.binary_dilation(sample.mask, iterations=steps) for steps in (4, 3))
    image = sample.image.astype(np.float32)
    image[near & ~nearer] = 0.4 * image[near & ~nearer] + 0.6 * OUTLINE
    return image.astype(np.uint8)

"""Paint what is fitted to the plate: the connector with its pins, the screws, and the bare thread of a missing one."""

from dataclasses import dataclass

import numpy as np

from training.sample_product import geometry as geo
from training.sample_product.canvas import (
    ALUMINIUM,
    BLACKENED_STEEL,
    GOLD,
    PLASTIC,
    ZINC,
    cover,
    darken,
    grain,
    revolved_tilt,
    shadow_grid,
    tinted,
)
from training.sample_product.flaws import Flaws
from training.sample_product.geometry import SIDE, Box, Disc, Field, Grid, Pose, coverage, smooth_step
from training.sample_product.light import (
    SceneLight,
    cast_shadow,
    crevice,
    diffuse,
    mirror_room,
    normal_tilt,
    turned_metal,
)


@dataclass(frozen=True)
class PartFinish:
    """The properties that differ from part to part.

    texture: its brushed face's seed; label: its pose about the label's place.
    """

    texture: tuple[int, ...]
    reflectance: float
    warmth: float
    head_angles: tuple[float, ...]
    head_shades: tuple[float, ...]
    pin_wobble: tuple[float, ...]
    label: Pose


def _housing_height(window: Grid) -> Field:
    """Return the connector's moulded body: a rounded edge, a latch ridge, eight windows over the contacts."""
    edge = geo.box_distance(window.x, window.y, geo.HOUSING)
    height: Field = -np.float32(5) * smooth_step((edge + 5) / 5) ** 2
    height += np.float32(4) * smooth_step(
        -geo.box_distance(window.x, window.y, Box(40, 51, 36, 4.5, 2)) / 3 + np.float32(0.3)
    )
    for pin_x in geo.PIN_X:
        height -= np.float32(4) * smooth_step(-geo.box_distance(window.x, window.y, _contact_window(pin_x)) / 3)
    return height


def _contact_window(pin_x: float) -> Box:
    return Box(pin_x, 74, 6.5, 9, 1.5)


def paint_connector(canvas: Field, grid: Grid, part: PartFinish, flaws: Flaws, light: SceneLight) -> None:
    bends = [bend + wobble for bend, wobble in zip(flaws.pin_bend, part.pin_wobble, strict=True)]
    for pin, bend in enumerate(bends):
        _shade_under_pin(canvas, grid.around(geo.pin_window(pin), 0), pin, bend, light)
    for pin, bend in enumerate(bends):
        _paint_pin(canvas, grid.around(geo.pin_window(pin), 0), pin, bend, light)
    _paint_housing(canvas, grid.around(geo.HOUSING, 22), light)


def _shade_under_pin(canvas: Field, window: Grid, pin: int, bend: float, light: SceneLight) -> None:
    shifted = shadow_grid(window, light, 5)
    darken(canvas, window, cast_shadow(geo.pin_distance(shifted.x, shifted.y, pin, bend), 5, 0.6))


def _paint_pin(canvas: Field, window: Grid, pin: int, bend: float, light: SceneLight) -> None:
    distance = geo.pin_distance(window.x, window.y, pin, bend)
    along = np.clip((window.y - np.float32(geo.PIN_TOP)) / np.float32(geo.PIN_LENGTH), 0, 1)
    centre = np.float32(geo.PIN_X[pin]) + np.float32(bend) * along ** np.float32(1.5)
    across = np.clip((window.x - centre) / np.float32(geo.PIN_HALF_WIDTH), -1, 1)
    tilt_x = np.float32(0.72) * across * np.abs(across) ** np.float32(0.7)
    tilt_y = np.float32(0.5) * smooth_step((along - np.float32(0.84)) * 6) + np.float32(0.05)
    drawn = grain(SIDE, 0.8, 7)[window.rows, window.columns]
    tilt_x = tilt_x + np.float32(0.012) * drawn
    luminance = np.float32(0.12) * diffuse(tilt_x, tilt_y, light)
    luminance += np.float32(0.92) * mirror_room(tilt_x, tilt_y, window, light, (0.17, 0.55))
    luminance *= np.float32(0.62) + np.float32(0.38) * smooth_step(along * 4)
    cover(canvas, window, tinted(luminance, GOLD), coverage(distance))


def _paint_housing(canvas: Field, window: Grid, light: SceneLight) -> None:
    edge = geo.box_distance(window.x, window.y, geo.HOUSING)
    shifted = shadow_grid(window, light, 9)
    shadow = cast_shadow(geo.box_distance(shifted.x, shifted.y, geo.HOUSING), 10, 0.72)
    darken(canvas, window, shadow * crevice(edge, 8, 0.4))
    noise = grain(SIDE, 0.8, 8)[window.rows, window.columns]
    tilt_x, tilt_y = normal_tilt(_housing_height(window) + np.float32(0.10) * noise)
    gloss = mirror_room(tilt_x, tilt_y, window, light, (0.30, 0.30))
    layer = tinted(diffuse(tilt_x, tilt_y, light), PLASTIC) + np.float32(0.042) * gloss[..., None]
    for pin_x in geo.PIN_X:
        box = _contact_window(pin_x)
        layer *= 1 - np.float32(0.82) * coverage(geo.box_distance(window.x, window.y, box) + 1, 1.5)[..., None]
        contact = coverage(geo.box_distance(window.x, window.y, Box(box.x, box.y + 1.5, 2.6, 6, 1)), 1.2)
        layer += tinted(contact * np.float32(0.30 * light.key), GOLD)
    mark = coverage(geo.disc_distance(window.x, window.y, Disc(geo.PIN_X[0] - 9.5, 90, 3)))
    layer += np.float32(0.5) * mark[..., None]
    cover(canvas, window, layer, coverage(edge))


def _screw_grids(grid: Grid, screw: int) -> tuple[Grid, Field, Field, Field]:
    """Return the window of a screw, pixels from its centre (x, y) and the distance from it."""
    window = grid.around(geo.screw_window(screw), 0)
    from_x, from_y = window.x - np.float32(geo.SCREWS[screw][0]), window.y - np.float32(geo.SCREWS[screw][1])
    return window, from_x, from_y, geo.length(from_x, from_y)


def paint_screw(canvas: Field, grid: Grid, screw: int, part: PartFinish, light: SceneLight) -> None:
    window, from_x, from_y, radius = _screw_grids(grid, screw)
    shifted = shadow_grid(Grid(from_x, from_y, window.rows, window.columns), light, 2.5)
    shade = cast_shadow(geo.length(shifted.x, shifted.y) - geo.WASHER_RADIUS, 5, 0.6)
    darken(canvas, window, shade * crevice(radius - geo.WASHER_RADIUS, 6, 0.35))
    washer = _washer(window, from_x, from_y, radius, light)
    shifted = shadow_grid(Grid(from_x, from_y, window.rows, window.columns), light, 6)
    shade = cast_shadow(geo.length(shifted.x, shifted.y) - geo.HEAD_RADIUS, 8, 0.75) * crevice(
        radius - geo.HEAD_RADIUS, 4, 0.5
    )
    cover(canvas, window, washer * shade[..., None], coverage(radius - np.float32(geo.WASHER_RADIUS)))
    head = _head(window, from_x, from_y, part.head_angles[screw], light) * np.float32(part.head_shades[screw])
    cover(canvas, window, head, coverage(radius - np.float32(geo.HEAD_RADIUS)))


def _washer(window: Grid, from_x: Field, from_y: Field, radius: Field, light: SceneLight) -> Field:
    edge = smooth_step((radius - np.float32(geo.WASHER_RADIUS - 3)) / 3)
    tilt_x, tilt_y = revolved_tilt(np.float32(0.5) * edge, from_x, from_y)
    luminance = np.float32(0.18) * diffuse(tilt_x, tilt_y, light)
    luminance += np.float32(0.60) * turned_metal(from_x, from_y, window, light, 0.15) * (1 - edge)
    luminance += np.float32(0.60) * mirror_room(tilt_x, tilt_y, window, light, (0.3, 0.3)) * edge
    return tinted(luminance * (1 + np.float32(0.03) * np.sin(radius * np.float32(3.1))), ZINC)


def _head(window: Grid, from_x: Field, from_y: Field, angle: float, light: SceneLight) -> Field:
    """Return a blackened cap with a rounded edge and a hexagon socket at an angle."""
    radius = geo.length(from_x, from_y)
    bevel = np.float32(0.70) * smooth_step((radius - np.float32(geo.HEAD_RADIUS - 4.5)) / 5)
    rim = np.float32(-0.5) * np.exp(-((radius - np.float32(11.6)) ** 2) / np.float32(1.6))
    tilt_x, tilt_y = revolved_tilt(bevel + rim, from_x, from_y)
    luminance = np.float32(0.10) * diffuse(tilt_x, tilt_y, light)
    luminance += np.float32(0.85) * mirror_room(tilt_x, tilt_y, window, light, (0.20, 0.20))
    luminance += np.float32(0.55) * turned_metal(from_x, from_y, window, light, 0.12) * (bevel < 0.1)
    hexagon = geo.hexagon_distance(from_x, from_y, 9.2, angle)
    luminance += coverage(hexagon, 1.2) * (_socket(from_x, from_y, hexagon, light) - luminance)
    return tinted(luminance, BLACKENED_STEEL)


def _socket(from_x: Field, from_y: Field, hexagon: Field, light: SceneLight) -> Field:
    """Return the light down in the hexagon: dark, but for the walls that face the softbox and a dull bottom."""
    toward_x, toward_y = light.toward
    facing = np.clip(-(from_x * np.float32(toward_x) + from_y * np.float32(toward_y)) / 9, 0, 1)
    wall = np.exp(-((hexagon + np.float32(1.8)) ** 2) / 2)
    lit: Field = np.float32(0.05) + np.float32(0.75) * wall * facing + np.float32(0.10) * smooth_step(-hexagon / 7)
    return lit


def paint_thread(canvas: Field, grid: Grid, screw: int, light: SceneLight) -> None:
    """Paint a bare seat: a tapped hole with its countersink, and the faint ring that the washer left."""
    window, from_x, from_y, radius = _screw_grids(grid, screw)
    ring = coverage(radius - np.float32(geo.WASHER_RADIUS), 2)
    print_edge = np.exp(-((radius - np.float32(geo.WASHER_RADIUS - 1.5)) ** 2) / 2)
    darken(canvas, window, 1 - np.float32(0.07) * ring - np.float32(0.16) * print_edge * ring)
    sink = np.float32(-0.6) * smooth_step((np.float32(geo.THREAD_RADIUS + 4) - radius) / 1.5)
    tilt_x, tilt_y = revolved_tilt(sink, from_x, from_y)
    cone = np.float32(0.15) * diffuse(tilt_x, tilt_y, light)
    cone += np.float32(0.55) * mirror_room(tilt_x, tilt_y, window, light, (0.3, 0.3))
    cover(canvas, window, tinted(cone, ALUMINIUM), coverage(radius - np.float32(geo.THREAD_RADIUS + 4)))
    toward_x, toward_y = light.toward
    facing = np.clip(-(from_x * np.float32(toward_x) + from_y * np.float32(toward_y)) / geo.THREAD_RADIUS, 0, 1)
    threads = np.float32(0.5) + np.float32(0.5) * np.sin(radius * np.float32(2.6) + np.arctan2(from_y, from_x))
    hole = np.float32(0.012) + np.float32(0.30) * facing * threads * smooth_step((radius - 5) / 6)
    cover(canvas, window, tinted(hole, (1.0, 1.0, 1.0)), coverage(radius - np.float32(geo.THREAD_RADIUS)))

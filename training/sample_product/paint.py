"""Paint a part on its bench, layer over layer from below: bench, plate, label, stain, connector, pins, screws."""

from functools import cache

import numpy as np
from scipy import ndimage

from training.sample_product import geometry as geo
from training.sample_product.canvas import (
    ALUMINIUM,
    POCKET_FLOOR,
    TEXTURE_MARGIN,
    brushed_texture,
    cover,
    darken,
    grain,
    revolved_tilt,
    shadow_grid,
    tinted,
)
from training.sample_product.fittings import PartFinish, paint_connector, paint_screw, paint_thread
from training.sample_product.flaws import Dent, Flaws, Scratch, Stain, dent_relief, scratch_profile, stain_opacity
from training.sample_product.geometry import SIDE, Box, Disc, Field, Grid, Pose, coverage, smooth_step
from training.sample_product.label import INK_SCALE, label_ink
from training.sample_product.light import (
    SceneLight,
    cast_shadow,
    crevice,
    diffuse,
    mirror_room,
    normal_tilt,
    turned_metal,
)


def paint(part: PartFinish, flaws: Flaws, grid: Grid, label_grid: Grid, light: SceneLight) -> Field:
    """Return the picture before the lens: (SIDE, SIDE, 3), linear light."""
    canvas = _bench(light, grid)
    cover(canvas, grid, _plate(part, flaws, grid, light), coverage(geo.plate_distance(grid.x, grid.y)))
    _stick_label(canvas, label_grid, flaws, light)
    if flaws.stain is not None:
        _spill(canvas, grid, flaws.stain)
    paint_connector(canvas, grid, part, flaws, light)
    for screw in range(len(geo.SCREWS)):
        if screw in flaws.missing_screws:
            paint_thread(canvas, grid, screw, light)
        else:
            paint_screw(canvas, grid, screw, part, light)
    return canvas


def paint_empty(light: SceneLight) -> Field:
    """Return the bench with no part on it, before the lens: (SIDE, SIDE, 3), linear light."""
    return _bench(light, geo.grid_of(Pose(4.0 * SIDE)))  # the part lies so far away that it casts no shadow here


STOPS = (Disc(-239, -86, 19), Disc(-239, 104, 19), Disc(30, 221, 19), Disc(239, 40, 17), Disc(-60, -219, 17))


@cache
def _bench_relief() -> Field:
    """Return the height of the fixture that stays under the camera: (SIDE, SIDE), read only.

    It is blasted steel with two grooves.
    """
    x, y = geo.image_axes()
    groove = smooth_step((5 - np.abs(np.abs(x + 0 * y) - 247)) / 2) + smooth_step(
        (4 - np.abs(np.abs(y + 0 * x) - 246)) / 2
    )
    relief: Field = (-2.0 * np.minimum(groove, 1) + 0.22 * grain(SIDE, 0.9, 1) + 0.5 * grain(SIDE, 3.0, 2)).astype(
        np.float32
    )
    relief.setflags(write=False)
    return relief


def _bench(light: SceneLight, grid: Grid) -> Field:
    camera = geo.grid_of(Pose())
    tilt_x, tilt_y = normal_tilt(_bench_relief())
    gloss = mirror_room(tilt_x, tilt_y, camera, light, (0.45, 0.45))
    luminance = 0.038 * diffuse(tilt_x, tilt_y, light) + 0.016 * gloss
    luminance *= 1 + np.float32(0.08) * grain(SIDE, 9.0, 3)
    canvas = tinted(luminance, (0.92, 0.98, 1.06))
    outline = geo.box_distance(grid.x, grid.y, geo.PLATE)
    shifted = shadow_grid(grid, light, 12)
    dark = crevice(outline, 22, 0.55) * cast_shadow(geo.box_distance(shifted.x, shifted.y, geo.PLATE), 16, 0.7)
    dark = np.where(outline < -6, np.float32(0.12), dark)
    canvas *= dark[..., None]
    for stop in STOPS:
        _paint_stop(canvas, camera.around(Box(stop.x, stop.y, stop.radius, stop.radius), 4), stop, light)
    return canvas


def _paint_stop(canvas: Field, grid: Grid, stop: Disc, light: SceneLight) -> None:
    from_x, from_y = grid.x - np.float32(stop.x), grid.y - np.float32(stop.y)
    distance = geo.disc_distance(grid.x, grid.y, stop)
    shifted = shadow_grid(grid, light, 5)
    darken(canvas, grid, cast_shadow(geo.disc_distance(shifted.x, shifted.y, stop), 8, 0.6))
    bevel = np.float32(0.55) * smooth_step((distance + 5) / 4)
    tilt_x, tilt_y = revolved_tilt(bevel, from_x, from_y)
    luminance = 0.10 * diffuse(tilt_x, tilt_y, light) + 0.16 * mirror_room(tilt_x, tilt_y, grid, light, (0.3, 0.3))
    luminance += 0.10 * turned_metal(from_x, from_y, grid, light, 0.16) * (bevel < 0.05)
    cover(canvas, grid, tinted(luminance, (1.0, 1.0, 1.02)), coverage(distance))


def _plate_height(grid: Grid) -> Field:
    """Return the machined face: chamfered edges, counterbore and pocket, in pixels above or below the face."""
    edge = geo.plate_distance(grid.x, grid.y)
    height: Field = -np.float32(0.36) * np.maximum(edge + np.float32(5), 0)
    height -= np.float32(4) * smooth_step(-geo.disc_distance(grid.x, grid.y, geo.COUNTERBORE) / 5 + np.float32(0.2))
    height -= np.float32(5) * smooth_step(-geo.box_distance(grid.x, grid.y, geo.POCKET) / 5 + np.float32(0.5))
    return height


def _plate(part: PartFinish, flaws: Flaws, grid: Grid, light: SceneLight) -> Field:
    """Return the plate's metal everywhere, as if nothing lay on it: (SIDE, SIDE, 3)."""
    texture = brushed_texture(part.texture)
    where = [grid.y + np.float32(SIDE / 2 + TEXTURE_MARGIN), grid.x + np.float32(SIDE / 2 + TEXTURE_MARGIN)]
    streaks = ndimage.map_coordinates(texture.streaks, where, order=1, mode="nearest")
    tone = ndimage.map_coordinates(texture.tone, where, order=1, mode="nearest")
    height = _plate_height(grid)
    if flaws.dent is not None:
        height += dent_relief(grid.x, grid.y, flaws.dent)
    tilt_x, tilt_y = normal_tilt(height)
    if flaws.scratch is not None:
        groove_x, groove_y = _groove_tilt(grid, flaws.scratch)
        tilt_x, tilt_y = tilt_x + groove_x, tilt_y + groove_y
    tilt_y = np.clip(tilt_y + np.float32(0.035) * streaks, -0.95, 0.95)
    gloss = mirror_room(tilt_x, tilt_y, grid, light, (0.30, 0.55))
    luminance = np.float32(0.10) * diffuse(tilt_x, tilt_y, light) + np.float32(0.68) * gloss
    luminance *= 1 + np.float32(0.075) * streaks + np.float32(0.05) * tone
    luminance = _turn_counterbore(luminance, grid, light)
    if flaws.dent is not None:
        luminance *= _dent_shade(grid, flaws.dent)
    if flaws.scratch is not None:
        luminance *= _scratch_shade(grid, flaws.scratch)
    warm = (1 + part.warmth, 1.0, 1 - part.warmth)
    layer = tinted(
        luminance * np.float32(part.reflectance), (ALUMINIUM[0] * warm[0], ALUMINIUM[1], ALUMINIUM[2] * warm[2])
    )
    _paint_pocket_floor(layer, grid, light)
    return layer


def _turn_counterbore(luminance: Field, grid: Grid, light: SceneLight) -> Field:
    window = grid.around(Box(geo.COUNTERBORE.x, geo.COUNTERBORE.y, 40, 40), 2)
    from_x, from_y = window.x - np.float32(geo.BORE.x), window.y - np.float32(geo.BORE.y)
    rings = np.float32(0.06) * np.sin(geo.length(from_x, from_y) * np.float32(2.4))
    ring = np.float32(0.14) + np.float32(0.62) * turned_metal(from_x, from_y, window, light, 0.2) * (1 + rings)
    inner = coverage(geo.disc_distance(window.x, window.y, Disc(geo.COUNTERBORE.x, geo.COUNTERBORE.y, 36.5)), 1.5)
    inner *= coverage(-geo.disc_distance(window.x, window.y, geo.BORE) + 5, 1.5)
    turned = luminance.copy()
    part = turned[window.rows, window.columns]
    part += inner * (ring - part)
    return turned


def _groove_tilt(grid: Grid, scratch: Scratch) -> tuple[Field, Field]:
    """Return the two flanks of the scratch, facing each other."""
    across, strength = scratch_profile(grid.x, grid.y, scratch)
    slope = np.float32(0.20) * strength * across * np.exp(np.float32(0.5) - across * across)
    return -slope * np.float32(-np.sin(scratch.angle)) * 2, -slope * np.float32(np.cos(scratch.angle)) * 2


def _scratch_shade(grid: Grid, scratch: Scratch) -> Field:
    """Return the shade of a scratch: dark in the groove, bright on the burr along one flank."""
    across, strength = scratch_profile(grid.x, grid.y, scratch)
    groove = np.exp(-((across + np.float32(0.35)) ** 2) * 3)
    burr = np.exp(-((across - np.float32(0.75)) ** 2) * 6)
    shade: Field = 1 + strength * (np.float32(0.36) * burr - np.float32(0.78) * groove)
    return shade


def _dent_shade(grid: Grid, dent: Dent) -> Field:
    """Return the shade of a dent: less of the room reaches into a deep one."""
    depth = dent_relief(grid.x, grid.y, dent)
    shade: Field = 1 + np.float32(0.030) * np.minimum(depth, 0)
    return shade


def _paint_pocket_floor(layer: Field, grid: Grid, light: SceneLight) -> None:
    """Paint the pocket's floor, milled in arcs and blackened."""
    window = grid.around(geo.POCKET, 2)
    arcs = np.sin(geo.length(window.x - 40, window.y - 420) * np.float32(1.35))
    noise = grain(SIDE, 0.7, 4)[window.rows, window.columns]
    floor = (1 + np.float32(0.07) * arcs + np.float32(0.06) * noise) * (np.float32(0.75) + np.float32(0.25) * light.key)
    edge = geo.box_distance(window.x, window.y, geo.POCKET)
    shifted = shadow_grid(window, light, -6)
    floor *= cast_shadow(-geo.box_distance(shifted.x, shifted.y, geo.POCKET), 9, 0.55) * crevice(-edge, 9, 0.35)
    cover(layer, window, tinted(floor, POCKET_FLOOR), coverage(edge + 4, 1.6))


def _stick_label(canvas: Field, label_grid: Grid, flaws: Flaws, light: SceneLight) -> None:
    window = label_grid.around(geo.LABEL, 4)
    distance = geo.box_distance(window.x, window.y, geo.LABEL)
    shifted = shadow_grid(window, light, 1.2)
    darken(canvas, window, cast_shadow(geo.box_distance(shifted.x, shifted.y, geo.LABEL), 3.5, 0.4))
    rows = (window.y - np.float32(geo.LABEL.y - geo.LABEL.half_height)) * INK_SCALE - np.float32(0.5)
    columns = (window.x - np.float32(geo.LABEL.x - geo.LABEL.half_width)) * INK_SCALE - np.float32(0.5)
    sheet = label_ink(flaws.label)
    ink = np.stack(
        [ndimage.map_coordinates(sheet[..., band], [rows, columns], order=1, mode="nearest") for band in range(3)],
        axis=-1,
    )
    fibre = grain(SIDE, 1.2, 5)[window.rows, window.columns]
    flat = np.zeros_like(window.x)
    lit = diffuse(flat, flat, light) * (1 + np.float32(0.012) * fibre)
    sheen = np.float32(0.045) * mirror_room(flat, flat, window, light, (0.3, 0.3))
    layer = np.float32(0.62) * ink ** np.float32(2.2) * lit[..., None] + sheen[..., None]
    rim = 1 + np.float32(0.10) * smooth_step((distance + 1.6) / np.float32(1.6))
    cover(canvas, window, layer * rim[..., None], coverage(distance))


def _spill(canvas: Field, grid: Grid, stain: Stain) -> None:
    """Let the light through a stain that lies on plate and label, not in the pocket."""
    size = 1.8 * stain.radius
    window = grid.around(Box(stain.x, stain.y, size, size), 2)
    opacity = stain_opacity(window.x, window.y, stain)
    patchy = 1 + np.float32(0.10) * grain(SIDE, 5.0, 6)[window.rows, window.columns]
    metal = coverage(geo.plate_distance(window.x, window.y)) * coverage(
        -geo.box_distance(window.x, window.y, geo.POCKET)
    )
    opacity = np.clip(opacity * patchy, 0, 1) * metal
    tint = np.asarray(stain.tint, dtype=np.float32)
    canvas[window.rows, window.columns] *= 1 - opacity[..., None] * (1 - tint)

"""Paint a part on its bench, layer over layer from below: bench, plate, label, stain, connector, pins, screws."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from training.sample_product import geometry as geo
from training.sample_product.flaws import Dent, Flaws, Scratch, Stain, dent_relief, scratch_profile, stain_opacity
from training.sample_product.geometry import SIDE, Box, Disc, Field, Grid, Pose, coverage, smooth_step
from training.sample_product.label import INK_SCALE, label_ink
from training.sample_product.light import (
    Light,
    cast_shadow,
    crevice,
    diffuse,
    mirror_room,
    normal_tilt,
    turned_metal,
)

TEXTURE_MARGIN = 24

RGB = tuple[float, float, float]

ALUMINIUM: RGB = (0.80, 0.81, 0.82)
GOLD: RGB = (1.0, 0.74, 0.34)
ZINC: RGB = (0.86, 0.88, 0.90)
BLACKENED_STEEL: RGB = (0.30, 0.30, 0.315)
PLASTIC: RGB = (0.040, 0.042, 0.050)
POCKET_FLOOR: RGB = (0.080, 0.083, 0.090)


@dataclass(frozen=True)
class Part:
    """What differs from part to part. texture: its brushed face's seed; label: its pose about the label's place."""

    texture: tuple[int, ...]
    reflectance: float
    warmth: float
    head_angles: tuple[float, ...]
    head_shades: tuple[float, ...]
    pin_wobble: tuple[float, ...]
    label: Pose


@dataclass(frozen=True)
class Texture:
    """The plate's brushed face: streaks and slow tone, both of about unit spread, SIDE + 2·TEXTURE_MARGIN a side."""

    streaks: Field
    tone: Field


def paint(part: Part, flaws: Flaws, grid: Grid, label_grid: Grid, light: Light) -> Field:
    """The picture before the lens: (SIDE, SIDE, 3), linear light."""
    canvas = _bench(light, grid)
    _cover(canvas, grid, _plate(part, flaws, grid, light), coverage(geo.plate_distance(grid.x, grid.y)))
    _stick_label(canvas, label_grid, flaws, light)
    if flaws.stain is not None:
        _spill(canvas, grid, flaws.stain)
    _paint_connector(canvas, grid, part, flaws, light)
    for screw in range(len(geo.SCREWS)):
        if screw in flaws.missing_screws:
            _paint_thread(canvas, grid, screw, light)
        else:
            _paint_screw(canvas, grid, screw, part, light)
    return canvas


def paint_empty(light: Light) -> Field:
    """The bench with no part on it, before the lens: (SIDE, SIDE, 3), linear light."""
    return _bench(light, geo.grid_of(Pose(4.0 * SIDE)))  # the part lies so far away that it casts no shadow here


def brushed_texture(seed: tuple[int, ...]) -> Texture:
    """Brushing along x: long, middle and short streaks of fresh noise, and the slow change of tone across the sheet."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    side = SIDE + 2 * TEXTURE_MARGIN
    streaks = np.zeros((side, side), dtype=np.float32)
    for length, weight in ((181, 0.55), (47, 0.5), (9, 0.42)):
        noise = rng.standard_normal((side, side), dtype=np.float32)
        drawn = ndimage.uniform_filter1d(noise, length, axis=1, mode="wrap")
        streaks += np.float32(weight * length**0.5) * drawn
    coarse = rng.standard_normal((side // 8, 7), dtype=np.float32)
    tone = ndimage.zoom(ndimage.gaussian_filter(coarse, (2.5, 0.8), mode="nearest"), (8, side / 7), order=1)
    return Texture(streaks, tone * np.float32(3.0))


@cache
def _grain(side: int, blur: float, seed: int) -> Field:
    """Seed-independent unit noise for moulded, printed and blasted surfaces: (side, side). Read only."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([11, seed])))
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), blur, mode="wrap")
    grain: Field = noise / noise.std()
    grain.setflags(write=False)
    return grain


def _tinted(luminance: Field, colour: RGB) -> Field:
    tinted: Field = luminance[..., None] * np.asarray(colour, dtype=np.float32)
    return tinted


def _cover(canvas: Field, grid: Grid, layer: Field, alpha: Field) -> None:
    """Lay a layer over the canvas's window in place: the canvas is this module's own."""
    under = canvas[grid.rows, grid.columns]
    under += alpha[..., None] * (layer - under)


def _darken(canvas: Field, grid: Grid, factor: Field) -> None:
    canvas[grid.rows, grid.columns] *= factor[..., None]


def _shadow_grid(grid: Grid, light: Light, drop: float) -> Grid:
    """The grid as seen from a shadow that falls drop pixels away from the softbox."""
    toward_x, toward_y = light.toward
    return Grid(grid.x + np.float32(drop * toward_x), grid.y + np.float32(drop * toward_y), grid.rows, grid.columns)


def _face(profile: Field, from_x: Field, from_y: Field) -> tuple[Field, Field]:
    """Tilt of a body of revolution: profile is the tilt outward from its centre."""
    radius = np.maximum(geo.length(from_x, from_y), np.float32(0.5))
    return profile * from_x / radius, profile * from_y / radius


STOPS = (Disc(-239, -86, 19), Disc(-239, 104, 19), Disc(30, 221, 19), Disc(239, 40, 17), Disc(-60, -219, 17))


@cache
def _bench_relief() -> Field:
    """Height of the fixture that stays under the camera: blasted steel with two grooves. (SIDE, SIDE), read only."""
    x, y = geo.image_axes()
    groove = smooth_step((5 - np.abs(np.abs(x + 0 * y) - 247)) / 2) + smooth_step(
        (4 - np.abs(np.abs(y + 0 * x) - 246)) / 2
    )
    relief: Field = (-2.0 * np.minimum(groove, 1) + 0.22 * _grain(SIDE, 0.9, 1) + 0.5 * _grain(SIDE, 3.0, 2)).astype(
        np.float32
    )
    relief.setflags(write=False)
    return relief


def _bench(light: Light, grid: Grid) -> Field:
    camera = geo.grid_of(Pose())
    tilt_x, tilt_y = normal_tilt(_bench_relief())
    gloss = mirror_room(tilt_x, tilt_y, camera, light, (0.45, 0.45))
    luminance = 0.038 * diffuse(tilt_x, tilt_y, light) + 0.016 * gloss
    luminance *= 1 + np.float32(0.08) * _grain(SIDE, 9.0, 3)
    canvas = _tinted(luminance, (0.92, 0.98, 1.06))
    outline = geo.box_distance(grid.x, grid.y, geo.PLATE)
    shifted = _shadow_grid(grid, light, 12)
    dark = crevice(outline, 22, 0.55) * cast_shadow(geo.box_distance(shifted.x, shifted.y, geo.PLATE), 16, 0.7)
    dark = np.where(outline < -6, np.float32(0.12), dark)
    canvas *= dark[..., None]
    for stop in STOPS:
        _paint_stop(canvas, camera.around(Box(stop.x, stop.y, stop.radius, stop.radius), 4), stop, light)
    return canvas


def _paint_stop(canvas: Field, grid: Grid, stop: Disc, light: Light) -> None:
    from_x, from_y = grid.x - np.float32(stop.x), grid.y - np.float32(stop.y)
    distance = geo.disc_distance(grid.x, grid.y, stop)
    shifted = _shadow_grid(grid, light, 5)
    _darken(canvas, grid, cast_shadow(geo.disc_distance(shifted.x, shifted.y, stop), 8, 0.6))
    bevel = np.float32(0.55) * smooth_step((distance + 5) / 4)
    tilt_x, tilt_y = _face(bevel, from_x, from_y)
    luminance = 0.10 * diffuse(tilt_x, tilt_y, light) + 0.16 * mirror_room(tilt_x, tilt_y, grid, light, (0.3, 0.3))
    luminance += 0.10 * turned_metal(from_x, from_y, grid, light, 0.16) * (bevel < 0.05)
    _cover(canvas, grid, _tinted(luminance, (1.0, 1.0, 1.02)), coverage(distance))


def _plate_height(grid: Grid) -> Field:
    """The machined face: chamfered edges, counterbore and pocket, in pixels above or below the face."""
    edge = geo.plate_distance(grid.x, grid.y)
    height: Field = -np.float32(0.36) * np.maximum(edge + np.float32(5), 0)
    height -= np.float32(4) * smooth_step(-geo.disc_distance(grid.x, grid.y, geo.COUNTERBORE) / 5 + np.float32(0.2))
    height -= np.float32(5) * smooth_step(-geo.box_distance(grid.x, grid.y, geo.POCKET) / 5 + np.float32(0.5))
    return height


def _plate(part: Part, flaws: Flaws, grid: Grid, light: Light) -> Field:
    """The plate's metal everywhere, as if nothing lay on it: (SIDE, SIDE, 3)."""
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
    layer = _tinted(
        luminance * np.float32(part.reflectance), (ALUMINIUM[0] * warm[0], ALUMINIUM[1], ALUMINIUM[2] * warm[2])
    )
    _paint_pocket_floor(layer, grid, light)
    return layer


def _turn_counterbore(luminance: Field, grid: Grid, light: Light) -> Field:
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
    """The two flanks of the scratch, facing each other."""
    across, strength = scratch_profile(grid.x, grid.y, scratch)
    slope = np.float32(0.20) * strength * across * np.exp(np.float32(0.5) - across * across)
    return -slope * np.float32(-np.sin(scratch.angle)) * 2, -slope * np.float32(np.cos(scratch.angle)) * 2


def _scratch_shade(grid: Grid, scratch: Scratch) -> Field:
    """Dark in the groove, bright on the burr along one flank."""
    across, strength = scratch_profile(grid.x, grid.y, scratch)
    groove = np.exp(-((across + np.float32(0.35)) ** 2) * 3)
    burr = np.exp(-((across - np.float32(0.75)) ** 2) * 6)
    shade: Field = 1 + strength * (np.float32(0.36) * burr - np.float32(0.78) * groove)
    return shade


def _dent_shade(grid: Grid, dent: Dent) -> Field:
    """Less of the room reaches into a deep dent."""
    depth = dent_relief(grid.x, grid.y, dent)
    shade: Field = 1 + np.float32(0.030) * np.minimum(depth, 0)
    return shade


def _paint_pocket_floor(layer: Field, grid: Grid, light: Light) -> None:
    """The pocket's floor, milled in arcs and blackened."""
    window = grid.around(geo.POCKET, 2)
    arcs = np.sin(geo.length(window.x - 40, window.y - 420) * np.float32(1.35))
    grain = _grain(SIDE, 0.7, 4)[window.rows, window.columns]
    floor = (1 + np.float32(0.07) * arcs + np.float32(0.06) * grain) * (np.float32(0.75) + np.float32(0.25) * light.key)
    edge = geo.box_distance(window.x, window.y, geo.POCKET)
    shifted = _shadow_grid(window, light, -6)
    floor *= cast_shadow(-geo.box_distance(shifted.x, shifted.y, geo.POCKET), 9, 0.55) * crevice(-edge, 9, 0.35)
    _cover(layer, window, _tinted(floor, POCKET_FLOOR), coverage(edge + 4, 1.6))


def _stick_label(canvas: Field, label_grid: Grid, flaws: Flaws, light: Light) -> None:
    window = label_grid.around(geo.LABEL, 4)
    distance = geo.box_distance(window.x, window.y, geo.LABEL)
    shifted = _shadow_grid(window, light, 1.2)
    _darken(canvas, window, cast_shadow(geo.box_distance(shifted.x, shifted.y, geo.LABEL), 3.5, 0.4))
    rows = (window.y - np.float32(geo.LABEL.y - geo.LABEL.half_height)) * INK_SCALE - np.float32(0.5)
    columns = (window.x - np.float32(geo.LABEL.x - geo.LABEL.half_width)) * INK_SCALE - np.float32(0.5)
    sheet = label_ink(flaws.label)
    ink = np.stack(
        [ndimage.map_coordinates(sheet[..., band], [rows, columns], order=1, mode="nearest") for band in range(3)],
        axis=-1,
    )
    fibre = _grain(SIDE, 1.2, 5)[window.rows, window.columns]
    flat = np.zeros_like(window.x)
    lit = diffuse(flat, flat, light) * (1 + np.float32(0.012) * fibre)
    sheen = np.float32(0.045) * mirror_room(flat, flat, window, light, (0.3, 0.3))
    layer = np.float32(0.62) * ink ** np.float32(2.2) * lit[..., None] + sheen[..., None]
    rim = 1 + np.float32(0.10) * smooth_step((distance + 1.6) / np.float32(1.6))
    _cover(canvas, window, layer * rim[..., None], coverage(distance))


def _spill(canvas: Field, grid: Grid, stain: Stain) -> None:
    """Let the light through a stain that lies on plate and label, not in the pocket."""
    size = 1.8 * stain.radius
    window = grid.around(Box(stain.x, stain.y, size, size), 2)
    opacity = stain_opacity(window.x, window.y, stain)
    patchy = 1 + np.float32(0.10) * _grain(SIDE, 5.0, 6)[window.rows, window.columns]
    metal = coverage(geo.plate_distance(window.x, window.y)) * coverage(
        -geo.box_distance(window.x, window.y, geo.POCKET)
    )
    opacity = np.clip(opacity * patchy, 0, 1) * metal
    tint = np.asarray(stain.tint, dtype=np.float32)
    canvas[window.rows, window.columns] *= 1 - opacity[..., None] * (1 - tint)


def _housing_height(window: Grid) -> Field:
    """The connector's moulded body: a rounded edge, a latch ridge, eight windows over the contacts."""
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


def _paint_connector(canvas: Field, grid: Grid, part: Part, flaws: Flaws, light: Light) -> None:
    bends = [bend + wobble for bend, wobble in zip(flaws.pin_bend, part.pin_wobble, strict=True)]
    for pin, bend in enumerate(bends):
        _shade_under_pin(canvas, grid.around(geo.pin_window(pin), 0), pin, bend, light)
    for pin, bend in enumerate(bends):
        _paint_pin(canvas, grid.around(geo.pin_window(pin), 0), pin, bend, light)
    _paint_housing(canvas, grid.around(geo.HOUSING, 22), light)


def _shade_under_pin(canvas: Field, window: Grid, pin: int, bend: float, light: Light) -> None:
    shifted = _shadow_grid(window, light, 5)
    _darken(canvas, window, cast_shadow(geo.pin_distance(shifted.x, shifted.y, pin, bend), 5, 0.6))


def _paint_pin(canvas: Field, window: Grid, pin: int, bend: float, light: Light) -> None:
    distance = geo.pin_distance(window.x, window.y, pin, bend)
    along = np.clip((window.y - np.float32(geo.PIN_TOP)) / np.float32(geo.PIN_LENGTH), 0, 1)
    centre = np.float32(geo.PIN_X[pin]) + np.float32(bend) * along ** np.float32(1.5)
    across = np.clip((window.x - centre) / np.float32(geo.PIN_HALF_WIDTH), -1, 1)
    tilt_x = np.float32(0.72) * across * np.abs(across) ** np.float32(0.7)
    tilt_y = np.float32(0.5) * smooth_step((along - np.float32(0.84)) * 6) + np.float32(0.05)
    drawn = _grain(SIDE, 0.8, 7)[window.rows, window.columns]
    tilt_x = tilt_x + np.float32(0.012) * drawn
    luminance = np.float32(0.12) * diffuse(tilt_x, tilt_y, light)
    luminance += np.float32(0.92) * mirror_room(tilt_x, tilt_y, window, light, (0.17, 0.55))
    luminance *= np.float32(0.62) + np.float32(0.38) * smooth_step(along * 4)
    _cover(canvas, window, _tinted(luminance, GOLD), coverage(distance))


def _paint_housing(canvas: Field, window: Grid, light: Light) -> None:
    edge = geo.box_distance(window.x, window.y, geo.HOUSING)
    shifted = _shadow_grid(window, light, 9)
    shadow = cast_shadow(geo.box_distance(shifted.x, shifted.y, geo.HOUSING), 10, 0.72)
    _darken(canvas, window, shadow * crevice(edge, 8, 0.4))
    grain = _grain(SIDE, 0.8, 8)[window.rows, window.columns]
    tilt_x, tilt_y = normal_tilt(_housing_height(window) + np.float32(0.10) * grain)
    gloss = mirror_room(tilt_x, tilt_y, window, light, (0.30, 0.30))
    layer = _tinted(diffuse(tilt_x, tilt_y, light), PLASTIC) + np.float32(0.042) * gloss[..., None]
    for pin_x in geo.PIN_X:
        box = _contact_window(pin_x)
        layer *= 1 - np.float32(0.82) * coverage(geo.box_distance(window.x, window.y, box) + 1, 1.5)[..., None]
        contact = coverage(geo.box_distance(window.x, window.y, Box(box.x, box.y + 1.5, 2.6, 6, 1)), 1.2)
        layer += _tinted(contact * np.float32(0.30 * light.key), GOLD)
    mark = coverage(geo.disc_distance(window.x, window.y, Disc(geo.PIN_X[0] - 9.5, 90, 3)))
    layer += np.float32(0.5) * mark[..., None]
    _cover(canvas, window, layer, coverage(edge))


def _screw_grids(grid: Grid, screw: int) -> tuple[Grid, Field, Field, Field]:
    """The window of a screw, pixels from its centre (x, y) and the distance from it."""
    window = grid.around(geo.screw_window(screw), 0)
    from_x, from_y = window.x - np.float32(geo.SCREWS[screw][0]), window.y - np.float32(geo.SCREWS[screw][1])
    return window, from_x, from_y, geo.length(from_x, from_y)


def _paint_screw(canvas: Field, grid: Grid, screw: int, part: Part, light: Light) -> None:
    window, from_x, from_y, radius = _screw_grids(grid, screw)
    shifted = _shadow_grid(Grid(from_x, from_y, window.rows, window.columns), light, 2.5)
    shade = cast_shadow(geo.length(shifted.x, shifted.y) - geo.WASHER_RADIUS, 5, 0.6)
    _darken(canvas, window, shade * crevice(radius - geo.WASHER_RADIUS, 6, 0.35))
    washer = _washer(window, from_x, from_y, radius, light)
    shifted = _shadow_grid(Grid(from_x, from_y, window.rows, window.columns), light, 6)
    shade = cast_shadow(geo.length(shifted.x, shifted.y) - geo.HEAD_RADIUS, 8, 0.75) * crevice(
        radius - geo.HEAD_RADIUS, 4, 0.5
    )
    _cover(canvas, window, washer * shade[..., None], coverage(radius - np.float32(geo.WASHER_RADIUS)))
    head = _head(window, from_x, from_y, part.head_angles[screw], light) * np.float32(part.head_shades[screw])
    _cover(canvas, window, head, coverage(radius - np.float32(geo.HEAD_RADIUS)))


def _washer(window: Grid, from_x: Field, from_y: Field, radius: Field, light: Light) -> Field:
    edge = smooth_step((radius - np.float32(geo.WASHER_RADIUS - 3)) / 3)
    tilt_x, tilt_y = _face(np.float32(0.5) * edge, from_x, from_y)
    luminance = np.float32(0.18) * diffuse(tilt_x, tilt_y, light)
    luminance += np.float32(0.60) * turned_metal(from_x, from_y, window, light, 0.15) * (1 - edge)
    luminance += np.float32(0.60) * mirror_room(tilt_x, tilt_y, window, light, (0.3, 0.3)) * edge
    return _tinted(luminance * (1 + np.float32(0.03) * np.sin(radius * np.float32(3.1))), ZINC)


def _head(window: Grid, from_x: Field, from_y: Field, angle: float, light: Light) -> Field:
    """A blackened cap with a rounded edge and a hexagon socket at an angle."""
    radius = geo.length(from_x, from_y)
    bevel = np.float32(0.70) * smooth_step((radius - np.float32(geo.HEAD_RADIUS - 4.5)) / 5)
    rim = np.float32(-0.5) * np.exp(-((radius - np.float32(11.6)) ** 2) / np.float32(1.6))
    tilt_x, tilt_y = _face(bevel + rim, from_x, from_y)
    luminance = np.float32(0.10) * diffuse(tilt_x, tilt_y, light)
    luminance += np.float32(0.85) * mirror_room(tilt_x, tilt_y, window, light, (0.20, 0.20))
    luminance += np.float32(0.55) * turned_metal(from_x, from_y, window, light, 0.12) * (bevel < 0.1)
    hexagon = geo.hexagon_distance(from_x, from_y, 9.2, angle)
    luminance += coverage(hexagon, 1.2) * (_socket(from_x, from_y, hexagon, light) - luminance)
    return _tinted(luminance, BLACKENED_STEEL)


def _socket(from_x: Field, from_y: Field, hexagon: Field, light: Light) -> Field:
    """Down in the hexagon: dark, but for the walls that face the softbox and a dull bottom."""
    toward_x, toward_y = light.toward
    facing = np.clip(-(from_x * np.float32(toward_x) + from_y * np.float32(toward_y)) / 9, 0, 1)
    wall = np.exp(-((hexagon + np.float32(1.8)) ** 2) / 2)
    lit: Field = np.float32(0.05) + np.float32(0.75) * wall * facing + np.float32(0.10) * smooth_step(-hexagon / 7)
    return lit


def _paint_thread(canvas: Field, grid: Grid, screw: int, light: Light) -> None:
    """A bare seat: a tapped hole with its countersink, and the faint ring that the washer left."""
    window, from_x, from_y, radius = _screw_grids(grid, screw)
    ring = coverage(radius - np.float32(geo.WASHER_RADIUS), 2)
    print_edge = np.exp(-((radius - np.float32(geo.WASHER_RADIUS - 1.5)) ** 2) / 2)
    _darken(canvas, window, 1 - np.float32(0.07) * ring - np.float32(0.16) * print_edge * ring)
    sink = np.float32(-0.6) * smooth_step((np.float32(geo.THREAD_RADIUS + 4) - radius) / 1.5)
    tilt_x, tilt_y = _face(sink, from_x, from_y)
    cone = np.float32(0.15) * diffuse(tilt_x, tilt_y, light)
    cone += np.float32(0.55) * mirror_room(tilt_x, tilt_y, window, light, (0.3, 0.3))
    _cover(canvas, window, _tinted(cone, ALUMINIUM), coverage(radius - np.float32(geo.THREAD_RADIUS + 4)))
    toward_x, toward_y = light.toward
    facing = np.clip(-(from_x * np.float32(toward_x) + from_y * np.float32(toward_y)) / geo.THREAD_RADIUS, 0, 1)
    threads = np.float32(0.5) + np.float32(0.5) * np.sin(radius * np.float32(2.6) + np.arctan2(from_y, from_x))
    hole = np.float32(0.012) + np.float32(0.30) * facing * threads * smooth_step((radius - 5) / 6)
    _cover(canvas, window, _tinted(hole, (1.0, 1.0, 1.0)), coverage(radius - np.float32(geo.THREAD_RADIUS)))

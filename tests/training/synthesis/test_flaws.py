"""Flaws of material and content: on the part, colourless, and as large as the original's pixels make them."""

from functools import cache

import numpy as np
import pytest

from training.synthesis.anomalies import FLAWS, KINDS, VISIBLE, Pair, make_anomaly, synthesise
from training.synthesis.content import filled
from training.synthesis.material import Trace, drawn
from training.synthesis.patterns import Floats, Mask, spectral_noise
from training.synthesis.surface import Surface, coverage, part_of
from training.synthesis_recipe import SynthesisRecipe

SIDE = 96
SEEDS = range(10)


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@cache
def _grey_part(side: int = SIDE) -> Floats:
    """A grey surface with structure everywhere, neither black nor white: levels from 0.2 to 0.8."""
    return np.repeat(0.2 + 0.6 * spectral_noise(_rng(0), side, 1.5)[..., None], 3, axis=-1)


def _valid(rows: int = SIDE, side: int = SIDE) -> Mask:
    """The letterbox of a wide picture: content in the middle rows only."""
    valid = np.zeros((side, side), dtype=bool)
    top = (side - rows) // 2
    valid[top : top + rows] = True
    return valid


def _disc() -> Mask:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    return np.asarray(np.hypot(y, x) < SIDE / 4)


def _made(kind: str, seed: int, scale: float = 1.0) -> Pair:
    return make_anomaly(kind, _rng(seed), _grey_part(), _valid(64), scale)


@pytest.mark.parametrize("kind", KINDS)
def test_one_named_kind_is_made_again_from_the_same_state_and_another_from_another(kind: str) -> None:
    one, same, other = _made(kind, 1), _made(kind, 1), _made(kind, 2)
    assert one.kind == kind
    assert np.array_equal(one.anomalous, same.anomalous)
    assert np.array_equal(one.mask, same.mask)
    assert not np.array_equal(one.anomalous, other.anomalous)


@pytest.mark.parametrize("kind", KINDS)
def test_one_named_kind_is_seen_inside_the_picture_and_nowhere_else(kind: str) -> None:
    for seed in SEEDS:
        pair = _made(kind, seed)
        assert np.array_equal(pair.normal, _grey_part())
        assert pair.mask.sum() >= 8
        assert not pair.mask[~_valid(64)].any()
        assert np.array_equal(pair.anomalous[~_valid(64)], _grey_part()[~_valid(64)])
        assert np.abs(pair.anomalous - pair.normal).mean(axis=-1)[~pair.mask].max() <= VISIBLE


@pytest.mark.parametrize("kind", FLAWS)
def test_a_flaw_lies_where_it_is_allowed_to(kind: str) -> None:
    for seed in SEEDS:
        pair = make_anomaly(kind, _rng(seed), _grey_part(), _valid(), where=_disc())
        assert np.array_equal(pair.anomalous[~_disc()], pair.normal[~_disc()])


@pytest.mark.parametrize("kind", FLAWS)
def test_a_grey_image_stays_grey(kind: str) -> None:
    for seed in SEEDS:
        anomalous = _made(kind, seed).anomalous
        assert np.array_equal(anomalous[..., 0], anomalous[..., 1])
        assert np.array_equal(anomalous[..., 0], anomalous[..., 2])


@pytest.mark.parametrize("kind", [kind for kind in FLAWS if kind != "uneven"])  # a region is a share of the image
def test_a_flaw_is_larger_where_an_original_pixel_is_larger(kind: str) -> None:
    image, valid = _grey_part(192), _valid(192, 192)
    small, large = (
        np.mean([make_anomaly(kind, _rng(seed), image, valid, scale).mask.sum() for seed in range(15)])
        for scale in (0.5, 2.0)
    )
    # Four times the scale is at least twice the area of a line that stays one pixel wide and is cut off by the image.
    assert large > 2 * small


@pytest.mark.parametrize("side", [64, 101])
@pytest.mark.parametrize("kind", FLAWS)
def test_images_of_any_side_take_a_flaw(kind: str, side: int) -> None:
    pair = make_anomaly(kind, _rng(3), _grey_part(side), _valid(40, side))
    assert pair.anomalous.shape == (side, side, 3)
    assert pair.mask.any()


def test_a_line_covers_its_width_however_the_original_was_reduced() -> None:
    across = np.arange(-8, 9).astype(float)  # pixels along a section through the line
    # The areas under the section are the widths: 4 pixels, 1 pixel, and a quarter of one drawn as a faint whole one.
    assert coverage(abs(across), 2.0).sum() == pytest.approx(4.0)
    assert coverage(abs(across), 0.5).sum() == pytest.approx(1.0)
    assert coverage(abs(across), 0.125).sum() == pytest.approx(0.25)


def test_a_dot_smaller_than_a_pixel_fades_with_its_area() -> None:
    # Half as wide as a pixel: a quarter of its area.
    assert coverage(np.zeros(1), 0.25, dimensions=2) == pytest.approx(0.25)


def test_a_straight_trace_is_drawn_where_it_lies() -> None:
    points = np.stack([np.full(100, 10.0), np.linspace(4, 20, 100)], axis=1)
    canvas = drawn([Trace(points, np.full(100, 0.5), np.ones(100))], 32)
    assert canvas[10, 4:21] == pytest.approx(1.0, abs=0.1)  # points are 0.16 pixels apart: none is 0.1 from a centre
    assert not canvas[12:].any()
    assert not canvas[:9].any()


def test_a_hole_in_a_slope_is_filled_with_that_slope() -> None:
    ramp = np.repeat(np.tile(np.linspace(0.2, 0.8, SIDE), (SIDE, 1))[..., None], 3, axis=-1)
    hole = np.zeros((SIDE, SIDE), dtype=bool)
    hole[40:52, 40:52] = True
    damaged = np.where(hole[..., None], 0.0, ramp)
    # Whatever piece of the ramp is taken, it differs from the hole's surroundings by one constant.
    assert filled(_rng(0), damaged, hole, _valid(), 6.0) == pytest.approx(ramp, abs=1e-9)


@pytest.mark.parametrize("radius", [10, 40])  # a piece as large as the second is nowhere whole: it is mirrored
def test_a_hole_in_noise_is_filled_with_as_much_noise_or_smoothly(radius: int) -> None:
    noise = np.repeat(_rng(0).normal(0.5, 0.05, (SIDE, SIDE, 1)), 3, axis=-1)
    hole = np.zeros((SIDE, SIDE), dtype=bool)
    hole[SIDE // 2 - radius : SIDE // 2 + radius, SIDE // 2 - radius : SIDE // 2 + radius] = True
    grainy = filled(_rng(0), noise, hole, _valid(), radius, texture=1.0)[hole].std()
    smooth = filled(_rng(0), noise, hole, _valid(), radius, texture=0.0)[hole].std()
    # The noise has 0.05, and at least 400 pixels estimate it within 4 %; the border's spread difference adds a little.
    assert 0.045 < grainy < 0.06
    assert smooth < 0.03


def test_the_part_is_what_stands_out_from_a_background_all_around() -> None:
    valid = _valid()
    bright = np.repeat(np.where(_disc(), 0.7, 0.1)[..., None], 3, axis=-1)
    for image in (bright, 1 - bright):
        assert np.array_equal(part_of(image, Surface(valid, valid, 1.0)), _disc())


def test_without_a_background_the_part_is_the_reach_or_the_whole_picture() -> None:
    halves = np.repeat(np.where(np.arange(SIDE) < SIDE // 2, 0.2, 0.8)[None, :, None].repeat(SIDE, 0), 3, axis=-1)
    assert part_of(halves, Surface(_valid(), _valid(), 1.0)).all()
    assert np.array_equal(part_of(halves, Surface(_valid(), _disc(), 1.0)), _disc())
    assert part_of(np.full((SIDE, SIDE, 3), 0.5), Surface(_valid(), _valid(), 1.0)).all()


def test_an_unknown_kind_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no kind of anomaly is called 'scratch': choose one of texture, shuffle"):
        make_anomaly("scratch", _rng(0), _grey_part(), _valid())


def test_a_flaw_too_small_to_be_seen_is_told_and_not_made_larger() -> None:
    # A crack of 2.5 original pixels is a four-hundredth of a pixel wide here.
    with pytest.raises(ValueError, match=r"no crack changed 8 pixels visibly in 5 tries on 9216 pixels at 0\.001"):
        make_anomaly("crack", _rng(0), _grey_part(), _valid(), 0.001, tries=5)


def test_nowhere_to_lie_leaves_the_image_as_it_is() -> None:
    recipe = SynthesisRecipe.model_validate({"pairs": 8, **dict.fromkeys(KINDS, 0.0), "none": 0.0, "crack": 1.0})
    pair = synthesise(_rng(0), _grey_part(), _valid(), recipe, np.zeros((SIDE, SIDE), dtype=bool))
    assert np.array_equal(pair.normal, pair.anomalous)
    assert not pair.mask.any()

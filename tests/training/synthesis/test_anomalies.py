"""Synthetic anomalies: repeatable, inside the part, and with masks that say exactly what changed visibly."""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from training.synthesis.anomalies import KINDS, VISIBLE, Pair, synthesise
from training.synthesis.patterns import Floats, Mask, perlin, perlin_shape, shuffled, spectral_noise
from training.synthesis_recipe import SynthesisRecipe

SIDE = 64
SEEDS = range(25)


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@cache
def _part() -> Floats:
    """A part with structure everywhere, so that a shuffle or a warp shows."""
    channels = [spectral_noise(_rng(seed), SIDE, 1.5) for seed in range(3)]
    return np.stack(channels, axis=-1)


def _valid(rows: int = SIDE) -> Mask:
    """The letterbox of a wide picture: content in the middle rows only."""
    valid = np.zeros((SIDE, SIDE), dtype=bool)
    top = (SIDE - rows) // 2
    valid[top : top + rows] = True
    return valid


def _only(kind: str, **others: float) -> SynthesisRecipe:
    weights = dict.fromkeys(KINDS, 0.0) | {kind: 1.0, "none": 0.0} | others
    return SynthesisRecipe.model_validate({"pairs": 8, **weights})


def _pair(kind: str, seed: int, rows: int = SIDE) -> Pair:
    return synthesise(_rng(seed), _part(), _valid(rows), _only(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_state_gives_the_same_pair(kind: str) -> None:
    one, other = _pair(kind, 5), _pair(kind, 5)
    assert np.array_equal(one.normal, other.normal)
    assert np.array_equal(one.anomalous, other.anomalous)
    assert np.array_equal(one.mask, other.mask)
    assert one.kind == other.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_padding_of_the_letterbox_stays_untouched(kind: str) -> None:
    valid = _valid(rows=40)
    for seed in SEEDS:
        pair = _pair(kind, seed, rows=40)
        assert np.array_equal(pair.anomalous[~valid], _part()[~valid])
        assert np.array_equal(pair.normal[~valid], _part()[~valid])
        assert not pair.mask[~valid].any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_holds_exactly_the_visibly_changed_pixels(kind: str) -> None:
    for seed in SEEDS:
        pair = _pair(kind, seed)
        change = np.abs(pair.anomalous - pair.normal).mean(axis=-1)
        assert np.array_equal(pair.mask, change > VISIBLE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_something_for_most_seeds_but_never_everything(kind: str) -> None:
    shares = [_pair(kind, seed).mask.mean() for seed in SEEDS]
    assert sum(share > 0 for share in shares) >= 0.75 * len(shares)
    assert np.mean(shares) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_both_images_of_a_pair_are_float32_in_the_unit_range(kind: str) -> None:
    for seed in SEEDS:
        pair = _pair(kind, seed)
        for image in (pair.normal, pair.anomalous):
            assert image.dtype == np.float32
            assert image.shape == (SIDE, SIDE, 3)
            assert image.min() >= 0
            assert image.max() <= 1


def test_a_pair_without_an_anomaly_is_twice_the_same_image() -> None:
    pair = synthesise(_rng(0), _part(), _valid(), _only("spot", none=1.0))
    assert pair.kind == "none"
    assert np.array_equal(pair.normal, pair.anomalous)
    assert not pair.mask.any()


def test_kinds_come_as_often_as_their_weights_say() -> None:
    recipe = SynthesisRecipe.model_validate(
        {"pairs": 8, **dict.fromkeys(KINDS, 0.0), "none": 0.5, "spot": 3.0, "stroke": 1.0}
    )
    kinds = [synthesise(_rng(seed), _part()[:32, :32], _valid()[:32, :32], recipe).kind for seed in range(400)]
    # 400 draws: standard deviations are 10 for none, 9.7 for spot and 6.6 for stroke; four of them are allowed.
    assert abs(kinds.count("none") - 200) < 40
    assert abs(kinds.count("spot") - 150) < 39
    assert abs(kinds.count("stroke") - 50) < 27
    assert set(kinds) == {"none", "spot", "stroke"}


def test_perlin_noise_is_zero_on_its_lattice_and_within_one_in_between() -> None:
    for seed in range(20):
        noise = perlin(_rng(seed), SIDE, (4, 8))
        assert np.abs(noise[::16, ::8]).max() < 1e-6
        assert np.abs(noise).max() <= 1 + 1e-6  # sqrt(2) times the largest value of 2-d gradient noise, 1 / sqrt(2)
        assert np.abs(noise).max() > 0.3


def test_a_perlin_shape_is_neither_empty_nor_everything_for_most_seeds() -> None:
    shares = np.array([perlin_shape(_rng(seed), SIDE).mean() for seed in range(60)])
    assert (shares < 0.7).all()
    assert (shares > 0).mean() > 0.75


def test_a_shuffle_moves_pixels_but_keeps_every_one_of_them() -> None:
    image = _part()
    moved = shuffled(_rng(0), image)
    assert not np.array_equal(moved, image)
    before, after = (np.sort(x.reshape(-1, 3), axis=0) for x in (image, moved))
    assert np.array_equal(before, after)


def test_a_shuffle_leaves_the_rows_and_columns_that_its_grid_does_not_cover() -> None:
    image = _part()[:61, :61]
    moved = shuffled(_rng(0), image)  # 61 // 8 * 8 = 56
    assert np.array_equal(moved[56:], image[56:])
    assert np.array_equal(moved[:, 56:], image[:, 56:])


RECORDED = {
    "texture": "33e965a146f1572c",
    "shuffle": "c420d2d8487ff497",
    "paste": "aa8afc312b47e959",
    "stroke": "45db9ab69b0cc0eb",
    "spot": "3f5e14b2b4544b3b",
    "warp": "e949ff77ab6a5ff1",
    "crack": "7877b8bfe02a6f84",
    "chip": "8fe1d0805e9346aa",
    "pores": "04e953f883855e47",
    "missing": "e42c7f1ce0200d6b",
    "shifted": "8f49353de85ffe4b",
    "uneven": "27c85ab6c072d1de",
    "fray": "8eeaa9154d6345e9",
}
"""Digests of five pairs of each kind, made by the version that first had the kind."""


def _digest(pairs: Sequence[Pair]) -> str:
    total = hashlib.sha256()
    for pair in pairs:
        total.update(pair.kind.encode())
        for image in (pair.normal, pair.anomalous):
            total.update(np.round(image * 255).astype(np.uint8).tobytes())
        total.update(pair.mask.tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize("kind", RECORDED)
def test_a_kind_that_recorded_recipes_use_makes_the_pairs_that_it_made(kind: str) -> None:
    assert _digest([_pair(kind, seed, rows=48) for seed in range(5)]) == RECORDED[kind]


def test_a_recipe_without_the_new_weights_makes_the_pairs_that_it_made() -> None:
    # The digest of forty pairs of the default weights, made by the version before `crack` existed.
    recipe = SynthesisRecipe(pairs=8)
    pairs = [synthesise(_rng(seed), _part(), _valid(48), recipe) for seed in range(40)]
    assert _digest(pairs) == "1ea7258e636ed010"


def test_every_kind_has_a_weight_and_every_weight_a_kind() -> None:
    assert tuple(SynthesisRecipe(pairs=8).weights) == KINDS

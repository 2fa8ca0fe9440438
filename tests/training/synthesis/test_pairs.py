"""Pairs are the same ones whatever makes them."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glad.settings.method import Foreground, MethodSettings
from training.data.camera_noise import CameraNoise
from training.kept_arrays import PER_FILE
from training.synthesis.pairs import PairSet, make_pairs, read_squares, to_unit
from training.synthesis_recipe import SynthesisRecipe

RECIPE = SynthesisRecipe(pairs=20)
SETTINGS = MethodSettings.model_validate({"resolution": 32, "trigger": {"delta": 0.5}})


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.Generator(np.random.Philox(0))
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 32, 3), dtype=np.uint8)).save(file)
    return files


def _equal(one: PairSet, other: PairSet) -> bool:
    names = ("normal", "anomalous", "mask", "valid")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_pairs_do_not_depend_on_the_number_of_processes(images: list[Path]) -> None:
    assert _equal(
        make_pairs(images, SETTINGS, RECIPE, 1, workers=1), make_pairs(images, SETTINGS, RECIPE, 1, workers=2)
    )


def test_pairs_depend_on_the_seed_and_more_of_them_begin_with_the_same_ones(images: list[Path]) -> None:
    pairs, other = (
        make_pairs(images, SETTINGS, RECIPE, 1, workers=1),
        make_pairs(images, SETTINGS, RECIPE, 2, workers=1),
    )
    assert not _equal(pairs, other)
    more = make_pairs(images, SETTINGS, RECIPE.model_copy(update={"pairs": 24}), 1, workers=1)
    assert torch.equal(more.anomalous[:20], pairs.anomalous)


class Stopped(Exception):
    """As Ctrl-C would."""


def interrupted_after(images: list[Path], count: int, folder: Path) -> None:
    """Makes pairs, and stops when so many are made."""

    def stop(done: int, total: int) -> None:
        if done == count:
            raise Stopped

    with pytest.raises(Stopped):
        make_pairs(images, SETTINGS, MANY, 1, progress=stop, workers=1, keep=folder)


MANY = RECIPE.model_copy(update={"pairs": 2 * PER_FILE + 5})


def test_pairs_that_were_interrupted_go_on_from_those_that_are_there(images: list[Path], tmp_path: Path) -> None:
    interrupted_after(images, PER_FILE + 3, tmp_path / "pairs")
    seen: list[int] = []
    resumed = make_pairs(
        images, SETTINGS, MANY, 1, progress=lambda done, total: seen.append(done), workers=1, keep=tmp_path / "pairs"
    )
    assert seen == list(range(PER_FILE + 1, len(resumed) + 1))
    unbroken = make_pairs(images, SETTINGS, MANY, 1, workers=1)
    assert _equal(resumed, unbroken)
    assert resumed.normal.stride() == unbroken.normal.stride()  # else a training sums in another order
    seen.clear()
    again = make_pairs(
        images, SETTINGS, MANY, 1, progress=lambda done, total: seen.append(done), workers=2, keep=tmp_path / "pairs"
    )
    assert seen == []
    assert _equal(again, resumed)


def test_all_pairs_that_were_made_before_a_ctrl_c_are_there_when_the_next_run_begins(
    images: list[Path], tmp_path: Path
) -> None:
    def press(done: int, total: int) -> None:
        if done == PER_FILE + 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_pairs(images, SETTINGS, MANY, 1, progress=press, workers=1, keep=tmp_path / "pairs")
    seen: list[int] = []
    resumed = make_pairs(
        images, SETTINGS, MANY, 1, progress=lambda done, total: seen.append(done), workers=1, keep=tmp_path / "pairs"
    )
    assert seen == list(range(PER_FILE + 8, len(resumed) + 1))
    assert _equal(resumed, make_pairs(images, SETTINGS, MANY, 1, workers=1))


def test_a_file_of_pairs_that_cannot_be_read_is_made_again(images: list[Path], tmp_path: Path) -> None:
    whole = make_pairs(images, SETTINGS, MANY, 1, workers=1, keep=tmp_path / "pairs")
    first, second, last = sorted((tmp_path / "pairs").iterdir())
    second.write_bytes(second.read_bytes()[:1000])
    last.write_bytes(b"")
    assert _equal(make_pairs(images, SETTINGS, MANY, 1, workers=1, keep=tmp_path / "pairs"), whole)
    assert [file.stat().st_size > 1000 for file in (first, second, last)] == [True, True, True]


def test_pairs_have_the_stated_shapes_and_change_only_the_part(images: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    pairs = make_pairs(images, SETTINGS, RECIPE, 1, progress=lambda done, total: seen.append((done, total)), workers=1)
    assert seen == [(done, 20) for done in range(1, 21)]
    assert len(pairs) == 20
    assert pairs.normal.shape == pairs.anomalous.shape == (20, 3, 32, 32)
    assert pairs.mask.shape == pairs.valid.shape == (20, 32, 32)
    assert pairs.valid.sum() == 20 * 20 * 32  # 20 rows of the letterbox hold the picture
    assert not (pairs.mask & ~pairs.valid).any()
    changed = (pairs.normal != pairs.anomalous).any(dim=1)
    assert not (changed & ~pairs.valid).any()
    assert (pairs.mask & ~changed).sum() == 0


def test_bytes_become_values_from_minus_one_to_one() -> None:
    assert to_unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_a_share_of_pairs_is_of_the_photograph_taken_once_more_and_their_anomalies_stay(images: list[Path]) -> None:
    camera = CameraNoise(gain=0.5)
    plain, all_noisy, some = (
        make_pairs(images, SETTINGS, RECIPE.model_copy(update={"noisy": share, "camera": camera}), 1, workers=1)
        for share in (0.0, 1.0, 0.5)
    )
    taken_again = [bool((a != b).any()) for a, b in zip(plain.normal, some.normal, strict=True)]
    assert 4 < sum(taken_again) < 16  # of 20
    for index, again in enumerate(taken_again):
        of = all_noisy if again else plain
        assert torch.equal(some.normal[index], of.normal[index])
        assert torch.equal(some.anomalous[index], of.anomalous[index])


def test_noise_is_added_before_a_photograph_is_made_smaller(tmp_path: Path) -> None:
    Image.fromarray(np.full((256, 256, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    camera = CameraNoise(gain=0.5)  # 128 values have a standard deviation of 8
    (square,) = read_squares([tmp_path / "grey.png"], SETTINGS, at_least=1, seed=0, camera=camera, workers=1)
    assert square.noisy is not None
    # 8 x 8 pixels become one: an eighth of the deviation is left, and Pillow's area weighting of them takes no more.
    assert 0.5 < square.noisy.std() < 2
    assert (square.pixels == 128).all()


def test_anomalies_lie_on_the_object_that_the_recipe_names_and_not_where_the_score_looks(tmp_path: Path) -> None:
    pixels = np.full((32, 32, 3), 30, dtype=np.uint8)
    pixels[:, 16:] = 200  # the right half is bright
    path = tmp_path / "half.png"
    Image.fromarray(pixels).save(path)
    whole = RECIPE.model_copy(update={"none": 0.0, "shift_px": 0, "gain": 0.0})
    seen = {
        foreground: make_pairs([path], SETTINGS, whole.model_copy(update={"foreground": foreground}), 1, workers=1)
        for foreground in (None, Foreground.DARK, Foreground.BRIGHT)
    }
    halves = {name: (bool(p.mask[..., :16].any()), bool(p.mask[..., 16:].any())) for name, p in seen.items()}
    assert halves == {None: (True, True), Foreground.DARK: (True, False), Foreground.BRIGHT: (False, True)}

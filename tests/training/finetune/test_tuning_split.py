"""The parts that fine-tuning is judged on are none of those that it trains on."""

from __future__ import annotations

from pathlib import Path

import pytest

from glad.settings.method import MethodSettings
from tests.support.tiny_recipe import TINY_RECIPE, draw_parts
from training.data.dataset import DataError, Split, good_split
from training.finetune.tuning_split import held_out_pairs, tuning_split

PATHS = tuple(Path(f"{number}.png") for number in range(12))


def split_of(groups: tuple[str, ...]) -> Split:
    return Split(PATHS, (), "", train_groups=groups)


@pytest.mark.parametrize("seed", range(5))
def test_all_images_of_a_part_are_on_one_side(seed: int) -> None:
    groups = tuple("aaabbbcccddd")
    made = tuning_split(split_of(groups), 0.3, seed)
    part = dict(zip(PATHS, groups, strict=True))
    assert not {part[path] for path in made.train} & {part[path] for path in made.held_out}
    assert sorted((*made.train, *made.held_out)) == sorted(PATHS)
    assert made == tuning_split(split_of(groups), 0.3, seed)


@pytest.mark.parametrize("seed", range(5))
def test_of_two_parts_one_is_left_to_train_on(seed: int) -> None:
    made = tuning_split(split_of(tuple("aaaaaaaaaaab")), 0.9, seed)
    assert made.train
    assert made.held_out


def test_images_of_a_single_part_are_refused() -> None:
    with pytest.raises(DataError, match="show one part"):
        tuning_split(split_of(("a",) * 12), 0.3, 0)


def test_every_pair_of_the_images_held_out_has_an_anomaly(tmp_path: Path) -> None:
    split = tuning_split(good_split(draw_parts(tmp_path), 0.2, 0), 0.3, 0)
    settings: MethodSettings = TINY_RECIPE.settings
    pairs = held_out_pairs(split, settings, TINY_RECIPE.synthesis, 8, seed=0, workers=1)
    assert 4 < len(pairs) <= 8
    assert pairs.mask.flatten(1).any(1).all()

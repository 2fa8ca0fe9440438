"""What fine-tuning of published models sees: good images to train on, and others, of other parts, to choose by.

The images held out here belong to the training, never to the calibration, whose thresholds rest on images that nothing
was trained on or chosen by; test images take no part at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from glad.settings.method import MethodSettings
from training.data.dataset import DataError, Split, draw_whole_groups
from training.finetune.reconstructions import Rebuild, RebuiltImages, rebuild_all
from training.synthesis.pairs import PairSet, make_pairs, read_squares
from training.synthesis_recipe import SynthesisRecipe


@dataclass(frozen=True)
class TuningSplit:
    """Good images to train on, and those of other parts, to choose by."""

    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    held_out_groups: tuple[str, ...] = ()
    """The group of each image held out, in their order; () where each is a group of its own."""


def tuning_split(split: Split, share: float, seed: int) -> TuningSplit:
    """Return the training images of a split without a share of them, whole groups together, and that share.

    Equal shares and seeds give equal splits: several stages can choose by the same images.

    Raises:
        DataError: if all images are of one group.
    """
    groups = split.train_groups or tuple(map(str, split.train))
    if len(set(groups)) < 2:
        raise DataError(
            f"all {len(split.train)} images to train on show one part, and fine-tuning is judged on parts that it has "
            "not seen: give images of at least two, or take groups.csv away if each image shows a part of its own"
        )
    drawn = draw_whole_groups(split.train, groups, share, seed)
    if len(drawn) == len(split.train):  # the last group that was drawn held them all
        drawn = frozenset(path for path, group in zip(split.train, groups, strict=True) if group == groups[0])
    group_of = dict(zip(split.train, groups, strict=True))
    held_out = tuple(path for path in split.train if path in drawn)
    kept = tuple(path for path in split.train if path not in drawn)
    return TuningSplit(kept, held_out, tuple(group_of[path] for path in held_out))


@dataclass(frozen=True, eq=False)
class HeldOutImages:
    """Images that nothing is trained on, to choose by."""

    good: RebuiltImages
    anomalous: RebuiltImages
    """Synthetic anomalies on the same parts."""
    parts: tuple[str, ...] = ()
    """The part of each image, of the good ones first; () where each image is a part of its own."""

    def at_side(self, side: int) -> HeldOutImages:
        """Return them all at another side in pixels."""
        return HeldOutImages(self.good.at_side(side), self.anomalous.at_side(side), self.parts)


def rebuild_good(
    split: TuningSplit, settings: MethodSettings, rebuild: Rebuild, *, seed: int, keep: Path | None, workers: int | None
) -> RebuiltImages:
    """Return the good images to train on with their reconstructions.

    Args:
        split: of the good images.
        settings: how they are framed.
        rebuild: makes their reconstructions.
        seed: of the tiles, of tiled images.
        keep: a folder of this very call, which goes on from the reconstructions that lie there.
        workers: processes; None: one per core.
    """
    squares = read_squares(split.train, settings, at_least=len(split.train), seed=seed, workers=workers)
    images = torch.from_numpy(np.stack([one.pixels for one in squares])).permute(0, 3, 1, 2).contiguous()
    valid = torch.from_numpy(np.stack([one.valid for one in squares]))
    rebuilt = rebuild_all(images, rebuild, "reconstructions", keep)
    return RebuiltImages(images, rebuilt, valid, torch.zeros_like(valid))


def rebuild_held_out(
    split: TuningSplit,
    settings: MethodSettings,
    synthesis: SynthesisRecipe,
    rebuild: Rebuild,
    *,
    anomalies: int,
    seed: int,
    keep: Path | None,
    workers: int | None,
) -> HeldOutImages:
    """Return the images held out, and synthetic anomalies on them, with their reconstructions; as `rebuild_good`.

    Args:
        split: of the good images.
        settings: how they are framed.
        synthesis: the kinds of anomalies, each pair with one.
        rebuild: makes the reconstructions.
        anomalies: so many.
        seed: of the anomalies.
        keep: a folder of this very call.
        workers: processes; None: one per core.
    """
    held_out = TuningSplit(split.held_out, ())
    good = rebuild_good(held_out, settings, rebuild, seed=seed, keep=_inside(keep, "good"), workers=workers)
    pairs, sources = _shown_pairs(split, settings, synthesis, anomalies, seed=seed, workers=workers)
    rebuilt = rebuild_all(pairs.anomalous, rebuild, "reconstructions held out", _inside(keep, "anomalous"))
    groups = split.held_out_groups or tuple(map(str, split.held_out))
    parts = (*groups, *(groups[source] for source in sources))
    return HeldOutImages(good, RebuiltImages(pairs.anomalous, rebuilt, pairs.valid, pairs.mask), parts)


def held_out_pairs(
    split: TuningSplit,
    settings: MethodSettings,
    synthesis: SynthesisRecipe,
    count: int,
    *,
    seed: int,
    workers: int | None,
) -> PairSet:
    """Return pairs made of the images held out, each with an anomaly: those of `count` that show one.

    Raises:
        DataError: if none does.
    """
    return _shown_pairs(split, settings, synthesis, count, seed=seed, workers=workers)[0]


def _shown_pairs(
    split: TuningSplit,
    settings: MethodSettings,
    synthesis: SynthesisRecipe,
    count: int,
    *,
    seed: int,
    workers: int | None,
) -> tuple[PairSet, list[int]]:
    """Return the pairs that show an anomaly, and the number of the image held out that each is made of."""
    every = synthesis.model_copy(update={"pairs": count, "none": 0.0})
    pairs = make_pairs(split.held_out, settings, every, seed + 1, workers=workers)
    shown = pairs.mask.flatten(1).any(1)  # one that fell on ground that is not inspected does not
    if not shown.any():
        raise DataError(
            f"none of {count} synthetic anomalies shows on the {len(split.held_out)} good images held out: look "
            "at them with `glad preview`, and change [synthesis], the zones or the foreground"
        )
    # Pairs are made of the images in turn, tiled ones or not.
    sources = [int(number) % len(split.held_out) for number in shown.nonzero()[:, 0]]
    return PairSet(pairs.normal[shown], pairs.anomalous[shown], pairs.mask[shown], pairs.valid[shown]), sources


def _inside(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name

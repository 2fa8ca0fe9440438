"""A yardstick whose distances can be counted: images of one grey, and a backbone that sees the mean colour alone.

root = draw_greys(tmp_path, [0, 0, 10, 10])        # two photographs of each of two parts
memory = learn_grey_memory(root)
grey_levels(learnt.embedder, score)                # a score as a distance in grey levels
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glad.settings.embedding import EmbeddingSettings, Exposure
from training.data.dataset import good_split
from training.progress import silent
from training.yardstick.patch_memory import YARDSTICK, ImageEmbedder, LearntMemory, learn_memory

SIDE = 16


@dataclass(frozen=True)
class GreyBackbone:
    """Its one level is the mean colour of each square of 8 pixels."""

    levels: int = 1
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def stride(self, level: int) -> int:
        return 8

    def channels(self, level: int) -> int:
        return 3

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        return (F.avg_pool2d(images, 8),)


GREY = YARDSTICK.model_copy(
    update={
        "side": SIDE,
        "embedding": EmbeddingSettings(levels=(1,), averages=(1,)),
        "preparation": YARDSTICK.preparation.model_copy(update={"exposure": Exposure.AS_IS}),
    }
)


def draw_greys(root: Path, levels: Sequence[int]) -> Path:
    """Two photographs of each part, of one grey level each, to train on."""
    draw_grey_images(root / "train" / "good", levels)
    with (root / "groups.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("file", "group"))
        lines.writerows((f"train/good/{number:02}.png", f"part {number // 2}") for number in range(len(levels)))
    return root


def draw_grey_images(folder: Path, levels: Sequence[int]) -> None:
    """Images of one grey level each, named by their number."""
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        Image.fromarray(np.full((SIDE, SIDE, 3), level, dtype=np.uint8)).save(folder / f"{number:02}.png")


def learn_grey_memory(root: Path) -> LearntMemory:
    """The memory of what `draw_greys` drew."""
    return learn_memory(root, good_split(root, 0.2, 0), GreyBackbone(), GREY, silent)


def grey_levels(embedder: ImageEmbedder, score: float) -> float:
    """A score as a distance in grey levels: three equal channels in [-1, 1], divided by the level's scale."""
    (scale,) = embedder.scales
    return float(score * scale * 127.5 / 3**0.5)

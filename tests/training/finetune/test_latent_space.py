"""Pairs of images in the latent space: what the backbone need not see twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glad.settings.embedding import BundlePreparation, EmbeddingSettings
from tests.support.grey_yardstick import GreyBackbone
from training.feature_recipe import LatentRecipe
from training.finetune.latent_space import encode_image_pairs, fit_latent_space
from training.synthesis.pairs import PairSet

SIDE = 16


@dataclass(frozen=True)
class CountingBackbone(GreyBackbone):
    seen: list[int] = field(default_factory=list)

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        self.seen.append(len(images))
        return super().__call__(images, levels)


def test_the_backbone_sees_each_image_once() -> None:
    normal = torch.randint(0, 255, (2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # Four pairs of two photographs; the third has no anomaly, the last differs in one pixel.
    normal, anomalous = normal.repeat(2, 1, 1, 1), normal.repeat(2, 1, 1, 1)
    anomalous[:2] = 255 - anomalous[:2]
    anomalous[3, 0, 0, 0] += 100
    mask, valid = torch.zeros(4, SIDE, SIDE, dtype=torch.bool), torch.ones(4, SIDE, SIDE, dtype=torch.bool)
    backbone, settings = CountingBackbone(), EmbeddingSettings(levels=(1,), averages=(1,))
    using, pairs = BundlePreparation(), PairSet(normal, anomalous, mask, valid)
    space, levels = fit_latent_space(
        backbone, normal[:2], valid[:2], settings, recipe=LatentRecipe(modelled=1), using=using
    )
    assert sum(backbone.seen) == 2
    found, judged = encode_image_pairs(backbone, pairs, space, using, levels)
    assert sum(backbone.seen) == 2 + 3  # the two that are inverted, and the one with another pixel
    assert judged.all()
    for i in range(4):
        for side, images in ((found.normal, normal), (found.anomalous, anomalous)):
            alone = PairSet(images[i : i + 1], images[i : i + 1], mask[:1], valid[:1])
            assert torch.equal(side[i], encode_image_pairs(backbone, alone, space, using)[0].normal[0])

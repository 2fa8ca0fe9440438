"""A gain in AUROC counts where it holds for nearly every draw of the parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from training.finetune.separation import Separation, gain_over


def single(values: list[float]) -> list[Tensor]:
    return [torch.tensor([value]) for value in values]


def test_the_auroc_is_scikit_learns_with_ties_and_images_of_many_or_no_values() -> None:
    good = [torch.tensor([0.1, 0.2, 0.2]), torch.tensor([0.4])]
    anomalous = [torch.tensor([0.2, 0.5]), torch.tensor([]), torch.tensor([0.4, 0.1, 0.9])]
    values = torch.cat([*good, *anomalous]).numpy()
    expected = roc_auc_score([0] * 4 + [1] * 5, values)
    made = Separation.of_values(good, anomalous)
    assert made.auroc == pytest.approx(expected)
    twice = np.array([[2.0, 1.0, 1.0, 1.0, 0.0]])  # the first image twice, the last not at all
    kept = torch.cat([good[0], good[0], good[1], anomalous[0]]).numpy()
    assert made.aurocs(twice)[0] == pytest.approx(roc_auc_score([0] * 7 + [1] * 2, kept))


def test_a_gain_that_one_part_alone_makes_is_not_sure_and_one_that_every_part_makes_is() -> None:
    parts = tuple("abcdef") * 2
    before = Separation.of_values(single([1, 2, 3, 4, 5, 6]), single([1, 2, 3, 4, 5, 6]))
    everywhere = Separation.of_values(single([1, 2, 3, 4, 5, 6]), single([7, 8, 9, 10, 11, 12]))
    by_one = Separation.of_values(single([1, 2, 3, 4, 5, 6]), single([1, 2, 3, 4, 5, 12]))
    worse = Separation.of_values(single([1, 2, 3, 4, 5, 9]), single([1, 2, 3, 4, 5, 6]))
    assert gain_over([everywhere], [before], parts)[1] > 0
    gain, at_least = gain_over([by_one], [before], parts)
    # The last anomaly wins against 6 of 6 where it won against 5.5: half a pair of 36.
    assert gain == pytest.approx(0.5 / 36)
    assert at_least == 0.0  # the draws without the last part
    assert gain_over([worse], [before], parts)[0] < 0
    assert gain_over([before], [before], parts) == (0.0, 0.0)

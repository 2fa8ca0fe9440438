"""The memory bank and the Gaussians per place, on distances that are derived by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from glad import memory_bank
from glad.memory_bank import (
    MemoryBank,
    build_memory_bank,
    coreset,
    fit_patch_gaussians,
    group_numbers,
    random_subset,
)
from glad.settings.embedding import Density, MemoryBankSettings, Selection

LINE = torch.tensor([[0.0, 0.0], [3.0, 0.0], [10.0, 0.0]])
"""Three patches of two channels."""


def image(*places: tuple[float, float]) -> Tensor:
    """Return the features (2, 1, w) of an image of so many places."""
    return torch.tensor(places).T[:, None]


def all_of(features: Tensor) -> Tensor:
    return torch.ones(features.shape[1:], dtype=torch.bool)


def test_a_distance_is_that_to_the_nearest_patch() -> None:
    features = image((0.0, 4.0), (7.0, 0.0), (10.0, 0.0))
    found = MemoryBank(LINE.half()).nearest(features, all_of(features))
    assert found.tolist() == [[4.0, 3.0, 0.0]]


def test_a_place_that_is_not_judged_is_0() -> None:
    features = image((0.0, 4.0), (7.0, 0.0))
    assert MemoryBank(LINE.half()).nearest(features, torch.tensor([[False, True]])).tolist() == [[0.0, 3.0]]


def test_an_image_of_which_nothing_is_judged_is_0_everywhere() -> None:
    features = image((0.0, 4.0), (7.0, 0.0))
    found = MemoryBank(LINE.half()).nearest(features, torch.zeros(1, 2, dtype=torch.bool))
    assert found.tolist() == [[0.0, 0.0]]


def test_large_numbers_cost_no_precision() -> None:
    # |q|² + |p|² - 2 q·p in float32 would be off by about 1 here, where the squares are 2e6.
    patches = torch.tensor([[1000.0, 1000.0], [-1000.0, 0.0]])
    features = image((1000.0, 1000.25))
    assert MemoryBank(patches.half()).nearest(features, all_of(features)).item() == 0.25


def test_leaving_a_group_out_is_a_bank_without_it() -> None:
    bank = MemoryBank(LINE.half(), torch.tensor([0, 1, 1]))
    features = image((3.0, 0.0), (0.0, 0.0))
    assert bank.leave_group_out(features, all_of(features), 1).tolist() == [[3.0, 0.0]]
    assert bank.leave_group_out(features, all_of(features), 0).tolist() == [[0.0, 3.0]]
    assert bank.leave_group_out(features, all_of(features), 7).tolist() == [[0.0, 0.0]]


def test_pieces_of_a_search_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    bank, features = MemoryBank(torch.randn(50, 8).half()), torch.randn(8, 5, 5)
    whole = bank.nearest(features, all_of(features))
    monkeypatch.setattr(memory_bank, "DISTANCES_AT_ONCE", 120)  # two queries at a time
    torch.testing.assert_close(bank.nearest(features, all_of(features)), whole)


def test_a_distance_is_divided_by_the_spacing_of_the_parts_around_it() -> None:
    # Spacing to the nearest patch of the other group: 0 -> 4 of group 1: 4; 1 -> 4: 3; 4 -> 1: 3; 20 -> 1: 19.
    patches = torch.tensor([[0.0], [1.0], [4.0], [20.0]])
    bank = MemoryBank(patches.half(), torch.tensor([0, 0, 1, 1]))
    features = torch.tensor([[[2.0, 22.0]]])
    judged = torch.ones(1, 2, dtype=torch.bool)
    spaced = bank.with_spacing(Density.FULL, 2)
    assert spaced.spacing is not None
    assert spaced.spacing.tolist() == [4.0, 3.0, 3.0, 19.0]
    # 2: distance 1, neighbours 1 and then 0 or 4 at distance 2; both neighbours' spacing is 3 with 4, 3.5 with 0.
    # 22: distance 2, neighbours 20 and 4: (19 + 3) / 2 = 11.
    far = spaced.nearest(features, judged)[0, 1].item()
    assert far == pytest.approx(2 / 11)
    rooted = bank.with_spacing(Density.SQRT, 2).nearest(features, judged)[0, 1].item()
    assert rooted == pytest.approx(2 / math.sqrt(11))
    assert bank.with_spacing(Density.NONE, 2).nearest(features, judged)[0, 1].item() == 2.0


def test_equal_patches_of_two_parts_divide_by_no_zero() -> None:
    bank = MemoryBank(torch.tensor([[1.0], [1.0]]).half(), torch.tensor([0, 1])).with_spacing(Density.FULL, 1)
    found = bank.nearest(torch.tensor([[[2.0]]]), torch.ones(1, 1, dtype=torch.bool))
    assert torch.isfinite(found).all()


def test_a_random_subset_is_the_same_for_a_seed_and_another_for_another() -> None:
    patches = torch.zeros(100, 2)
    first = random_subset(patches, 10, seed=0)
    assert first.tolist() == sorted(set(first.tolist()))
    assert len(first) == 10
    assert random_subset(patches, 10, seed=0).tolist() == first.tolist()
    assert random_subset(patches, 10, seed=1).tolist() != first.tolist()
    assert random_subset(patches, 1000, seed=0).tolist() == list(range(100))


def test_a_coreset_takes_the_farthest_first_whatever_is_drawn_first() -> None:
    # Three heaps of patches that lie close together: each next one comes from a heap that has none yet.
    heaps = torch.tensor([0.0, 0.01, 0.02, 50.0, 50.01, 200.0, 200.01, 200.02])[:, None]
    for seed in range(5):
        chosen = heaps[coreset(heaps, 3, seed), 0]
        assert [round(float(value) / 50) for value in chosen] == [0, 1, 4]
    assert coreset(heaps, 20, 0).tolist() == list(range(8))


def test_a_coreset_is_chosen_in_a_projection_that_keeps_heaps_apart() -> None:
    torch.manual_seed(0)
    heaps = torch.randn(4, 1, 200) * 10 + 0.01 * torch.randn(4, 25, 200)
    chosen = coreset(heaps.reshape(100, 200), 4, seed=0)
    assert sorted(int(index) // 25 for index in chosen) == [0, 1, 2, 3]


@pytest.mark.parametrize("selection", Selection)
def test_a_bank_keeps_so_many_patches_and_their_groups(selection: Selection) -> None:
    patches = torch.arange(40.0).reshape(20, 2)
    settings = MemoryBankSettings(patches=5, selection=selection)
    bank = build_memory_bank(patches, torch.arange(20), settings)
    assert bank.patches.dtype == torch.float16
    assert bank.groups is not None
    assert bank.patches[:, 0].tolist() == [2.0 * group for group in bank.groups.tolist()]
    assert len(bank.groups) == 5


def test_what_makes_no_bank_is_refused() -> None:
    settings = MemoryBankSettings()
    with pytest.raises(ValueError, match="at least one good image"):
        build_memory_bank(torch.zeros(0, 2), None, settings)
    with pytest.raises(ValueError, match="1 groups for 3 patches"):
        build_memory_bank(LINE, torch.zeros(1), settings)
    with pytest.raises(ValueError, match="not finite in float16"):
        build_memory_bank(LINE * 1e6, None, settings)
    with pytest.raises(ValueError, match="at least two of them"):
        build_memory_bank(LINE, torch.zeros(3), MemoryBankSettings(density=Density.SQRT))


def test_what_a_bank_cannot_compare_is_refused() -> None:
    features = image((0.0, 0.0))
    with pytest.raises(ValueError, match="2 channels: give one image"):
        MemoryBank(LINE.half()).nearest(torch.zeros(3, 1, 1), all_of(features))
    with pytest.raises(ValueError, match="does not know which part"):
        MemoryBank(LINE.half()).nearest(features, all_of(features), without=0)
    with pytest.raises(ValueError, match="no patch is left"):
        MemoryBank(LINE.half(), torch.zeros(3)).nearest(features, all_of(features), without=0)


def test_groups_of_one_name_have_one_number() -> None:
    assert group_numbers(("b", "a", "b", "c")) == (1, 0, 1, 2)


def test_a_gaussian_measures_in_deviations_of_its_own_place() -> None:
    # Place 0: -1, 1 -> mean 0, variance 2 (n - 1 = 1). Place 1: 10, 14 -> mean 12, variance 8. One channel: shrinking
    # towards the mean variance changes nothing.
    good = torch.tensor([[[[-1.0, 10.0]]], [[[1.0, 14.0]]]])
    judged = torch.ones(2, 1, 2, dtype=torch.bool)
    gaussians = fit_patch_gaussians(good, judged, shrinkage=0.5, least_images=2)
    found = gaussians.distances(torch.tensor([[[3.0, 12.0]]]), judged[0])
    assert found[0].tolist() == pytest.approx([3 / math.sqrt(2), 0.0])


def test_shrinkage_mixes_the_covariance_with_its_mean_variance() -> None:
    # Channels 0 and 1 of three patches: variances 4 and 0, covariance 0. Half of it, and half of their mean 2 on the
    # diagonal: 3 and 1.
    good = torch.tensor([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]])[:, :, None, None]
    judged = torch.ones(3, 1, 1, dtype=torch.bool)
    gaussians = fit_patch_gaussians(good, judged, shrinkage=0.5, least_images=2)
    assert gaussians.distances(image((3.0, 0.0)), judged[0]).item() == pytest.approx(math.sqrt(3))
    assert gaussians.distances(image((0.0, 3.0)), judged[0]).item() == pytest.approx(3.0)


def test_a_place_that_few_images_show_takes_the_gaussian_of_all_places() -> None:
    good = torch.tensor([[[[-1.0, 500.0]]], [[[1.0, 3.0]]]])
    judged = torch.tensor([[[True, False]], [[True, True]]])
    gaussians = fit_patch_gaussians(good, judged, shrinkage=0.5, least_images=2)
    # All places together: -1, 1, 3: mean 1, variance 4. The 500 is not judged and takes no part.
    found = gaussians.distances(torch.tensor([[[0.0, 5.0]]]), torch.ones(1, 2, dtype=torch.bool))
    assert found[0].tolist() == pytest.approx([0.0, 2.0])


def test_gaussians_of_another_grid_or_of_nothing_are_refused() -> None:
    good, judged = torch.randn(4, 2, 1, 1), torch.ones(4, 1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="same side and stride"):
        fit_patch_gaussians(good, judged).distances(torch.zeros(2, 2, 2), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least two patches"):
        fit_patch_gaussians(good, torch.zeros_like(judged))
    with pytest.raises(ValueError, match="share above 0"):
        fit_patch_gaussians(good, judged, shrinkage=0.0)


def test_a_bank_without_a_group_is_what_leaving_it_out_measures() -> None:
    bank = MemoryBank(torch.tensor([[0.0], [1.0], [5.0]]).half(), torch.tensor([7, 7, 9]))
    features, judged = torch.tensor([[[1.0]]]), torch.ones(1, 1, dtype=torch.bool)
    assert bank.nearest(features, judged).item() == 0
    assert bank.without(7).nearest(features, judged).item() == bank.nearest(features, judged, without=7).item() == 4
    with pytest.raises(ValueError, match="at least two groups"):
        bank.without(7).without(9)
    with pytest.raises(ValueError, match="does not know"):
        MemoryBank(torch.zeros(1, 1).half()).without(7)


def test_a_search_by_the_first_channels_measures_in_all_of_them() -> None:
    bank = MemoryBank(torch.tensor([[0.0, 10.0], [3.0, 0.0]]).half(), searched=1)
    features, judged = torch.tensor([1.0, 0.0]).reshape(2, 1, 1), torch.ones(1, 1, dtype=torch.bool)
    # By the first channel the first patch is nearer, |1 - 0| < |1 - 3|; by both it is the second, 2 < sqrt(1 + 100).
    assert bank.residuals(features, judged).flatten().tolist() == [1.0, -10.0]
    assert bank.nearest(features, judged).item() == pytest.approx(math.sqrt(101))
    assert MemoryBank(bank.patches).nearest(features, judged).item() == 2.0


@pytest.mark.parametrize("searched", [0, 3])
def test_a_search_by_more_channels_than_there_are_or_none_is_refused(searched: int) -> None:
    with pytest.raises(ValueError, match=f"searched is {searched}; patches have 2 channels"):
        MemoryBank(torch.zeros(1, 2).half(), searched=searched)

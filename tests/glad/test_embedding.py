"""The embedding on arithmetic backbones: averages, scales, the grid, and what a letterbox may not do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glad.embedding import Embedding, combine_levels, embed, full_resolution, judged_places, level_scales, top_mean
from glad.memory_bank import MemoryBank
from glad.settings.embedding import AverageOver, EmbeddingSettings


@dataclass(frozen=True)
class MeanBackbone:
    """Level k is the mean colour of each square of 2^k pixels."""

    levels: int = 4
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def stride(self, level: int) -> int:
        return int(2**level)

    def channels(self, level: int) -> int:
        return 3

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(F.avg_pool2d(images, self.stride(level)) for level in levels)


def everywhere(side: int, batch: int = 1) -> Tensor:
    return torch.ones(batch, side, side, dtype=torch.bool)


def letterboxed(side: int, rows: slice) -> Tensor:
    valid = torch.zeros(1, side, side, dtype=torch.bool)
    valid[:, rows] = True
    return valid


def test_levels_stand_one_after_the_other_on_one_grid_each_divided_by_its_scale() -> None:
    settings = EmbeddingSettings(levels=(2, 3, 4), averages=(1, 1, 1), stride=8)
    images = torch.rand(2, 3, 32, 32)
    found = embed(MeanBackbone(), images, everywhere(32, 2), settings, (1.0, 2.0, 4.0))
    assert found.features.shape == (2, 9, 4, 4)
    stride_8 = F.avg_pool2d(images, 8)
    torch.testing.assert_close(found.features[:, 0:3], stride_8)  # the mean of four means of equal squares
    torch.testing.assert_close(found.features[:, 3:6], stride_8 / 2)
    # align_corners=False at twice the side: the outermost place is the coarse one's, the next 3/4 of it and 1/4 of its
    # neighbour's.
    coarse = F.avg_pool2d(images, 16)
    torch.testing.assert_close(found.features[:, 6:9, 0, 0], coarse[:, :, 0, 0] / 4)
    expected = (0.75 * coarse[:, :, 0, 0] + 0.25 * coarse[:, :, 0, 1]) / 4
    torch.testing.assert_close(found.features[:, 6:9, 0, 1], expected)


def test_the_average_runs_at_the_levels_own_stride() -> None:
    level = torch.zeros(1, 1, 4, 4)
    level[0, 0, 1, 1] = 9.0
    settings = EmbeddingSettings(levels=(4,), averages=(3,), stride=8)
    found = combine_levels([level], everywhere(64), settings, (1.0,)).features[0, 0]
    # The nine places around (1, 1) hold 9 / 9 at stride 16, which are 6×6 places at stride 8; at their middle nothing
    # is mixed with what lies outside.
    assert found[0:5, 0:5].tolist() == [[1.0] * 5] * 5
    assert found[0, 5].item() == 0.75
    assert found[7].tolist() == [0.0] * 8


def test_an_average_over_the_image_alone_leaves_its_padding_out() -> None:
    level = torch.tensor([[[[2.0, 2.0], [8.0, 8.0]]]])  # the lower half is padding
    valid = letterboxed(16, slice(0, 8))
    found = {
        over: combine_levels(
            [level], valid, EmbeddingSettings(levels=(3,), averages=(3,), stride=8, average_over=over), (1.0,)
        ).features[0, 0]
        for over in AverageOver
    }
    assert found[AverageOver.ALL][0].tolist() == pytest.approx([20 / 9] * 2)  # 2 + 2 + 8 + 8, and five zeros outside
    assert found[AverageOver.IMAGE][0].tolist() == pytest.approx([2.0] * 2)


def test_a_place_is_judged_only_where_all_its_pixels_are_image() -> None:
    assert judged_places(letterboxed(32, slice(8, 23)), 8)[0, :, 0].tolist() == [False, True, False, False]


def test_of_an_image_too_narrow_for_any_place_those_that_show_it_are_judged() -> None:
    narrow = torch.cat([letterboxed(32, slice(8, 13)), everywhere(32)])
    found = judged_places(narrow, 8)
    assert found[0, :, 0].tolist() == [False, True, False, False]
    assert found[1].all()


def test_scales_are_the_deviation_over_judged_places_all_channels_of_a_level_together() -> None:
    features = torch.zeros(1, 3, 1, 3)
    features[0, 0, 0, :2] = torch.tensor([1.0, 3.0])  # the first level: 1, 3, and 1, 3: mean 2, deviation 1
    features[0, 1, 0, :2] = torch.tensor([1.0, 3.0])
    features[0, 2, 0, :2] = torch.tensor([-4.0, 4.0])  # the second: deviation 4
    features[..., 2] = 1000.0  # not judged
    one = Embedding(features, torch.tensor([[[True, True, False]]]))
    assert level_scales([one, one], (2, 1)) == pytest.approx((1.0, 4.0))


def test_scales_need_places_and_levels_that_differ_somewhere() -> None:
    same = Embedding(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="no places"):
        level_scales([], (1,))
    with pytest.raises(ValueError, match="same number everywhere"):
        level_scales([same], (1,))


def test_wrong_scales_sides_and_strides_are_refused_with_what_fits() -> None:
    settings = EmbeddingSettings(levels=(3,), averages=(1,), stride=8)
    level = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="1 levels and 2 scales"):
        combine_levels([level], everywhere(32), settings, (1.0, 1.0))
    with pytest.raises(ValueError, match=r"0.0 is no standard deviation"):
        combine_levels([level], everywhere(32), settings, (0.0,))
    with pytest.raises(ValueError, match="a multiple of 8"):
        combine_levels([level], everywhere(36), settings, (1.0,))
    with pytest.raises(ValueError, match="7 places on a side, the grid 4"):
        combine_levels([torch.zeros(1, 1, 7, 7)], everywhere(32), settings, (1.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (4, 3)}, "ascending"),
        ({"levels": (0, 3)}, "from 1"),
        ({"averages": (3,)}, "one window per level"),
        ({"averages": (3, 4)}, "4 has no middle"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingSettings.model_validate(changes)


def test_what_is_not_judged_never_reaches_the_map_and_the_rim_keeps_its_value() -> None:
    valid = letterboxed(32, slice(0, 20))[0]  # ends within the third row of places
    judged = judged_places(valid[None], 8)[0]
    values = torch.full((4, 4), 1000.0)  # what the padding's places would hold
    values[judged] = 5.0
    found = full_resolution(values, judged, valid)
    assert found[:20].eq(5.0).all()
    assert found[20:].eq(0.0).all()


def test_a_map_is_interpolated_between_places() -> None:
    values = torch.tensor([[0.0, 4.0], [0.0, 4.0]])
    judged = torch.ones(2, 2, dtype=torch.bool)
    # Four pixels a place, their centres at -0.375, -0.125, 0.125, 0.375 of a place: 0, 0, 1/8, 3/8 ... of the way.
    expected = [0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]
    assert full_resolution(values, judged, torch.ones(8, 8, dtype=torch.bool))[3].tolist() == expected


def test_places_that_zones_leave_out_take_the_value_of_the_nearest_judged_one() -> None:
    """Judged: the four corners of 5 × 5, 1 2 / 3 4. Row 2 and column 2 are as near to both; the first one wins."""
    judged, values = torch.zeros(5, 5, dtype=torch.bool), torch.full((5, 5), 9.0)
    for y, x, value in ((0, 0, 1.0), (0, 4, 2.0), (4, 0, 3.0), (4, 4, 4.0)):
        judged[y, x], values[y, x] = True, value
    extended = full_resolution(values, judged, torch.ones(5, 5, dtype=torch.bool))
    assert extended.tolist() == [[1, 1, 1, 2, 2]] * 3 + [[3, 3, 3, 4, 4]] * 2


def test_without_a_judged_place_there_is_no_map() -> None:
    with pytest.raises(ValueError, match="no place is judged"):
        full_resolution(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool), torch.ones(16, 16, dtype=torch.bool))


def test_the_score_is_the_mean_of_the_largest_share_and_of_one_place_at_least() -> None:
    values = torch.arange(10.0).reshape(2, 5)
    judged = values < 9  # 0 ... 8
    assert top_mean(values, judged, 0.3) == 7.0  # the largest three of nine: 8, 7, 6
    assert top_mean(values, judged, 0.01) == 8.0


def _bank_of(images: Tensor, valid: Tensor, settings: EmbeddingSettings) -> MemoryBank:
    good = embed(MeanBackbone(), images, valid, settings, (1.0,) * len(settings.levels))
    return MemoryBank(good.features.permute(0, 2, 3, 1)[good.judged].half())


def test_the_letterbox_is_no_anomaly_where_no_good_image_had_one() -> None:
    settings = EmbeddingSettings(levels=(3,), averages=(1,), stride=8)
    bank = _bank_of(torch.full((1, 3, 64, 64), 0.5), everywhere(64), settings)
    images, valid = torch.full((1, 3, 64, 64), -1.0), letterboxed(64, slice(16, 45))  # 45: amid a place
    images[:, :, 16:45] = 0.5
    found = embed(MeanBackbone(), images, valid, settings, (1.0,))
    assert bank.nearest(found.features[0], found.judged[0]).abs().max() == 0.0


@pytest.mark.parametrize("row", [16, 39, 44])  # the image's first, its last whole place's last, its last of all
def test_a_letterbox_hides_no_anomaly_at_the_images_edge(row: int) -> None:
    settings = EmbeddingSettings(levels=(3,), averages=(3,), stride=8)
    valid = letterboxed(64, slice(16, 45))
    good = torch.full((1, 3, 64, 64), 0.0)
    good[:, :, 16:45] = 0.5
    bad = good.clone()
    bad[:, :, row, 8:56] = 9.5
    bank = _bank_of(good, valid, settings)
    found = embed(MeanBackbone(), bad, valid, settings, (1.0,))
    distances = bank.nearest(found.features[0], found.judged[0])
    anomaly_map = full_resolution(distances, found.judged[0], valid[0])
    # A row of 9 more is 9 / 24 = 0.375 more in a window of 24 rows. Windows at the rim hold a third of padding: 0.33 in
    # place of 0.5. So beyond the brightest good patch lies at least 0.33 + 0.375 - 0.5, in each of three channels.
    assert anomaly_map[row, 32] > 0.2 * 3**0.5

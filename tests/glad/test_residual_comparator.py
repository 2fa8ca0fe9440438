"""The comparator in closed form, on numbers that are derived by hand."""

from __future__ import annotations

import pytest
import torch

from glad.memory_bank import MemoryBank
from glad.residual_comparator import (
    ResidualComparator,
    SecondMoments,
    average_vectors,
    fit_residual_comparator,
)

EVERYWHERE = torch.ones(3, 3, dtype=torch.bool)


def moments(*variances: float) -> SecondMoments:
    """Return second moments of four places whose covariance is diagonal with these variances."""
    return SecondMoments(torch.diag(torch.tensor(variances).double()) * 4, 4)


def test_a_direction_in_which_good_parts_differ_as_much_as_anomalies_gets_no_weight() -> None:
    # Without shrinkage 1/1 - 1/4 = 0.75 and 1/9 - 1/9 = 0. Shrinkage s pulls the good's variances 1 and 9 towards 5,
    # and the anomalies' 4 and 9 towards 6.5; at 1e-9 that is nothing.
    comparator = fit_residual_comparator(moments(1, 9), moments(4, 9), window=1, shrinkage=1e-9)
    torch.testing.assert_close(comparator.weights, torch.tensor([[0.75, 0.0], [0.0, 0.0]]), atol=1e-6, rtol=0)


def test_a_direction_that_anomalies_make_smaller_speaks_for_no_part() -> None:
    # 1/4 - 1/1 = -0.75 would lower the distance of a place that differs a lot.
    comparator = fit_residual_comparator(moments(1, 4), moments(4, 1), window=1, shrinkage=1e-9)
    torch.testing.assert_close(comparator.weights, torch.tensor([[0.75, 0.0], [0.0, 0.0]]), atol=1e-6, rtol=0)


def test_shrinkage_replaces_a_share_by_the_mean_variance() -> None:
    # (1, 3) has the mean 2: half of it replaced gives 0.5 + 1 and 1.5 + 1.
    shrunk = moments(1, 3).shrunk(0.5)
    torch.testing.assert_close(shrunk, torch.diag(torch.tensor([1.5, 2.5]).double()))


def test_the_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    places = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
    whole = SecondMoments.from_places(places)
    added = SecondMoments.from_places(places[:1]) + SecondMoments.from_places(places[1:])
    assert added.count == whole.count == 3
    torch.testing.assert_close(added.total, whole.total)


def test_the_distance_is_the_quadratic_form_under_a_root() -> None:
    differences = torch.zeros(2, 3, 3)
    differences[:, 1, 1] = torch.tensor([3.0, 5.0])
    comparator = ResidualComparator(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), window=1)
    expected = torch.zeros(3, 3)
    expected[1, 1] = 6.0  # sqrt(4 * 3²)
    torch.testing.assert_close(comparator.distances(differences, EVERYWHERE), expected)


def test_differences_that_point_everywhere_cancel_and_those_that_agree_stay() -> None:
    texture = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 0.0, -1.0], [1.0, -1.0, 1.0]])[None]
    defect = torch.ones(1, 3, 3)
    assert average_vectors(texture, EVERYWHERE, 3)[0, 1, 1] == 0  # four of 1 and four of -1
    assert average_vectors(defect, EVERYWHERE, 3)[0, 1, 1] == pytest.approx(1)


def test_an_average_counts_judged_places_alone() -> None:
    judged = EVERYWHERE.clone()
    judged[:, 0] = False
    differences = torch.full((1, 3, 3), 2.0)
    differences[:, :, 0] = 1000.0  # whatever stands in the padding
    averaged = average_vectors(differences, judged, 3)
    torch.testing.assert_close(averaged[0], torch.tensor([[0.0, 2.0, 2.0]] * 3))


def test_lengths_of_residuals_are_the_distances_of_the_memory() -> None:
    bank = MemoryBank(torch.tensor([[0.0, 0.0], [10.0, 0.0]]).half(), torch.tensor([0, 1]))
    features = torch.tensor([[[3.0, 9.0]], [[4.0, 0.0]]])  # places (3, 4) and (9, 0)
    judged = torch.tensor([[True, True]])
    residuals = bank.residuals(features, judged)
    torch.testing.assert_close(residuals, torch.tensor([[[3.0, -1.0]], [[4.0, 0.0]]]))
    torch.testing.assert_close(residuals.norm(dim=0), bank.nearest(features, judged))
    apart = bank.residuals(features, judged, without=1)
    torch.testing.assert_close(apart[:, 0, 1], torch.tensor([9.0, 0.0]))


def test_places_that_are_not_judged_stay_0() -> None:
    residual = torch.full((2, 3, 3), 7.0)
    judged = torch.zeros(3, 3, dtype=torch.bool)
    judged[1, 1] = True
    comparator = ResidualComparator(torch.eye(2), window=3)
    distances = comparator.distances(residual, judged)
    assert distances[~judged].eq(0).all()
    assert distances[1, 1] == pytest.approx((2 * 49) ** 0.5)


@pytest.mark.parametrize("window", [0, 2, -1])
def test_a_window_without_a_middle_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match="odd number"):
        fit_residual_comparator(moments(1, 1), moments(2, 2), window=window)


@pytest.mark.parametrize("shrinkage", [0.0, 1.5])
def test_a_shrinkage_outside_its_range_is_refused(shrinkage: float) -> None:
    with pytest.raises(ValueError, match="shrinkage"):
        fit_residual_comparator(moments(1, 1), moments(2, 2), window=1, shrinkage=shrinkage)


def test_anomalies_that_enlarge_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no direction"):
        fit_residual_comparator(moments(2, 2), moments(1, 1), window=1)


def test_places_that_never_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="no covariance"):
        SecondMoments.from_places(torch.zeros(5, 2)).shrunk(0.1)


def test_differences_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels were learnt"):
        ResidualComparator(torch.eye(3), window=1).distances(torch.zeros(2, 3, 3), EVERYWHERE)

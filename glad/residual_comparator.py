"""A comparator learnt in closed form: does this difference look like one of a defect, or like one among good parts?

The difference r of a place from its good counterpart (the nearest patch of a memory, or a reconstruction) is a vector
of C channels. Its length counts every channel alike, those too in which good parts differ from each other all the time.
Under two Gaussians of mean 0, one of good differences and one of those of synthetic anomalies, the log-likelihood
ratio is, up to a constant and a factor, the quadratic form

    r^T (S_good^-1 - S_anomalous^-1) r

which is all that is learnt: a matrix of C by C numbers from two covariances. Quadratic discriminant analysis has the
same form. A direction that anomalies do not enlarge gets no weight; none is negative, so that no difference, however
large, can speak for a part.

Before that, differences are averaged as vectors over a window: those of texture point anywhere and cancel, those of a
defect agree. Averaging distances instead would keep the texture's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glad.embedding import average_counted


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """The sum of r r^T over places, and how many there are; sums of parts add up."""

    total: Tensor
    """(C, C) float64."""
    count: int

    @classmethod
    def from_places(cls, differences: Tensor) -> SecondMoments:
        """Return the second moments of differences (N, C)."""
        wide = differences.double()
        return cls(wide.T @ wide, len(differences))

    def __add__(self, other: SecondMoments) -> SecondMoments:
        return SecondMoments(self.total + other.total, self.count + other.count)

    def shrunk(self, shrinkage: float) -> Tensor:
        """Return the covariance about 0, (C, C) float64, of which a share is replaced by its mean variance.

        Raises:
            ValueError: if there are no places, or none differs from 0.
        """
        if self.count < 1 or not bool(self.total.diagonal().sum() > 0):
            raise ValueError(
                f"{self.count} places give no covariance of differences: give places that differ from their "
                "counterparts, such as those of images that are not in the memory themselves"
            )
        covariance = self.total / self.count
        identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        return (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().mean() * identity


@dataclass(frozen=True, eq=False)
class ResidualComparator:
    """Weighs differences from the good by what anomalies change, and what good parts don't."""

    weights: Tensor
    """(C, C) float32: a symmetric matrix without negative eigenvalues."""
    window: int
    """Side of the window over which differences are averaged, in places."""

    def distances(self, differences: Tensor, judged: Tensor) -> Tensor:
        """Return how far each judged place is from the good, (h, w) float32, at least 0; 0 elsewhere.

        Args:
            differences: (C, h, w), of one image; 0 where nothing is judged.
            judged: (h, w) bool.

        Raises:
            ValueError: if the channels are others than those that were learnt.
        """
        if differences.ndim != 3 or len(differences) != len(self.weights):
            raise ValueError(
                f"differences are {tuple(differences.shape)}, {len(self.weights)} channels were learnt: give one image "
                "(C, h, w) of the embedding that the comparator was fitted on"
            )
        places = average_vectors(differences, judged, self.window)[:, judged].T
        measured = torch.zeros(judged.shape, device=differences.device)
        # Not negative but for rounding, which the square root would turn into NaN.
        measured[judged] = ((places @ self.weights) * places).sum(dim=1).clamp_min(0).sqrt()
        return measured

    def in_units_of(self, good: SecondMoments) -> ResidualComparator:
        """Return the comparator whose distances on good differences, averaged already, have a root mean square of 1."""
        square = (self.weights.double() * good.total).sum() / max(1, good.count)
        return ResidualComparator((self.weights.double() / square.clamp_min(torch.finfo().tiny)).float(), self.window)


def fit_residual_comparator(
    good: SecondMoments, anomalous: SecondMoments, *, window: int, shrinkage: float = 0.4
) -> ResidualComparator:
    """Return the comparator of good and anomalous differences, both averaged over this window already.

    Args:
        good: of good images, each compared with good ones of other parts.
        anomalous: of the places that synthetic anomalies have changed.
        window: odd, in places.
        shrinkage: share, above 0 and at most 1, of either covariance that is replaced by its mean variance.

    Raises:
        ValueError: for a window or a shrinkage that is not allowed, for places that give no covariance, or if anomalies
            enlarge no difference at all.
    """
    check_window(window)
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage is {shrinkage}: give a share above 0 and at most 1")
    difference = torch.linalg.inv(good.shrunk(shrinkage)) - torch.linalg.inv(anomalous.shrunk(shrinkage))
    strengths, directions = torch.linalg.eigh((difference + difference.T) / 2)
    if not bool((strengths > 0).any()):
        raise ValueError(
            "no direction of the features is larger where anomalies are: the backbone does not see these anomalies, or "
            "the good images differ more among each other than from them"
        )
    weights = directions @ torch.diag(strengths.clamp_min(0)) @ directions.T
    return ResidualComparator(weights.float(), window)


def average_vectors(differences: Tensor, judged: Tensor, window: int) -> Tensor:
    """Return differences (C, h, w), each the mean over the judged places of its window; 0 where nothing is judged.

    Raises:
        ValueError: if the window is not odd.
    """
    check_window(window)
    if window == 1:
        return differences * judged
    return average_counted(differences[None], judged[None, None].float(), window)[0] * judged


def check_window(window: int) -> None:
    """Check a window's side.

    Raises:
        ValueError: if it is not an odd number from 1.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is {window}; it needs a middle: give an odd number from 1")

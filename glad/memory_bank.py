"""Two yardsticks of how unlike good images an embedding is: a memory of good patches, and a Gaussian per place.

The memory is PatchCore's (Roth et al. 2022): the distance of each patch to the nearest good one. The Gaussian is
PaDiM's (Defard et al. 2021): the Mahalanobis distance to the good patches of the same place. Each takes one image at a
time, so that no image's score depends on its neighbours in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glad.settings.embedding import Density, MemoryBankSettings, Selection

DISTANCES_AT_ONCE = 1 << 20
"""Distances of a search at a time: 4 MiB, which a core's cache holds. All at once takes twice as long."""
PROJECTED = 64
"""Dimensions in which the coreset is chosen: random projections keep distances well enough to choose by."""
LEAST_SPACING = 1e-6
"""Good patches that are equal have a spacing of 0, by which nothing can be divided."""


@dataclass(frozen=True, eq=False)
class MemoryBank:
    """The patches of good images, and what each image's own are."""

    patches: Tensor
    """(N, C) float16; computed with in float32."""
    groups: Tensor | None = None
    """(N,) int64: the part that each patch is of; None: not known."""
    spacing: Tensor | None = None
    """(N,) float32: the distance of each patch to the nearest one of another group; None: not measured."""
    density: Density = Density.NONE
    neighbours: int = 3
    searched: int | None = None
    """Channels, the first so many, by which the nearest patch is looked for; its distance and difference count all.

    In principal directions the first few hold nearly all of the distance, and a search costs in proportion to them.
    None: all.
    """

    def __post_init__(self) -> None:
        if self.searched is not None and not 1 <= self.searched <= self.patches.shape[1]:
            raise ValueError(
                f"searched is {self.searched}; patches have {self.patches.shape[1]} channels: choose from 1 to that"
            )

    def nearest(self, features: Tensor, judged: Tensor, *, without: int | None = None) -> Tensor:
        """Return the distance of each judged place of one image to its nearest patch, (h, w) float32; 0 elsewhere.

        Args:
            features: (C, h, w), of one image.
            judged: (h, w) bool.
            without: a group whose patches are left out: that of the image itself, if it is in the bank.

        Raises:
            ValueError: if the channels are others than the bank's, or nothing is left to compare with.
        """
        self._check_channels(features)
        found = torch.zeros(judged.shape, device=features.device)
        found[judged] = self._distances(features[:, judged].T, without)
        return found

    def residuals(self, features: Tensor, judged: Tensor, *, without: int | None = None) -> Tensor:
        """Return the difference of each judged place of one image from its nearest patch, (C, h, w); 0 elsewhere.

        Their lengths are the distances of `nearest` under `Density.NONE`; their directions say in what a place differs.

        Args:
            features: (C, h, w), of one image.
            judged: (h, w) bool.
            without: a group whose patches are left out: that of the image itself, if it is in the bank.

        Raises:
            ValueError: as in `nearest`.
        """
        self._check_channels(features)
        differences = torch.zeros(features.shape, device=features.device)
        queries = features[:, judged].T.float()
        where = self._candidates(queries, self._others(without), 1)[:, 0]
        differences[:, judged] = (queries - self.patches[where].float()).T
        return differences

    def leave_group_out(self, features: Tensor, judged: Tensor, group: int) -> Tensor:
        """Return the distances of an image that is in the bank itself, as if its whole group were not.

        Raises:
            ValueError: as in `nearest`.
        """
        return self.nearest(features, judged, without=group)

    def without(self, group: int) -> MemoryBank:
        """Return the bank without a group's patches.

        Raises:
            ValueError: if groups are not known, or nothing is left.
        """
        others = self._others(group)
        if others is None or not bool(others.any()):
            raise ValueError("no patch is left to compare with: a bank needs those of at least two groups")
        spacing = None if self.spacing is None else self.spacing[others]
        groups = None if self.groups is None else self.groups[others]
        return replace(self, patches=self.patches[others], groups=groups, spacing=spacing)

    def with_spacing(self, density: Density, neighbours: int) -> MemoryBank:
        """Return a bank that divides distances by the local spacing of its patches.

        Raises:
            ValueError: if groups are not known, or there is only one.
        """
        if density is Density.NONE:
            return replace(self, density=density)
        groups = [] if self.groups is None else sorted(set(self.groups.tolist()))
        if len(groups) < 2:
            raise ValueError("the spacing of patches is that between parts: give the groups of at least two of them")
        spacing = torch.empty(len(self.patches), device=self.patches.device)
        for group in groups:
            own = self.groups == group
            spacing[own] = self._search(self.patches[own].float(), ~own, 1)[0][:, 0]
        return replace(self, spacing=spacing, density=density, neighbours=neighbours)

    def _check_channels(self, features: Tensor) -> None:
        if features.ndim != 3 or features.shape[0] != self.patches.shape[1]:
            raise ValueError(
                f"features are {tuple(features.shape)}, the bank's patches have {self.patches.shape[1]} channels: give "
                "one image (C, h, w) of the embedding that the bank was made with"
            )

    def _distances(self, queries: Tensor, without: int | None) -> Tensor:
        if self.density is Density.NONE or self.spacing is None:
            return self._search(queries, self._others(without), 1)[0][:, 0]
        distances, where = self._search(queries, self._others(without), self.neighbours)
        spacing = self.spacing[where].mean(dim=1).clamp_min(LEAST_SPACING)
        return distances[:, 0] / (spacing.sqrt() if self.density is Density.SQRT else spacing)

    def _others(self, without: int | None) -> Tensor | None:
        """Return the mask (N,) of all patches but a group's; None: all of them."""
        if without is None:
            return None
        if self.groups is None:
            raise ValueError("this bank does not know which part its patches are of: make it with their groups")
        return self.groups != without

    @cached_property
    def _searchable(self) -> Tensor:
        """-2 p and |p|² of every patch, in the channels that are searched: (searched + 1, N) float32, made once."""
        seen = self.patches[:, : self.searched].float()
        return torch.cat([-2 * seen, seen.square().sum(dim=1, keepdim=True)], dim=1).T.contiguous()

    def _search(self, queries: Tensor, among: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Return the distances (Q, k), ascending, of queries (Q, C) to their nearest patches, and which those are."""
        near = self._candidates(queries, among, count)
        # Measured directly: the search's own numbers are differences of large ones.
        exact = (self.patches[near].float() - queries.float()[:, None]).square().sum(dim=2).sqrt()
        ascending = exact.argsort(dim=1)
        return exact.gather(1, ascending), near.gather(1, ascending)

    def _candidates(self, queries: Tensor, among: Tensor | None, count: int) -> Tensor:
        """Return which patches are nearest to queries (Q, C) by the searched channels: (Q, k), in any order."""
        chosen = None if among is None else among.nonzero()[:, 0]
        searchable = self._searchable if chosen is None else self._searchable[:, chosen]
        patches = searchable.shape[1]
        if not patches:
            raise ValueError("no patch is left to compare with: a bank needs those of at least two groups")
        count = min(count, patches)
        where = []
        for part in torch.split(queries.float(), max(1, DISTANCES_AT_ONCE // patches)):
            # |q - p|² - |q|², which orders like the distance, is one matrix product.
            order = F.pad(part[:, : self.searched], (0, 1), value=1.0) @ searchable
            near = _least(order) if count == 1 else order.topk(count, dim=1, largest=False).indices
            where.append(near if chosen is None else chosen[near])
        return torch.cat(where) if where else queries.new_zeros(0, count).long()


def _least(rows: Tensor) -> Tensor:
    """Return where the least value of each row (Q, N) lies, (Q, 1); the first of equal ones."""
    if rows.device.type != "cpu":
        return rows.min(dim=1, keepdim=True).indices
    return torch.from_numpy(rows.numpy().argmin(axis=1))[:, None]  # four times as fast as torch's


def build_memory_bank(patches: Tensor, groups: Tensor | None, settings: MemoryBankSettings) -> MemoryBank:
    """Return a bank of at most so many of these patches (N, C), chosen as the settings say.

    Args:
        patches: (N, C), of the judged places of good images.
        groups: (N,) int64, the part that each is of; None: not known.

    Raises:
        ValueError: if there are no patches, if groups are of another number, or if some are not finite in float16.
    """
    if patches.ndim != 2 or not len(patches):
        raise ValueError(f"patches are {tuple(patches.shape)}: give (N, C), those of at least one good image")
    if groups is not None and len(groups) != len(patches):
        raise ValueError(f"{len(groups)} groups for {len(patches)} patches: give the group of each patch")
    stored = patches.half()
    if not torch.isfinite(stored).all():
        raise ValueError("some patches are not finite in float16: divide the features by their scale first")
    choose = random_subset if settings.selection is Selection.RANDOM else coreset
    chosen = choose(stored, settings.patches, settings.seed)
    owners = None if groups is None else groups[chosen]
    bank = MemoryBank(stored[chosen].contiguous(), owners, searched=settings.searched)
    return bank.with_spacing(settings.density, settings.neighbours)


def random_subset(patches: Tensor, count: int, seed: int) -> Tensor:
    """Return the indices, ascending, of at most `count` of the patches (N, C), drawn without replacement."""
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = np.sort(rng.permutation(len(patches))[:count])
    return torch.from_numpy(drawn).to(patches.device)


def coreset(patches: Tensor, count: int, seed: int) -> Tensor:
    """Return the indices, ascending, of at most `count` patches (N, C) that lie as far from each other as possible.

    Greedy k-centre in a random projection: the first is drawn, each next one is the farthest from all before.
    """
    if count >= len(patches):
        return torch.arange(len(patches), device=patches.device)
    rng = np.random.Generator(np.random.Philox(seed))
    points = _projected(patches.float(), rng)
    latest = int(rng.integers(len(points)))
    chosen, nearest = [latest], torch.full((len(points),), torch.inf, device=points.device)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (points - points[latest]).square().sum(dim=1))
        latest = int(nearest.argmax())
        chosen.append(latest)
    return torch.tensor(sorted(chosen), device=patches.device)


def _projected(patches: Tensor, rng: np.random.Generator) -> Tensor:
    channels = patches.shape[1]
    if channels <= PROJECTED:
        return patches
    directions = rng.standard_normal((channels, PROJECTED)).astype(np.float32) / np.float32(np.sqrt(PROJECTED))
    return patches @ torch.from_numpy(directions).to(patches.device)


@dataclass(frozen=True, eq=False)
class PatchGaussians:
    """A Gaussian per place of the letterboxed grid, of the good patches there."""

    channels: Tensor
    """(K,) int64: those of the embedding that are used."""
    mean: Tensor
    """(h, w, K) float32."""
    whitening: Tensor
    """(h, w, K, K) float32: the inverse of the covariance's lower Cholesky factor."""

    def distances(self, features: Tensor, judged: Tensor) -> Tensor:
        """Return the Mahalanobis distance of each judged place of one image, (h, w) float32; 0 elsewhere.

        Args:
            features: (C, h, w), of one image.
            judged: (h, w) bool.

        Raises:
            ValueError: if the grid is another one than that of the good images.
        """
        if features.ndim != 3 or features.shape[1:] != self.mean.shape[:2]:
            raise ValueError(
                f"features are {tuple(features.shape)}, the Gaussians' grid is {tuple(self.mean.shape[:2])}: give one "
                "image (C, h, w) of the same side and stride"
            )
        found = torch.zeros(judged.shape, device=features.device)
        apart = features[self.channels].permute(1, 2, 0).float()[judged] - self.mean[judged]
        found[judged] = (self.whitening[judged] @ apart[:, :, None])[:, :, 0].square().sum(dim=1).sqrt()
        return found


def fit_patch_gaussians(
    features: Tensor,
    judged: Tensor,
    *,
    dimensions: int = 100,
    shrinkage: float = 0.1,
    least_images: int = 10,
    seed: int = 0,
) -> PatchGaussians:
    """Return the Gaussians of good images.

    A place that fewer images show takes the Gaussian of all places together: images of several shapes end at
    different places.

    Args:
        features: (N, C, h, w), of N good images.
        judged: (N, h, w) bool.
        dimensions: channels drawn at random, at most; PaDiM's way to a covariance that few images can give.
        shrinkage: share, above 0, of the covariance that is replaced by the mean variance on its diagonal.
        least_images: that must show a place before it has a Gaussian of its own.

    Raises:
        ValueError: if no place is judged, or the shrinkage is none.
    """
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage is {shrinkage}: give a share above 0, or few images make no covariance")
    if int(judged.sum()) < 2:
        raise ValueError(f"{int(judged.sum())} places are judged: a Gaussian needs at least two patches")
    drawn = np.random.Generator(np.random.Philox(seed)).permutation(features.shape[1])[:dimensions]
    channels = torch.from_numpy(np.sort(drawn)).to(features.device)
    patches = features[:, channels].permute(0, 2, 3, 1)  # (N, h, w, K)
    pooled = _gaussian(patches[judged].float(), shrinkage)
    rows = [
        [
            _gaussian(own, shrinkage) if len(own) >= max(2, least_images) else pooled
            for own in (patches[:, y, x][judged[:, y, x]].float() for x in range(judged.shape[2]))
        ]
        for y in range(judged.shape[1])
    ]
    means, factors = (torch.stack([torch.stack([one[part] for one in row]) for row in rows]) for part in (0, 1))
    return PatchGaussians(channels, means, factors)


def _gaussian(patches: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return the mean (K,) of patches (n, K), and the inverse Cholesky factor (K, K) of their shrunk covariance."""
    mean = patches.mean(dim=0)
    apart = (patches - mean).double()
    covariance = apart.T @ apart / (len(patches) - 1)
    diagonal = torch.eye(patches.shape[1], dtype=torch.float64, device=patches.device)
    variance = covariance.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * diagonal
    factor = torch.linalg.cholesky(shrunk)
    return mean, torch.linalg.solve_triangular(factor, diagonal, upper=False).float()


def group_numbers(groups: Sequence[str]) -> tuple[int, ...]:
    """Return a number for each group's name, the same for the same name."""
    known = {name: number for number, name in enumerate(sorted(set(groups)))}
    return tuple(known[name] for name in groups)

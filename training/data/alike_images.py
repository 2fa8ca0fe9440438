"""Which images are alike: one photograph under two names, and several photographs of one part.

Both are judged by the images themselves, not by a fixed distance: the good parts of a line look so much alike that
perceptual hashes, made for pictures from everywhere, give many of them the same value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

Distances = NDArray[np.floating]
"""(N, N), symmetrical, 0 on the diagonal."""
TWIN_SHARE = 1 / 8
"""Of the distance at which an image's third neighbour usually lies: twins are nearer."""
TWIN_NEIGHBOUR = 3
"""So that up to two copies of every image still leave a neighbour that is none."""
GROUP_RATIO = 0.75
"""The images of a group hang together by distances of at most this share of the distance to any other image.

Where each image shows a part of its own, an image's nearest neighbours lie about as far away as the next ones: in many
dimensions distances concentrate. Of a few independent ones only a pair or two stand apart so far.
"""
MOST_PHOTOGRAPHS = 24
"""Of one part. What stands apart with more images is a lot, a view or a day."""
LARGEST_SHARE = 1 / 3
"""Of all images, that one part can have: with fewer than three parts there is nothing to hold out."""


def pairwise_distances(features: NDArray[np.float32]) -> Distances:
    """Return the Euclidean distances (N, N) between rows (N, D)."""
    squares = np.square(features, dtype=np.float64).sum(1)
    products = (features @ features.T).astype(np.float64)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * products, 0))
    np.fill_diagonal(distances, 0)
    return np.asarray((distances + distances.T) / 2)


def find_twins(thumbnails: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, that show one photograph: saved again, resized a little, or made brighter.

    Args:
        thumbnails: (N, D), see `training.data.image_survey.thumbnail_of`.
    """
    count = len(thumbnails)
    if count < 2:
        return []
    distances = pairwise_distances(thumbnails)
    others = np.sort(distances, axis=1)[:, 1:]
    usual = float(np.median(others[:, min(TWIN_NEIGHBOUR, count - 1) - 1]))
    first, second = np.nonzero(np.triu(distances <= TWIN_SHARE * usual, 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def isolated_groups(
    distances: Distances, *, ratio: float = GROUP_RATIO, most: int = MOST_PHOTOGRAPHS
) -> list[tuple[int, ...]]:
    """Return the groups of images that stand apart from all others, the largest that do; most images are in none.

    A group is a branch of single linkage: the longest step inside it is at most `ratio` of the step that leads out. A
    series in time, where each image is like the one before, has long chains and hardly any such branch.

    Args:
        distances: of all images.
        ratio: see `GROUP_RATIO`.
        most: images that a group may have; never more than `LARGEST_SHARE` of all.
    """
    count = len(distances)
    most = min(most, int(LARGEST_SHARE * count))
    if most < 2:
        return []
    merges = hierarchy.linkage(squareform(distances, checks=False), method="single")
    tree = hierarchy.to_tree(merges)
    found: list[tuple[int, ...]] = []
    waiting = [(tree, np.inf)]
    while waiting:
        node, out = waiting.pop()
        if node.is_leaf():
            continue
        if node.get_count() <= most and node.dist <= ratio * out:
            found.append(tuple(sorted(node.pre_order())))
            continue
        waiting += [(node.left, node.dist), (node.right, node.dist)]
    return sorted(found)

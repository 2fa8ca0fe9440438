"""How well images are ranked among others as bright as they are.

On some data sets brightness alone tells good from defective, such as cells that are dark where they are broken. What a
detector knows beyond it shows where a defective image is compared with good ones of its own brightness alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.image_files import read_pixels
from training.metrics.bootstrap import bootstrap, multiplicities
from training.metrics.counts import Weights
from training.metrics.image_metrics import image_auroc_estimate, stratified_auroc
from training.progress import Progress


def brightness_of(paths: Sequence[Path], progress: Progress) -> NDArray[np.float64]:
    """Return the mean of each image's pixels, in 8-bit values: (N,)."""
    found = []
    for done, path in enumerate(paths, start=1):
        found.append(float(read_pixels(path).mean()))
        progress("brightness", done, len(paths))
    return np.array(found)


def strata_of(brightness: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return which of `count` strata of about equal size each image is in, the darkest first: (N,)."""
    edges = np.quantile(brightness, np.linspace(0, 1, count + 1)[1:-1])
    return np.searchsorted(edges, brightness, side="right")


def within_brightness(
    methods: Sequence[dict[str, Any]], brightness: NDArray[np.float64], strata: NDArray[np.intp], defect: Sequence[bool]
) -> dict[str, Any]:
    """Return the I-AUROC of each method within strata, and of each but the first its difference from the first.

    Args:
        methods: figures of `bench.accuracy.yardstick_figures.detector_figures`, with the scores of the same images.
        brightness: of each image.
        strata: of each image.
        defect: which of the images are defective.
    """
    groups = [str(number) for number in range(len(brightness))]
    draws, once = multiplicities(groups), np.ones((1, len(brightness)))
    scores = {one["name"]: np.array(list(one["scores"].values())) for one in methods}
    first, *others = scores

    def figure(name: str, times: Weights) -> Weights:
        return stratified_auroc(scores[name], defect, strata, times)

    def gap(name: str, times: Weights) -> Weights:
        return figure(name, times) - figure(first, times)

    def estimated(of: Callable[[str, Weights], Weights], name: str) -> dict[str, Any]:
        return asdict(bootstrap(float(of(name, once)[0]), partial(of, name), draws))

    return {
        "strata": int(strata.max()) + 1,
        "images": np.bincount(strata).tolist(),
        "darkness_alone": asdict(image_auroc_estimate(-brightness, defect, groups)),
        "image_auroc": {name: estimated(figure, name) for name in scores},
        "minus_yardstick": {name: estimated(gap, name) for name in others},
    }

"""Settings chosen without test images, against the best that a hand could have set by looking at them.

What `glad calibrate` tries on good images and synthetic anomalies is tried once more on labelled images. The best of it
by the labelled images' own figures is an oracle: nobody may use it, and no choice can beat it by that measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glad.images.placement import Placement
from glad.images.tiling import lay_out
from glad.settings.method import MethodSettings
from model_store.bundle import open_bundle
from training.calibration.outcomes import Candidate
from training.calibration.search import Outcome, best_of, try_settings
from training.data.dataset import TestImage, read_pixels, read_truth, test_images
from training.progress import Progress
from training.synthesis.probes import Probe


@dataclass(frozen=True)
class Beside:
    """Figures on the labelled images."""

    chosen: Outcome
    """What `glad calibrate` chose."""
    own: Outcome
    """The bundle's settings as they were."""
    best: Outcome
    """The best by these very images."""
    images: int
    tried: tuple[Outcome, ...]


def subset(images: Sequence[TestImage], count: int, seed: int = 0) -> tuple[TestImage, ...]:
    """Up to `count` good and `count` defective images, drawn by the seed, in their order."""
    rng = np.random.Generator(np.random.Philox(seed))
    kept = []
    for defective in (False, True):
        members = [i for i, image in enumerate(images) if (image.defect != "good") == defective]
        kept += list(rng.permutation(members)[:count])
    return tuple(images[i] for i in sorted(kept))


def labelled_probes(images: Sequence[TestImage], settings: MethodSettings) -> tuple[Probe, ...]:
    """Labelled images with their masks at the model's scale; defects without a mask are left out."""
    return tuple(
        Probe(image.path, read_truth(image.mask, _placement(image.path, settings)))
        for image in images
        if image.defect == "good" or image.mask is not None
    )


def _placement(path: Path, settings: MethodSettings) -> Placement:
    height, width = read_pixels(path).shape[:2]
    return lay_out(width, height, settings).placement


def beside_the_best(
    bundle: Path,
    candidates: Sequence[Candidate],
    chosen: Candidate,
    data: Path,
    *,
    count: int,
    progress: Progress,
    workers: int | None = None,
) -> Beside:
    """Try all candidates, and the bundle's own settings, on labelled images.

    candidates: everything that `glad calibrate` tried; chosen: what it took. DataError, or ValueError without masks.
    """
    base = open_bundle(bundle).manifest.settings
    own = Candidate(base.start, base.t_min, base.trigger.delta)
    everything = list(dict.fromkeys([*candidates, chosen, own]))
    probes = labelled_probes(subset(test_images(data), count), base)
    tried = try_settings(
        bundle,
        base,
        probes,
        sorted({candidate.start for candidate in everything}),
        lambda walks, good, start: [candidate for candidate in everything if candidate.start == start],
        progress=progress,
        workers=workers,
    )
    of = {outcome.candidate: outcome for outcome in tried}
    return Beside(of[chosen], of[own], best_of(tried), len(probes), tried)

"""Probes: good images and synthetic anomalies of them, on which settings are chosen before any real defect is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.settings.method import MethodSettings
from training.synthesis.anomalies import LEAST_VISIBLE, TRIES, synthesise
from training.synthesis.pairs import TrainingSquare, read_squares
from training.synthesis_recipe import SynthesisRecipe


@dataclass(frozen=True)
class Probe:
    """An image to inspect, and where it is defective."""

    path: Path
    truth: NDArray[np.bool_]
    """(H, W) at the model's scale, without padding: the defect's pixels; none for a good image."""

    @property
    def defective(self) -> bool:
        """Return whether it has a defect."""
        return bool(self.truth.any())


def make_probes(
    paths: Sequence[Path], settings: MethodSettings, recipe: SynthesisRecipe, folder: Path, *, seed: int
) -> tuple[Probe, ...]:
    """Make two probes of each good image in `folder`: one as it is, and one with a synthetic anomaly.

    Both are what one model image shows, at its scale, so that nothing but the anomaly tells them apart; of a tiled
    image it is one tile. They are to be inspected under `single_square_settings(settings)`.

    Raises:
        ValueError: if the recipe makes no visible anomaly.
    """
    always = recipe.model_copy(update={"none": 0.0, "shift_px": 0, "gain": 0.0})
    probes = []
    squares = read_squares(paths, recipe.settings(settings), at_least=len(paths), seed=seed, workers=1)
    for index, image in enumerate(squares):
        content = image.pixels[image.content]
        damaged, truth = _damaged(image, always, np.random.SeedSequence([seed, 9001, index]))
        for name, pixels, defect in (("good", content, np.zeros_like(truth)), ("anomaly", damaged, truth)):
            target = folder / f"{index:04}_{name}.png"
            Image.fromarray(pixels).save(target)
            probes.append(Probe(target, defect))
    return tuple(probes)


def _damaged(
    image: TrainingSquare, recipe: SynthesisRecipe, seed: np.random.SeedSequence
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the image's content with an anomaly (h, w, 3), and where it is (h, w)."""
    rng = np.random.Generator(np.random.Philox(seed))
    for _ in range(TRIES):
        good = image.pixels.astype(np.float32) / 255
        pair = synthesise(rng, good, image.valid, recipe, image.inspected, scale=image.scale)
        truth = pair.mask[image.content]
        if truth.sum() >= LEAST_VISIBLE:
            return np.round(pair.anomalous * 255).astype(np.uint8)[image.content], truth
    raise ValueError(
        f"no visible anomaly in {TRIES} tries on {int(image.valid.sum())} pixels: give more weight to other kinds in "
        "the recipe's [synthesis]"
    )

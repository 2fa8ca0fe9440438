"""How the denoiser rebuilds the same few images at several moments of its training: pictures in the run's folder.

Nothing that is trained depends on it: it draws random numbers of its own, and leaves the weights as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glad.image_codec import from_model
from glad.images.rendering import contact_sheet
from glad.noise_schedule import FINAL_STEP, NoiseSchedule, add_noise, ddim_step, predict_x0
from glad.settings.method import MethodSettings
from training.launched_processes import is_main_process
from training.synthesis.pairs import PairSet

GOOD, ANOMALOUS = 2, 3
"""So many pictures of each are drawn."""
MOMENTS = (0.03, 0.1, 0.3, 1.0)
"""Shares of the steps after which they are drawn."""
SIDE = 192
"""Of a drawn picture, in pixels."""
COURSE = Path("pictures") / "unet"
"""Folder of what is drawn, in a run's."""
INPUT = "input.png"

NoisePredictor = Callable[[Tensor, Tensor], Tensor]
"""epsilon of x_t, (B, C, h, w), at t, (B,) int64."""
Decode = Callable[[Tensor], Tensor]
"""Latents to images, (B, 3, H, W), about [-1, 1]."""


@dataclass(frozen=True, eq=False)
class WatchedImages:
    """The images that are drawn."""

    pixels: Tensor
    """(B, 3, S, S) uint8: first the good ones, then those with an anomaly."""
    latents: Tensor
    """(B, C, h, w), scaled."""


def watched_images(pairs: PairSet, normal: Tensor, anomalous: Tensor) -> WatchedImages:
    """Return the first good images of the pairs, and the first with an anomaly.

    Args:
        pairs: of the training.
        normal: latents of the pairs' good sides, (N, C, h, w).
        anomalous: of their other sides.
    """
    damaged = torch.nonzero(pairs.mask.flatten(1).any(1)).flatten()[:ANOMALOUS]
    pixels = torch.cat([pairs.normal[:GOOD], pairs.anomalous[damaged]])
    return WatchedImages(pixels, torch.cat([normal[:GOOD], anomalous[damaged]]).float())


class ReconstructionWatch:
    """Draws reconstructions along a stage: `for step in watch.along(stage, weights):`."""

    def __init__(
        self, folder: Path, images: WatchedImages, decode: Decode, settings: MethodSettings, *, seed: int
    ) -> None:
        """Choose noise for the images.

        Args:
            folder: for the pictures, this stage's alone.
            images: that are rebuilt.
            decode: latents to images.
            settings: whose steps are walked, from the first to the last, without adaptation.
            seed: of the noise.
        """
        self._folder, self._images, self._decode, self._settings = folder, images, decode, settings
        self._noise = torch.randn(images.latents.shape, generator=torch.Generator().manual_seed(seed + 13))

    def along(
        self, stage: Iterable[int], steps: int, weights: Callable[[], AbstractContextManager[NoisePredictor]]
    ) -> Iterator[int]:
        """Yield the steps of a stage, and draw after some of them.

        Args:
            stage: of the training.
            steps: so many it has in all.
            weights: opens what predicts the noise by the weights of the moment, such as their moving average.
        """
        moments = {max(1, round(share * steps)) for share in MOMENTS}
        for step in stage:
            yield step
            if step + 1 in moments and is_main_process():
                with weights() as predict, torch.no_grad():
                    self._draw(step + 1, predict)

    def _draw(self, step: int, predict: NoisePredictor) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        _save([_upright(one) for one in self._images.pixels], self._folder / INPUT)
        latents = walk_plainly(predict, self._images.latents, self._noise, self._settings)
        rebuilt = self._decode(latents).float().cpu().numpy()
        _save([from_model(one) for one in rebuilt], self._folder / f"step-{step:08}.png")


def walk_plainly(predict: NoisePredictor, latents: Tensor, noise: Tensor, settings: MethodSettings) -> Tensor:
    """Return x^_0 of the plain walk from T (Eqs. 1 to 3), without adaptive steps or fusion: (B, C, h, w).

    Args:
        predict: the denoiser.
        latents: of the images, (B, C, h, w), scaled.
        noise: of each latent, of its shape.
        settings: whose steps are walked.
    """
    schedule = NoiseSchedule.from_settings(settings.schedule)
    current = add_noise(latents, noise, _everywhere(settings.start_step, latents), schedule)
    for now, following in zip(settings.grid, (*settings.grid[1:], FINAL_STEP), strict=True):
        timesteps = _everywhere(now, latents)
        predicted = predict(current, timesteps).float().cpu()
        clean = predict_x0(current, predicted, timesteps, schedule)
        current = ddim_step(clean, predicted, _everywhere(following, latents), schedule)
    return current


def course_sheet(folder: Path) -> NDArray[np.uint8] | None:
    """Return what a watch has drawn as one picture, a row for each image; None: nothing yet."""
    steps = sorted(folder.glob("step-*.png"))
    if not steps or not (folder / INPUT).is_file():
        return None
    columns = [_load(folder / INPUT), *(_load(file) for file in steps)]
    titles = ["input", *(f"after step {int(file.stem.removeprefix('step-'))}" for file in steps)]
    return contact_sheet(list(zip(*columns, strict=True)), cell=SIDE, titles=titles)


def _everywhere(step: int, latents: Tensor) -> Tensor:
    return torch.full((len(latents),), step, dtype=torch.int64)


def _upright(pixels: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def _save(pictures: Sequence[NDArray[np.uint8]], file: Path) -> None:
    """Write square pictures as one, each below the other, whole or not at all."""
    scaled = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE))) for one in pictures]
    whole = file.with_name(f".{file.name}")
    Image.fromarray(np.concatenate(scaled)).save(whole, format="PNG")
    whole.replace(file)


def _load(file: Path) -> list[NDArray[np.uint8]]:
    pixels = np.asarray(Image.open(file).convert("RGB"))
    return [pixels[at : at + SIDE] for at in range(0, len(pixels), SIDE)]

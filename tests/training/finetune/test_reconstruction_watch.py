"""Pictures of the UNet's course: what is trained does not depend on them, and they are the same in each run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from glad.noise_schedule import NoiseSchedule
from glad.settings.method import MethodSettings
from tests.support.tiny_recipe import TINY_RECIPE
from training.finetune.reconstruction_watch import (
    ANOMALOUS,
    GOOD,
    SIDE,
    ReconstructionWatch,
    WatchedImages,
    course_sheet,
    walk_plainly,
    watched_images,
)
from training.finetune.unet import LatentPairs, train_unet
from training.recipe import Recipe
from training.synthesis.pairs import PairSet
from training.training_run import TrainingRun

assert isinstance(TINY_RECIPE, Recipe)
SETTINGS: MethodSettings = TINY_RECIPE.settings
UNET = TINY_RECIPE.unet


def _latents(count: int = 6) -> LatentPairs:
    draw = torch.Generator().manual_seed(0)
    normal, anomalous = (torch.randn((count, 4, 4, 4), generator=draw) for _ in range(2))
    return LatentPairs(normal, anomalous)


def _decode(latents: Tensor) -> Tensor:
    return latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3).clamp(-1, 1)


def _images(latents: LatentPairs) -> WatchedImages:
    return WatchedImages(torch.zeros((2, 3, 32, 32), dtype=torch.uint8), latents.normal[:2])


def _trained(folder: Path, *, watched: bool) -> dict[str, Tensor]:
    latents = _latents()
    watch = ReconstructionWatch(folder / "drawn", _images(latents), _decode, SETTINGS, seed=1) if watched else None
    weights: dict[str, Tensor] = train_unet(
        latents, UNET, SETTINGS, TrainingRun(folder), seed=1, watch=watch
    ).state_dict()
    return weights


def test_what_is_trained_is_the_same_bit_for_bit_whether_pictures_are_drawn_or_not(tmp_path: Path) -> None:
    watched, alone = (_trained(tmp_path / str(watched), watched=watched) for watched in (True, False))
    assert all(torch.equal(watched[name], alone[name]) for name in alone)
    # 4 steps: 3, 10 and 30 % of them round to the first, and the last one.
    drawn = sorted(file.name for file in (tmp_path / "True" / "drawn").iterdir())
    assert drawn == ["input.png", "step-00000001.png", "step-00000004.png"]


def test_the_same_pictures_are_drawn_in_each_run(tmp_path: Path) -> None:
    for run in ("a", "b"):
        _trained(tmp_path / run, watched=True)
    for file in (tmp_path / "a" / "drawn").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "drawn" / file.name).read_bytes()


def test_a_denoiser_that_knows_the_images_gives_them_back() -> None:
    latents, schedule = _latents().normal[:2], NoiseSchedule.from_settings(SETTINGS.schedule)

    def knowing(noisy: Tensor, timesteps: Tensor) -> Tensor:
        return (noisy - schedule.signal(timesteps) * latents) / schedule.noise(timesteps)  # Eq. 2 then gives z

    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    # At the last step, 0, a noise of sqrt(beta_0) = 0.029 is left.
    assert (walk_plainly(knowing, latents, noise, SETTINGS) - latents).abs().mean() < 2 * 0.029


def test_good_images_come_first_then_those_with_an_anomaly() -> None:
    masks = torch.zeros((8, 2, 2), dtype=torch.bool)
    masks[[1, 4, 5, 7], 0, 0] = True
    pixels = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 2, 2)
    pairs = PairSet(pixels, pixels + 100, masks, ~masks)
    latents = torch.arange(8.0)[:, None, None, None]
    chosen = watched_images(pairs, latents, latents + 100)
    assert chosen.latents.flatten().tolist() == [0, 1, 101, 104, 105]
    assert chosen.pixels[:, 0, 0, 0].tolist() == [0, 1, 101, 104, 105]
    assert len(chosen.latents) == GOOD + ANOMALOUS


def test_the_sheet_has_a_row_for_each_image_and_a_column_for_each_moment(tmp_path: Path) -> None:
    assert course_sheet(tmp_path) is None
    _trained(tmp_path, watched=True)
    sheet = course_sheet(tmp_path / "drawn")
    assert sheet is not None
    rows, columns = 2, 3  # the input, and two moments
    assert sheet.shape[0] // SIDE == rows
    assert sheet.shape[1] // SIDE == columns

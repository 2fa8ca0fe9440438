"""Reconstructions for fine-tuning: what a denoiser makes of images from a small step, made once and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glad.noise_schedule import noise_schedule
from glad.settings.method import MethodSettings
from tests.glad.toys import PixelFeatures, PlainAutoencoder, ToyDenoiser
from training.finetune.reconstructions import RebuiltImages, rebuild_all, rebuild_with

SETTINGS = MethodSettings.model_validate({"resolution": 16, "trigger": {"delta": 0.0}})


def knows(good: Tensor) -> ToyDenoiser:
    """Predicts the noise by which a latent differs from this one, as after a perfect training."""
    schedule = noise_schedule(SETTINGS.schedule, torch.device("cpu"))

    def predict(latent: Tensor, step: int) -> Tensor:
        at = torch.tensor([step])
        return ((latent - schedule.signal(at)[0] * good) / schedule.noise(at)[0]).float()

    return ToyDenoiser(predict)


@pytest.mark.parametrize(("calls", "steps"), [(1, [200]), (3, [200, 133, 66])])
def test_a_denoiser_that_knows_the_good_image_gives_it_back_whole(calls: int, steps: list[int]) -> None:
    from glad.models import PixelModels

    good = torch.full((3, 16, 16), 0.5)
    damaged = torch.full((2, 3, 16, 16), 191, dtype=torch.uint8)  # 0.5 in [-1, 1], to a grey level
    damaged[:, :, 4:8, 4:8] = 0
    denoiser = knows(good)
    models = PixelModels(PlainAutoencoder(), denoiser, PixelFeatures()).assemble()
    rebuilt = rebuild_with(models, SETTINGS, start=200, calls=calls)(damaged)
    assert torch.equal(rebuilt, torch.full_like(damaged, 191))
    assert denoiser.timesteps == [(step,) for step in steps for _ in damaged]  # on a CPU each image has its own call


def test_reconstructions_that_lie_on_disk_are_not_made_again(tmp_path: Path) -> None:
    images = torch.randint(256, (130, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def rebuild(few: Tensor) -> Tensor:
        asked.append(len(few))
        if sum(asked) == 100:
            raise KeyboardInterrupt
        return 255 - few

    with pytest.raises(KeyboardInterrupt):
        rebuild_all(images, rebuild, "reconstructions", tmp_path)
    asked.clear()
    assert torch.equal(rebuild_all(images, rebuild, "reconstructions", tmp_path), 255 - images)
    assert sum(asked) == 130 - 64  # a file holds 64


def test_at_another_side_the_damage_stays_and_an_edge_of_the_padding_is_padding() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    valid, mask = torch.ones(1, 8, 8, dtype=torch.bool), torch.zeros(1, 8, 8, dtype=torch.bool)
    valid[:, 5:], mask[:, 0, 3] = False, True  # the third row of four is half padding
    small = RebuiltImages(images, images, valid, mask).at_side(4)
    assert small.images.shape == (1, 3, 4, 4)
    assert small.valid[0].all(1).tolist() == [True, True, False, False]
    assert small.mask[0].nonzero().tolist() == [[0, 1]]

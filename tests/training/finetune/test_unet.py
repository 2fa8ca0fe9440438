"""The unit of the denoiser's error decides what is learnt as if it were the target: the noise, z or v."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from glad.feature_form import PreconditionedDenoiser
from glad.noise_schedule import add_noise, noise_schedule
from glad.settings.method import ScheduleSettings
from training.finetune.unet import DenoisingBatch, ErrorUnit, preconditioned_loss

SCHEDULE = ScheduleSettings()
VARIANCES = torch.tensor([2.0, 1.0, 0.25])


class Answers(nn.Module):
    """A network that always gives the same."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, latents: Tensor, timesteps: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.answer)


@pytest.fixture
def batch() -> DenoisingBatch:
    drawn = torch.Generator().manual_seed(3)
    normal, noise = (torch.randn(4, 3, 2, 2, generator=drawn) for _ in range(2))
    timesteps = torch.tensor([1, 40, 120, 181])
    noisy = add_noise(normal, noise, timesteps, noise_schedule(SCHEDULE, torch.device("cpu")))
    return DenoisingBatch(noisy, timesteps, noise, normal, normal)


def test_each_unit_measures_the_error_of_what_it_is_named_after(batch: DenoisingBatch) -> None:
    answer = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(4))
    denoiser = PreconditionedDenoiser(lambda x, t, c=None: answer, VARIANCES, SCHEDULE, 3)
    levels = noise_schedule(SCHEDULE, torch.device("cpu"))
    signal, noise = levels.signal(batch.timesteps), levels.noise(batch.timesteps)
    sample = denoiser.denoised(batch.noisy, batch.timesteps)
    epsilon = denoiser(batch.noisy, batch.timesteps)
    errors = {
        "sample": sample - batch.normal,
        "epsilon": epsilon - batch.noise,
        "v_prediction": (signal * epsilon - noise * sample) - (signal * batch.noise - noise * batch.normal),
    }
    for unit in get_args(ErrorUnit):
        if unit != "linear_error":
            found = preconditioned_loss(VARIANCES, SCHEDULE, 1, unit)(Answers(answer), batch)
            torch.testing.assert_close(found, errors[unit].square().mean(), rtol=1e-3, atol=1e-5)


def test_the_linear_denoiser_itself_has_an_error_of_about_one_in_its_own_unit(batch: DenoisingBatch) -> None:
    drawn = torch.Generator().manual_seed(5)
    normal = torch.randn(64, 3, 16, 16, generator=drawn) * VARIANCES.sqrt()[:, None, None]
    noise, timesteps = torch.randn(normal.shape, generator=drawn), torch.randint(60, 182, (64,), generator=drawn)
    noisy = add_noise(normal, noise, timesteps, noise_schedule(SCHEDULE, torch.device("cpu")))
    made = DenoisingBatch(noisy, timesteps, noise, normal, normal)
    found = preconditioned_loss(VARIANCES, SCHEDULE, 1)(Answers(torch.zeros_like(normal)), made)
    assert float(found) == pytest.approx(1.0, abs=0.05)

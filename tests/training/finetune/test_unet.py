"""What a denoiser is shown of an anomaly and learns to leave, and in which unit its error counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from glad.feature_form import PreconditionedDenoiser
from glad.noise_schedule import add_noise, noise_schedule, predict_x0
from glad.settings.method import MethodSettings, ScheduleSettings, TriggerSettings
from training.denoiser_recipe import AnomalyWeight, AtpRecipe
from training.finetune.unet import (
    DenoisingBatch,
    ErrorUnit,
    LatentPairs,
    anomaly_weight,
    draw_batch,
    noise_loss,
    preconditioned_loss,
)

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


LEFT = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
SIGMAS = ((1 - LEFT) / LEFT).sqrt().tolist()
"""Of Stable Diffusion's schedule, from its betas."""
SETTINGS = MethodSettings(start=500, t_min=250, trigger=TriggerSettings(delta=0.3))


def atp(**given: Any) -> AtpRecipe:
    return AtpRecipe.model_validate({"steps": 1, "batch": 64, "learning_rate": 1.0, **given})


@pytest.mark.parametrize(
    ("name", "at_100", "at_500", "at_900"),
    [
        ("none", 0.0, 0.0, 0.0),
        ("t/1000", 0.1, 0.5, 0.9),
        ("t/T", 0.2, 1.0, 1.0),  # T = 500; beyond it the whole anomaly
        ("sigma", SIGMAS[100] / SIGMAS[500], 1.0, 1.0),
    ],
)
def test_the_weight_of_an_anomaly_grows_with_t_as_the_recipe_says(
    name: AnomalyWeight, at_100: float, at_500: float, at_900: float
) -> None:
    found = anomaly_weight(torch.tensor([100, 500, 900]), atp(anomaly_weight=name), SETTINGS)
    torch.testing.assert_close(found.flatten(), torch.tensor([at_100, at_500, at_900]))


@pytest.mark.parametrize("minus", [False, True])
def test_a_perfect_denoiser_leaves_the_normal_latent_and_with_the_minus_sign_the_anomaly_doubled(minus: bool) -> None:
    drawn = torch.Generator().manual_seed(6)
    pairs = LatentPairs(*(torch.randn(8, 3, 4, 4, generator=drawn) for _ in range(2)))
    recipe = atp(study_minus_sign=minus)
    drawn_batch = draw_batch(pairs, recipe, SETTINGS, drawn)
    batch = drawn_batch.part(slice(None), torch.device("cpu"))
    schedule = noise_schedule(SETTINGS.schedule, torch.device("cpu"))
    normal = pairs.normal[drawn_batch.chosen]
    # By Eq. 2 the noise that leads from x_t to a latent is (x_t - sqrt(alpha_bar) z) / sqrt(1 - alpha_bar).
    left = 2 * batch.mixed - normal if minus else normal
    perfect = (batch.noisy - schedule.signal(batch.timesteps) * left) / schedule.noise(batch.timesteps)
    assert float(noise_loss(schedule, recipe)(Answers(perfect), batch)) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(predict_x0(batch.noisy, perfect, batch.timesteps, schedule), left, atol=1e-3, rtol=1e-3)


def test_min_snr_counts_an_error_less_where_the_noise_is_small(batch: DenoisingBatch) -> None:
    schedule = noise_schedule(SCHEDULE, torch.device("cpu"))
    one_off = Answers(batch.noise + 1)  # an error of 1 everywhere
    assert float(noise_loss(schedule, atp())(one_off, batch)) == pytest.approx(1)
    left = schedule.alpha_bars[batch.timesteps]
    ratios = left / (1 - left)  # SNR_t = alpha_bar / (1 - alpha_bar)
    assert ratios.min() < 5 < ratios.max()
    expected = (ratios.clamp(max=5) / ratios).mean()
    found = noise_loss(schedule, atp(loss_weighting="min_snr", snr_gamma=5.0))(one_off, batch)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)

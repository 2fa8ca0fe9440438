"""The noise schedule: add noise, predict x_0, take a DDIM step. `timesteps` is a vector, one entry per lane.

Tables are computed in float64 and looked up as float32: the square roots come from the table too, because near t = 0
the float32 difference 1 - alpha_bar would keep only four digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from glad.settings.method import ScheduleSettings

FINAL_STEP = 0
"""The step that the last step of the grid leads to. Stable Diffusion (`set_alpha_to_one=False`) ends at alpha_bar_0 =
0.99915, not at 1: the reconstruction's latent keeps 3 % of the predicted noise, as the published models were used."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """alpha_bar_t for t = 0 ... train_steps - 1, and the two square roots by which everything is weighted."""

    alpha_bars: Tensor
    """(train_steps,) float64, on the CPU."""
    signals: Tensor
    """(train_steps,) float32: sqrt(alpha_bar_t)."""
    noises: Tensor
    """(train_steps,) float32: sqrt(1 - alpha_bar_t)."""

    @classmethod
    def from_settings(cls, settings: ScheduleSettings, device: torch.device | str = "cpu") -> Self:
        """Return the schedule that these settings describe: alpha_bar_t = product of (1 - beta_s), s = 0 ... t."""
        power = 2 if settings.form == "scaled_linear" else 1
        roots = settings.beta_start ** (1 / power), settings.beta_end ** (1 / power)
        betas = torch.linspace(*roots, settings.train_steps, dtype=torch.float64) ** power
        alpha_bars = torch.cumprod(1 - betas, dim=0)
        signals, noises = alpha_bars.sqrt().float(), (1 - alpha_bars).sqrt().float()
        return cls(alpha_bars, signals.to(device), noises.to(device))

    def alpha_bar(self, timesteps: Tensor) -> Tensor:
        """Return alpha_bar_t, (B, 1, 1, 1) float32, of timesteps (B,) int64."""
        return self.alpha_bars[timesteps.cpu()].float().to(timesteps.device)[:, None, None, None]

    def signal(self, timesteps: Tensor) -> Tensor:
        """Return sqrt(alpha_bar_t), (B, 1, 1, 1) float32, of timesteps (B,) int64."""
        return self.signals[timesteps][:, None, None, None]

    def noise(self, timesteps: Tensor) -> Tensor:
        """Return sqrt(1 - alpha_bar_t), (B, 1, 1, 1) float32, of timesteps (B,) int64."""
        return self.noises[timesteps][:, None, None, None]


@lru_cache(maxsize=32)
def noise_schedule(settings: ScheduleSettings, device: torch.device) -> NoiseSchedule:
    """Return the schedule of these settings on this device, which is made once."""
    return NoiseSchedule.from_settings(settings, device)


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Return x_t = sqrt(alpha_bar_t) z + sqrt(1 - alpha_bar_t) epsilon: Eq. 1, and Eq. 7 for the fused x_0.

    latents (z), noise (epsilon): (B, C, h, w); timesteps (t): (B,) int64 -> (B, C, h, w).
    """
    return schedule.signal(timesteps) * latents + schedule.noise(timesteps) * noise


def predict_x0(noisy: Tensor, predicted_noise: Tensor, timesteps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Return x_{t->0} = (x_t - sqrt(1 - alpha_bar_t) e) / sqrt(alpha_bar_t): Eq. 2, not clipped.

    noisy (x_t), predicted_noise (e): (B, C, h, w); timesteps (t): (B,) int64 -> (B, C, h, w).
    """
    return (noisy - schedule.noise(timesteps) * predicted_noise) / schedule.signal(timesteps)


def ddim_step(x0: Tensor, noise: Tensor, next_timesteps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Return x_{t'} = sqrt(alpha_bar_{t'}) x_0 + sqrt(1 - alpha_bar_{t'}) e: Eq. 3, DDIM with eta = 0.

    Its form is Eq. 1's; what differs is that the noise is the UNet's prediction. Shapes as in `add_noise`; the step
    after the grid's last one is `FINAL_STEP`.
    """
    return add_noise(x0, noise, next_timesteps, schedule)


def atp_target(
    noise: Tensor, anomalous_latent: Tensor, normal_latent: Tensor, timesteps: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """Return what the UNet learns to predict from the noised anomalous latent (Sec. 3.5).

    epsilon + sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t) * (z_s - z)

    noise (epsilon), anomalous_latent (z_s), normal_latent (z): (B, C, h, w); timesteps: (B,) int64 -> (B, C, h, w).
    Departure from Eqs. 9 and 10: they print a minus. With the plus a perfect prediction, put into Eq. 2, gives x_0 = z,
    the normal latent; the minus would give 2 z_s - z, the anomaly doubled (tests/glad/test_noise_schedule.py shows
    both).
    """
    weight = schedule.signal(timesteps) / schedule.noise(timesteps)
    return noise + weight * (anomalous_latent - normal_latent)

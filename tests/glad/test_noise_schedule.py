"""Eqs. 1, 2, 3 and 7, the tables behind them, and the sign of the training target."""

from __future__ import annotations

import pytest
import torch

from glad.noise_schedule import (
    FINAL_STEP,
    NoiseSchedule,
    add_noise,
    atp_target,
    ddim_step,
    noise_schedule,
    predict_x0,
)
from glad.settings.method import MethodSettings, ScheduleSettings, StartLevel, TriggerSettings

STABLE_DIFFUSION = NoiseSchedule.from_settings(ScheduleSettings())
# Two linear steps: betas 0.36 and 0.75, so alpha_bar = 0.64 and 0.64 * 0.25 = 0.16; roots 0.8, 0.6 and 0.4, sqrt(0.84).
TWO_STEPS = NoiseSchedule.from_settings(ScheduleSettings(train_steps=2, beta_start=0.36, beta_end=0.75, form="linear"))


def four(value: float, lanes: int = 1) -> torch.Tensor:
    return torch.full((lanes, 1, 1, 1), value)


def test_two_linear_steps_have_the_alpha_bars_of_hand_calculation() -> None:
    torch.testing.assert_close(TWO_STEPS.alpha_bars, torch.tensor([0.64, 0.16], dtype=torch.float64))
    torch.testing.assert_close(TWO_STEPS.alpha_bar(torch.tensor([1, 0])).flatten(), torch.tensor([0.16, 0.64]))


def test_stable_diffusion_starts_at_one_minus_beta_start_and_ends_nearly_at_noise() -> None:
    first, last = STABLE_DIFFUSION.alpha_bars[0].item(), STABLE_DIFFUSION.alpha_bars[-1].item()
    assert first == pytest.approx(1 - 0.00085)
    assert last == pytest.approx(0.0047, abs=5e-5)  # the published value of Stable Diffusion 1.x
    # scaled_linear: the square roots of beta are evenly spaced; beta_1 = (r0 + (r1 - r0) / 999)^2
    beta_1 = (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) / 999) ** 2
    assert STABLE_DIFFUSION.alpha_bars[1].item() == pytest.approx((1 - 0.00085) * (1 - beta_1), rel=1e-12)


def test_lookup_gives_float32_per_lane() -> None:
    levels = STABLE_DIFFUSION.alpha_bar(torch.tensor([0, 999, 0]))
    assert levels.shape == (3, 1, 1, 1)
    assert levels.dtype == torch.float32
    assert levels[0] == levels[2] != levels[1]


def test_noise_level_near_zero_keeps_float32_precision() -> None:
    exact = (1 - STABLE_DIFFUSION.alpha_bars[0]).sqrt()
    assert STABLE_DIFFUSION.noise(torch.tensor([0])).item() == exact.float().item()


def test_eq_1_adds_noise_at_each_lanes_own_step() -> None:
    noisy = add_noise(four(2.0, 2), four(10.0, 2), torch.tensor([0, 1]), TWO_STEPS)
    # 0.8 * 2 + 0.6 * 10 = 7.6; 0.4 * 2 + sqrt(0.84) * 10 = 9.965151
    torch.testing.assert_close(noisy.flatten(), torch.tensor([7.6, 9.9651514]))


def test_eq_2_undoes_eq_1_when_the_noise_is_predicted_exactly() -> None:
    timesteps = torch.tensor([0, 1])
    noisy = add_noise(four(2.0, 2), four(10.0, 2), timesteps, TWO_STEPS)
    torch.testing.assert_close(predict_x0(noisy, four(10.0, 2), timesteps, TWO_STEPS), four(2.0, 2))
    # a prediction that is 1 too small leaves 0.6 / 0.8 = 0.75 more
    torch.testing.assert_close(predict_x0(noisy[:1], four(9.0), timesteps[:1], TWO_STEPS), four(2.75))


def test_eq_3_carries_x0_to_the_next_level_without_fresh_noise() -> None:
    # 0.8 * 3 + 0.6 * (-1) = 1.8
    torch.testing.assert_close(ddim_step(four(3.0), four(-1.0), torch.tensor([0]), TWO_STEPS), four(1.8))


def test_eq_7_is_eq_1_on_the_fused_latent() -> None:
    # m = 0.75 of 4 and 0.25 of 8 give x_0 = 5; re-noised at t = 0 with epsilon = 1: 0.8 * 5 + 0.6 = 4.6
    fused = 0.75 * four(4.0) + 0.25 * four(8.0)
    torch.testing.assert_close(add_noise(fused, four(1.0), torch.tensor([0]), TWO_STEPS), four(4.6))


def test_past_the_grid_lies_alpha_bar_0_not_1() -> None:
    # Stable Diffusion's set_alpha_to_one = False: sqrt(0.99915) * 1 + sqrt(0.00085) * 1
    moved = ddim_step(four(1.0), four(1.0), torch.tensor([FINAL_STEP]), STABLE_DIFFUSION)
    assert moved.item() == pytest.approx(0.99915**0.5 + 0.00085**0.5, rel=1e-6)


def test_a_perfect_prediction_of_the_training_target_reconstructs_the_normal_latent() -> None:
    generator = torch.Generator().manual_seed(0)
    normal, anomalous, noise = (torch.randn(5, 4, 6, 6, generator=generator) for _ in range(3))
    timesteps = torch.tensor([1, 120, 350, 721, 999])
    share = timesteps[:, None, None, None] / 1000
    mixed = share * anomalous + (1 - share) * normal  # z_s
    noisy = add_noise(mixed, noise, timesteps, STABLE_DIFFUSION)
    target = atp_target(noise, mixed, normal, timesteps, STABLE_DIFFUSION)
    torch.testing.assert_close(predict_x0(noisy, target, timesteps, STABLE_DIFFUSION), normal, atol=2e-4, rtol=0)
    # the sign as Eqs. 9 and 10 print it doubles the anomaly instead: 2 z_s - z
    printed = 2 * noise - target
    torch.testing.assert_close(
        predict_x0(noisy, printed, timesteps, STABLE_DIFFUSION), 2 * mixed - normal, atol=2e-4, rtol=0
    )


def test_target_of_a_normal_pair_is_the_noise() -> None:
    noise, latent = four(0.3), four(1.5)
    assert torch.equal(atp_target(noise, latent, latent, torch.tensor([500]), STABLE_DIFFUSION), noise)


def test_target_by_hand() -> None:
    # t = 0: 0.8 / 0.6 = 4/3; 1 + 4/3 * (5 - 2) = 5
    torch.testing.assert_close(atp_target(four(1.0), four(5.0), four(2.0), torch.tensor([0]), TWO_STEPS), four(5.0))


def test_one_schedule_serves_all_lanes_of_equal_settings() -> None:
    device = torch.device("cpu")
    assert noise_schedule(ScheduleSettings(), device) is noise_schedule(ScheduleSettings(), device)


def settings(start: int, steps: int, level: StartLevel = StartLevel.T) -> MethodSettings:
    return MethodSettings(start=start, steps=steps, t_min=0, start_level=level, trigger=TriggerSettings(delta=0.3))


def test_the_grid_of_750_and_25_runs_from_721_to_1() -> None:
    grid = settings(750, 25).grid
    assert (grid[0], grid[1], grid[-2], grid[-1], len(grid)) == (721, 691, 31, 1, 25)


def test_the_grid_is_made_once_and_a_copy_with_other_steps_has_its_own() -> None:
    made = settings(750, 25)
    assert made.grid is made.grid is settings(750, 25).grid
    assert len(made.model_copy(update={"steps": 5}).grid) == 5


def test_the_grid_floors_its_stride() -> None:
    assert settings(500, 15).grid[:2] == (463, 430)  # stride floor(500 / 15) = 33: 1 + 14 * 33, 1 + 13 * 33


@pytest.mark.parametrize(
    ("level", "step"), [(StartLevel.T, 750), (StartLevel.T_MINUS_1, 749), (StartLevel.FIRST_STEP, 721)]
)
def test_the_start_level_says_where_the_walk_is_noised_to(level: StartLevel, step: int) -> None:
    assert settings(750, 25, level).start_step == step


def test_a_grid_that_leaves_the_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="first grid step is 1000"):
        settings(1000, 1000)

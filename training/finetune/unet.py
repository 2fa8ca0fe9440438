"""The denoiser, trained with the anomaly-oriented training paradigm (ATP, Sec. 3.5) on cached latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

import torch
from diffusers import AutoencoderKL, UNet2DModel
from diffusers.training_utils import compute_snr
from torch import Tensor
from torch.nn import functional

from glad.feature_form import PreconditionedDenoiser
from glad.noise_schedule import NoiseSchedule, add_noise, atp_target, noise_schedule
from glad.settings.method import MethodSettings, ScheduleSettings
from training.denoiser_recipe import AtpRecipe
from training.finetune.reconstruction_watch import NoisePredictor, ReconstructionWatch
from training.finetune.stage import Stage
from training.kept_arrays import made_once
from training.recipe import LoopRecipe, UnetRecipe
from training.synthesis.pairs import PairSet, to_unit
from training.training_run import TrainingRun

LEAST_ERROR = 0.1
"""Of the linear denoiser, in latent units (a variance of 1 on average): see `preconditioned_loss`."""


@dataclass(frozen=True)
class LatentPairs:
    """Posterior means x scaling factor of (x, x^a): (N, C, h, w) each."""

    normal: Tensor
    anomalous: Tensor

    def first(self, channels: int) -> LatentPairs:
        """Return the pairs with so many of their channels."""
        return LatentPairs(self.normal[:, :channels], self.anomalous[:, :channels])


def new_unet(recipe: UnetRecipe, channels: int, side: int) -> UNet2DModel:
    """Return an untrained UNet with attention at its lowest level.

    Args:
        side: of the latent.
    """
    levels = len(recipe.widths)
    return UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=recipe.widths,
        layers_per_block=recipe.layers,
        norm_num_groups=recipe.norm_groups,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
    )


@torch.no_grad()
def encode_pairs(autoencoder: AutoencoderKL, pairs: PairSet, batch: int = 8, keep: Path | None = None) -> LatentPairs:
    """Encode both sides of every pair once, on the autoencoder's device: float32, on the CPU.

    Args:
        autoencoder: that is trained already.
        pairs: of images.
        batch: images a call.
        keep: a folder of this very call, which goes on from the latents that lie there.
    """
    scale = autoencoder.config.scaling_factor

    def encode(images: Tensor) -> Tensor:
        latents: Tensor = autoencoder.encode(to_unit(images).to(autoencoder.device)).latent_dist.mean * scale
        return latents.cpu()

    sides = {"normal": pairs.normal, "anomalous": pairs.anomalous}
    return LatentPairs(
        **{
            side: made_once(images, encode, keep and keep / side, at_once=batch, title=f"latents, {side}")
            for side, images in sides.items()
        }
    )


@torch.no_grad()
def decode_latents(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    """Return the pictures (B, 3, H, W) of scaled latents (B, C, h, w), about [-1, 1]."""
    decoded: Tensor = autoencoder.decode(latents.to(autoencoder.device) / autoencoder.config.scaling_factor).sample
    return decoded


def anomaly_weight(timesteps: Tensor, recipe: AtpRecipe, settings: MethodSettings) -> Tensor:
    """Return the weight a of z_s = a z^a + (1 - a) z: (B, 1, 1, 1).

    The paper has t / 1000; t / T shows full anomalies at the first step of the walk, and so does sigma_t / sigma_T,
    which grows as the noise does. With 0 no anomaly is seen and the target is the noise itself: training without ATP.
    """
    # At small t the target's factor √ᾱ_t/√(1-ᾱ_t) reaches 34. A weight in proportion to t keeps its product with the
    # factor small, so that the few steps near 0 do not drown the loss of all others; sigma_t is that factor's inverse.
    match recipe.anomaly_weight:
        case "none":
            weight = torch.zeros(len(timesteps))
        case "t/1000":
            weight = timesteps / settings.schedule.train_steps
        case "t/T":
            weight = timesteps / settings.start
        case "sigma":
            levels = noise_schedule(settings.schedule, torch.device("cpu"))
            sigmas = levels.noises / levels.signals
            weight = sigmas[timesteps] / sigmas[min(settings.start, settings.schedule.train_steps - 1)]
    return weight.clamp(max=1.0).float()[:, None, None, None]


@dataclass(frozen=True, eq=False)
class DenoisingBatch:
    """A batch of the training: (B, C, h, w) each."""

    noisy: Tensor
    """x_t, of the mixture."""
    timesteps: Tensor
    """t: (B,) int64."""
    noise: Tensor
    """epsilon."""
    mixed: Tensor
    """z_s = a z^a + (1 - a) z."""
    normal: Tensor
    """z: what ATP wants to be left."""
    prompts: Tensor | None = None
    """(B, L, D), for a UNet that is told the product."""


@dataclass(frozen=True, eq=False)
class DrawnBatch:
    """A whole batch of the training, on the CPU, and the pairs that it was drawn from."""

    batch: DenoisingBatch
    chosen: Tensor
    """(B,) int64: the number of each sample's pair."""

    def part(self, part: slice, device: torch.device, prompts: Tensor | None = None) -> DenoisingBatch:
        """Return a part of the batch on a device, with a part of the prompts (B, L, D)."""
        whole = self.batch
        tensors = (whole.noisy, whole.timesteps, whole.noise, whole.mixed, whole.normal)
        told = None if prompts is None else prompts[part].to(device)
        noisy, timesteps, noise, mixed, normal = (tensor[part].to(device) for tensor in tensors)
        return DenoisingBatch(noisy, timesteps, noise, mixed, normal, told)


def draw_batch(latents: LatentPairs, recipe: AtpRecipe, settings: MethodSettings, draw: torch.Generator) -> DrawnBatch:
    """Return noised mixtures of pairs drawn at random, each at a step of its own (ATP)."""
    # Inference begins at T and never asks for a noisier step: all of the training goes to the steps that it takes.
    top = settings.start + 1 if recipe.up_to_start else settings.schedule.train_steps
    chosen = torch.randint(len(latents.normal), (recipe.batch,), generator=draw)
    normal, anomalous = latents.normal[chosen].float(), latents.anomalous[chosen].float()
    noise = torch.randn(normal.shape, generator=draw)
    timesteps = torch.randint(min(top, settings.schedule.train_steps), (recipe.batch,), generator=draw)
    weight = anomaly_weight(timesteps, recipe, settings)
    mixed = weight * anomalous + (1 - weight) * normal  # z_s = a z^a + (1 - a) z
    schedule = noise_schedule(settings.schedule, torch.device("cpu"))
    noisy = add_noise(mixed, noise, timesteps, schedule)  # x_t = √ᾱ_t z_s + √(1-ᾱ_t) ε
    return DrawnBatch(DenoisingBatch(noisy, timesteps, noise, mixed, left_by_atp(mixed, normal, recipe)), chosen)


def left_by_atp(mixed: Tensor, normal: Tensor, recipe: AtpRecipe) -> Tensor:
    """Return what the denoiser learns to leave of z_s: z; in a study of the minus sign 2 z_s - z.

    The minus of Eqs. 9 and 10 is the plus for that latent: epsilon + f (z_s - (2 z_s - z)) = epsilon - f (z_s - z).
    """
    return 2 * mixed - normal if recipe.study_minus_sign else normal


DenoisingLoss: TypeAlias = Callable[[Callable[..., Any], DenoisingBatch], Tensor]


def noise_loss(schedule: NoiseSchedule, recipe: AtpRecipe) -> DenoisingLoss:
    """Return the paper's loss: the mean squared error of the predicted noise to the ATP target."""

    def loss(model: Callable[..., Any], batch: DenoisingBatch) -> Tensor:
        # ε + √ᾱ_t/√(1-ᾱ_t) (z_s - z), with a plus: the UNet predicts what is to be taken from x_t, and in Eq. 2 this
        # leaves z. The minus of Eqs. 9 and 10 would leave 2 z_s - z, the anomaly doubled.
        target = atp_target(batch.noise, batch.mixed, batch.normal, batch.timesteps, schedule)
        told = () if batch.prompts is None else (batch.prompts,)
        predicted: Tensor = model(batch.noisy, batch.timesteps, *told).sample
        if recipe.loss_weighting == "plain":
            return functional.mse_loss(predicted, target)
        squares = (predicted - target).square().mean(dim=(1, 2, 3))
        return (squares * min_snr_weights(batch.timesteps, schedule, recipe.snr_gamma)).mean()

    return loss


def min_snr_weights(timesteps: Tensor, schedule: NoiseSchedule, gamma: float) -> Tensor:
    """Return min(SNR_t, gamma) / SNR_t of timesteps (B,), for a network that predicts noise (Hang et al. 2023)."""
    ratios: Tensor = compute_snr(SimpleNamespace(alphas_cumprod=schedule.alpha_bars), timesteps)
    weights: Tensor = ratios.clamp(max=gamma) / ratios
    return weights


ErrorUnit: TypeAlias = Literal["linear_error", "epsilon", "sample", "v_prediction"]


def preconditioned_loss(
    variances: Tensor, schedule: ScheduleSettings, fold: int, error_unit: ErrorUnit = "linear_error"
) -> DenoisingLoss:
    """Return the squared error of the estimate of z, in a unit that depends on t (feature form).

    The target is z itself, where a sign can't go wrong. With x_t = a z + s epsilon given, an error of z is one of
    epsilon of a / s as much, and one of v = a epsilon - s z of 1 / s as much: so the unit decides what is learnt as if
    it were the target (diffusers' `prediction_type`). The linear denoiser's error as the unit, the default, makes every
    channel and t count alike; it never falls below `LEAST_ERROR`: at small t it would make the few anomalies that are
    mixed in drown all else.

    Args:
        variances: of the latent's channels, (C,).
        schedule: of the noise.
        fold: see `glad.feature_form.PreconditionedDenoiser`.
        error_unit: see above.
    """

    def loss(model: Callable[..., Any], batch: DenoisingBatch) -> Tensor:
        def network(latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
            predicted: Tensor = model(latents, timesteps).sample
            return predicted

        denoiser = PreconditionedDenoiser(network, variances, schedule, len(variances), fold)
        unit = _error_unit(error_unit, denoiser, batch)
        return ((denoiser.denoised(batch.noisy, batch.timesteps) - batch.normal) / unit).square().mean()

    return loss


def _error_unit(error_unit: ErrorUnit, denoiser: PreconditionedDenoiser, batch: DenoisingBatch) -> Tensor:
    """Return the unit of the error of z at each t: (B, 1 or C, 1, 1)."""
    levels = noise_schedule(denoiser.schedule, batch.noisy.device)
    signal, noise = levels.signal(batch.timesteps), levels.noise(batch.timesteps)
    match error_unit:
        case "linear_error":
            return denoiser.linear(batch.noisy, batch.timesteps)[1].clamp_min(LEAST_ERROR)
        case "epsilon":
            return noise / signal
        case "sample":
            return torch.ones_like(noise)
        case "v_prediction":
            return noise


@contextmanager
def averaged_predictor(stage: Stage) -> Iterator[NoisePredictor]:
    """Yield what predicts the noise by the moving average of the weights of the moment."""
    with stage.untimed(), stage.averaged() as model:
        yield lambda noisy, timesteps: model(noisy.to(stage.device), timesteps.to(stage.device)).sample


def train_unet(
    latents: LatentPairs,
    recipe: UnetRecipe,
    settings: MethodSettings,
    run: TrainingRun,
    *,
    seed: int,
    training: LoopRecipe | None = None,
    fold: int = 1,
    loss: DenoisingLoss | None = None,
    watch: ReconstructionWatch | None = None,
) -> UNet2DModel:
    """Train on noised mixtures of the pairs (ATP), by AdamW, and return the moving average of the weights.

    Args:
        latents: of the pairs.
        recipe: of the UNet.
        settings: whose schedule and start the noise follows.
        run: of which this is a stage.
        seed: of the run.
        training: how the device is used; None: plainly.
        fold: the UNet takes so many places on a side as one.
        loss: None: `noise_loss`.
        watch: draws reconstructions along the way; of a UNet that predicts the noise.
    """
    torch.manual_seed(seed)
    _, channels, side, _ = latents.normal.shape
    model = new_unet(recipe, channels * fold**2, side // fold)
    stage = Stage(run, "unet", recipe.steps, seed=seed, loop=training)
    network = stage.prepare(model, learning_rate=recipe.learning_rate, ema=recipe.ema)
    measure = loss or noise_loss(NoiseSchedule.from_settings(settings.schedule, stage.device), recipe)
    for step in stage if watch is None else watch.along(stage, recipe.steps, partial(averaged_predictor, stage)):
        drawn = draw_batch(latents, recipe, settings, stage.generator(step))
        for part in stage.micro_batches(recipe.batch):
            stage.backward(measure(network, drawn.part(part, stage.device)))
        stage.update(step)
    return stage.finish(model)

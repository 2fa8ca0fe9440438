"""Comparison model by model: the answers of a candidate to the inputs that the method would give it, beside the
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glad.batching import in_buckets
from glad.images.tiling import frame
from glad.models import PixelModels
from glad.noise_schedule import add_noise, noise_schedule, predict_x0
from glad.patch_matching import imagenet_normalised
from glad.protocols import Condition
from glad.scoring import at_side
from glad.settings.method import MethodSettings
from training.data.image_files import read_pixels
from training.synthesis.probes import Probe

Call = Callable[..., tuple[Tensor, ...]]
TIMESTEPS = 5


@dataclass(frozen=True)
class ComponentRow:
    """The errors of one output of one model under one batch size.

    They are absolute, but for the two that say otherwise.
    """

    component: str
    """encoder, unet, decoder, or features and their side in pixels."""
    detail: str
    """Timestep and prompt of the UNet, layer of the features."""
    batch: int
    largest_error: float
    mean_error: float
    rms: float
    """Of the reference's output."""
    relative_error: float
    """largest_error / rms."""
    row_difference: float
    """Largest dependence of the candidate's rows on batch size and place in the batch, over rms."""

    @property
    def name(self) -> str:
        """The name for a message."""
        return f"{self.component} {self.detail}".strip() + f", batch {self.batch}"


@dataclass(frozen=True, eq=False)
class ComponentTrial:
    """One model and the inputs that it is given."""

    component: str
    details: tuple[str, ...]
    """A text for each output."""
    rows: tuple[Tensor, ...]
    """(B, ...) each."""
    call: Callable[[PixelModels], Call]


@dataclass(frozen=True, eq=False)
class ComponentOutputs:
    """An output of a model, by reference and candidate: (B, ...) float64 each."""

    expected: Tensor
    """The reference's."""
    found: Tensor
    """The candidate's."""
    alone: Tensor
    """The candidate's, one row a call."""
    turned: Tensor
    """The candidate's for the rows in reverse, put back in order."""


@torch.no_grad()
def trials(
    reference: PixelModels, settings: MethodSettings, probes: Sequence[Probe], device: str
) -> Iterator[ComponentTrial]:
    """Yield every model with real inputs: the probes, their noised latents, and what the reference predicts and
    decodes.
    """
    images, noise = inputs(reference, settings, probes, device)
    latents = _alone(lambda rows: (reference.autoencoder.encode(rows),), images)[0]
    yield ComponentTrial("encoder", ("",), (images,), lambda models: lambda rows: (models.autoencoder.encode(rows),))
    schedule, walked = noise_schedule(settings.schedule, latents.device), [latents]
    for timestep in chosen_steps(settings):
        steps = torch.full((len(latents),), timestep, dtype=torch.int64, device=latents.device)
        noisy = add_noise(latents, noise, steps, schedule)
        unet_trials = list(_unet_trials(noisy, steps, reference.condition))
        yield from unet_trials
        predicted = _alone(unet_trials[0].call(reference), *unet_trials[0].rows)[0]
        walked.append(predict_x0(noisy, predicted, steps, schedule))
    # What the comparator decodes, from the nearest to the noisiest step.
    decoded = torch.cat([walked[0], walked[1], walked[-1]])
    yield ComponentTrial("decoder", ("",), (decoded,), lambda models: lambda rows: (models.autoencoder.decode(rows),))
    rebuilt = _alone(lambda rows: (reference.autoencoder.decode(rows),), decoded)[0]
    yield from _feature_trials(torch.cat([images, rebuilt]), settings)


def measured(
    trial: ComponentTrial, reference: PixelModels, candidate: PixelModels, batches: Sequence[int]
) -> Iterator[ComponentRow]:
    """Yield one row per output and batch size."""
    ours, theirs = trial.call(reference), trial.call(candidate)
    alone = _alone(theirs, *trial.rows)
    for batch in batches:
        expected, found = (_kept(in_buckets(call, trial.rows, (batch,))) for call in (ours, theirs))
        turned = in_buckets(theirs, tuple(rows.flip(0) for rows in trial.rows), (batch,))
        places = tuple(output.flip(0) for output in _kept(turned))
        for detail, parts in zip(trial.details, zip(expected, found, _kept(alone), places, strict=True), strict=True):
            yield _row(trial.component, detail, batch, ComponentOutputs(*parts))


def chosen_steps(settings: MethodSettings) -> tuple[int, ...]:
    """Return at most five steps of the method's own grid, ascending.

    They are evenly spread between t_min and T, ends included.
    """
    steps = sorted(step for step in settings.grid if step >= settings.t_min) or list(settings.grid[:1])
    places = np.unique(np.linspace(0, len(steps) - 1, TIMESTEPS).round().astype(int))
    return tuple(steps[place] for place in places)


def inputs(
    models: PixelModels, settings: MethodSettings, probes: Sequence[Probe], device: str
) -> tuple[Tensor, Tensor]:
    """Return the probes as the models see them, and the noise of each: (B, 3, S, S), (B, C, h, w)."""
    shape = models.assemble().latent_shape(settings.resolution)
    framed = [frame(read_pixels(probe.path), settings, shape) for probe in probes]
    squares = [one.model_input(one.tiles[0]) for one in framed]
    images, noise = np.stack([s.image for s in squares]), np.stack([s.noise for s in squares])
    return torch.from_numpy(images).to(device), torch.from_numpy(noise).to(device)


def _unet_trials(noisy: Tensor, steps: Tensor, condition: Condition | None) -> Iterator[ComponentTrial]:
    at = f"at step {int(steps[0])}"
    if condition is None:
        yield ComponentTrial("unet", (at,), (noisy, steps), lambda models: lambda *rows: (models.denoiser(*rows),))
        return
    for name, prompt in (("product's prompt", condition.product), ("empty prompt", condition.empty)):
        prompts = prompt.to(noisy.device).expand(len(noisy), *prompt.shape)
        yield ComponentTrial(
            "unet", (f"{at}, {name}",), (noisy, steps, prompts), lambda models: lambda *rows: (models.denoiser(*rows),)
        )


def _feature_trials(images: Tensor, settings: MethodSettings) -> Iterator[ComponentTrial]:
    """Yield a trial for each side and normalisation in use, with the layers read there."""
    score, trigger = settings.score, settings.trigger
    readings = {(settings.resolution, trigger.imagenet_normalise): {settings.trigger_layer}}
    readings.setdefault((settings.scoring_side, score.imagenet_normalise), set()).update(score.layers)
    for (side, normalise), layers_read in readings.items():
        layers = tuple(sorted(layers_read))
        sized = at_side(images, side, score.resize)
        rows = imagenet_normalised(sized) if normalise else sized
        details = tuple(f"layer {layer}" + (", normalised" if normalise else "") for layer in layers)
        yield ComponentTrial(f"features {side} px", details, (rows,), _reader(layers))


def _reader(layers: tuple[int, ...]) -> Callable[[PixelModels], Call]:
    return lambda models: lambda rows: tuple(models.features(rows, layers))


def _row(component: str, detail: str, batch: int, outputs: ComponentOutputs) -> ComponentRow:
    expected, found = outputs.expected, outputs.found
    if found.shape != expected.shape:
        raise ValueError(
            f"{component} {detail} gives {tuple(found.shape)}, the reference {tuple(expected.shape)}: export it again"
        )
    error, rms = (found - expected).abs(), float(expected.square().mean().sqrt())
    moved = torch.stack([(part - outputs.alone).abs().amax() for part in (found, outputs.turned)]).amax()
    return ComponentRow(
        component=component,
        detail=detail,
        batch=batch,
        largest_error=float(error.amax()),
        mean_error=float(error.mean()),
        rms=rms,
        relative_error=in_units(float(error.amax()), rms),
        row_difference=in_units(float(moved), rms),
    )


def in_units(difference: float, unit: float) -> float:
    """Return difference / unit; no difference is 0 in any unit, and one in units of nothing is infinite."""
    if difference == 0:
        return 0.0
    return float(np.float64(difference) / unit) if unit else float("inf")


def _alone(call: Call, *rows: Tensor) -> tuple[Tensor, ...]:
    return in_buckets(call, rows, (1,))


def _kept(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(output.detach().cpu().double() for output in outputs)

"""What `glad export` knows of the pixel form: its pieces, the trials of each network, and samples of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from glad.models import PixelModels
from glad.noise_schedule import noise_schedule, predict_x0
from glad.patch_matching import imagenet_normalised
from glad.protocols import Condition
from glad.scoring import at_side
from glad.settings.method import MethodSettings
from model_store.engines.export_manifest import Part, PixelShapes
from model_store.engines.torch import TorchAutoencoder, TorchFeatures
from model_store.engines.torch_modules import TorchConditionalDenoiser, TorchDenoiser
from training.export.component_parity import Call, ComponentTrial, one_by_one, predicting
from training.export.example_inputs import good_images, inputs, noised, noised_on_the_way
from training.export.onnx import TRAINED_BATCH, Piece
from training.synthesis.probes import Probe


class _Encoder(nn.Module):
    def __init__(self, autoencoder: TorchAutoencoder) -> None:
        super().__init__()
        self.module, self.latents_of = autoencoder.module, autoencoder.latents_of

    def forward(self, images: Tensor) -> Tensor:
        return self.latents_of(images)


class _Decoder(nn.Module):
    def __init__(self, autoencoder: TorchAutoencoder) -> None:
        super().__init__()
        self.module, self.scale, self.shift = autoencoder.module, autoencoder.scale, autoencoder.shift

    def forward(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.module.decode(latents / self.scale + self.shift, return_dict=False)[0]
        return decoded


class UnetModule(nn.Module):
    """A UNet that takes no prompt, as it is exported: (latents, timesteps) -> noise."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Return the predicted noise."""
        predicted: Tensor = self.module(latents, timesteps, return_dict=False)[0]
        return predicted


class _ConditionalUnet(UnetModule):
    def forward(self, latents: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:  # type: ignore[override]
        predicted: Tensor = self.module(latents, timesteps, conditions, return_dict=False)[0]
        return predicted


class _Features(nn.Module):
    def __init__(self, features: TorchFeatures, layers: Sequence[int]) -> None:
        super().__init__()
        self.module, self.layers = features.module, tuple(layers)
        self.compute = features.compute

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.compute(images, self.layers)


def pixel_shapes(models: PixelModels, settings: MethodSettings) -> PixelShapes:
    """Return the shapes that an export of these models under these settings will have."""
    return PixelShapes(
        latent_channels=models.autoencoder.latent_channels,
        factor=models.autoencoder.factor,
        patch=models.features.patch,
        depth=models.features.depth,
        resolution=settings.resolution,
        scoring_side=settings.scoring_side,
        layers=tuple(sorted({*settings.score.layers, settings.trigger_layer})),
        conditioned=models.condition is not None,
    )


def pixel_pieces(models: PixelModels, shapes: PixelShapes) -> dict[Part, Piece]:
    """Return the models of a bundle as they are exported.

    Raises:
        TypeError: unless they are torch's.
    """
    autoencoder, denoiser, features = models.autoencoder, models.denoiser, models.features
    if not (
        isinstance(autoencoder, TorchAutoencoder)
        and isinstance(denoiser, TorchDenoiser | TorchConditionalDenoiser)
        and isinstance(features, TorchFeatures)
    ):
        raise TypeError(f"models are {type(autoencoder).__name__} and others; only torch's can be exported")
    side = shapes.resolution // shapes.factor
    images = torch.zeros(TRAINED_BATCH, 3, shapes.resolution, shapes.resolution)
    latents = torch.zeros(TRAINED_BATCH, shapes.latent_channels, side, side)
    unet_inputs = {"latents": latents, "timesteps": torch.zeros(TRAINED_BATCH, dtype=torch.int64)}
    unet: nn.Module = UnetModule(denoiser.module)
    if models.condition is not None:
        unet_inputs["conditions"] = models.condition.product.cpu().expand(TRAINED_BATCH, -1, -1).contiguous()
        unet = _ConditionalUnet(denoiser.module)
    taps = tuple(f"layer_{layer}" for layer in shapes.layers)
    modules: dict[Part, Piece] = {
        "encoder": Piece(_Encoder(autoencoder), {"images": images}, ("latents",)),
        "unet": Piece(unet, unet_inputs, ("noise",)),
        "decoder": Piece(_Decoder(autoencoder), {"latents": latents}, ("images",)),
        "features": Piece(_Features(features, shapes.layers), {"images": images}, taps),
    }
    if shapes.scoring_side != shapes.resolution:
        larger = torch.zeros(TRAINED_BATCH, 3, shapes.scoring_side, shapes.scoring_side)
        modules["scoring_features"] = Piece(_Features(features, shapes.layers), {"images": larger}, taps)
    return modules


@torch.no_grad()
def pixel_trials(
    reference: PixelModels, settings: MethodSettings, probes: Sequence[Probe], device: str
) -> Iterator[ComponentTrial]:
    """Yield every model with real inputs: the probes, their noised latents, and what the reference predicts and
    decodes.
    """
    images, noise = inputs(reference, settings, probes, device)
    yield ComponentTrial("encoder", ("",), (images,), _encoding)
    latents = one_by_one(_encoding(reference), images)[0]
    schedule, walked = noise_schedule(settings.schedule, latents.device), [latents]
    for noisy, steps in noised_on_the_way(latents, noise, settings):
        unet_trials = list(_unet_trials(noisy, steps, reference.condition))
        yield from unet_trials
        predicted = one_by_one(unet_trials[0].call(reference), *unet_trials[0].rows)[0]
        walked.append(predict_x0(noisy, predicted, steps, schedule))
    # What the comparator decodes, from the nearest to the noisiest step.
    decoded = torch.cat([walked[0], walked[1], walked[-1]])
    yield ComponentTrial("decoder", ("",), (decoded,), _decoding)
    yield from _feature_trials(torch.cat([images, one_by_one(_decoding(reference), decoded)[0]]), settings)


def _encoding(models: PixelModels) -> Call:
    return lambda rows: (models.autoencoder.encode(rows),)


def _decoding(models: PixelModels) -> Call:
    return lambda rows: (models.autoencoder.decode(rows),)


def _unet_trials(noisy: Tensor, steps: Tensor, condition: Condition | None) -> Iterator[ComponentTrial]:
    at = f"at step {int(steps[0])}"
    if condition is None:
        yield ComponentTrial("unet", (at,), (noisy, steps), predicting)
        return
    for name, prompt in (("product's prompt", condition.product), ("empty prompt", condition.empty)):
        prompts = prompt.to(noisy.device).expand(len(noisy), *prompt.shape)
        yield ComponentTrial("unet", (f"{at}, {name}",), (noisy, steps, prompts), predicting)


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


def pixel_samples(
    models: PixelModels, settings: MethodSettings, probes: Sequence[Probe], part: Part
) -> tuple[Mapping[str, Tensor], ...]:
    """Return inputs of a model as inference gives them.

    They are good images, their latents, and these noised to several steps.
    """
    images = good_images(models, settings, probes)
    if part == "scoring_features":
        images = [at_side(image, settings.scoring_side) for image in images]
    if part in {"encoder", "features", "scoring_features"}:
        return tuple({"images": image} for image in images)
    latents = [models.autoencoder.encode(image) for image in images]
    if part == "decoder":
        return tuple({"latents": latent} for latent in latents)
    prompts = {} if models.condition is None else {"conditions": models.condition.product.cpu()[None]}
    return tuple({"latents": noisy, "timesteps": step, **prompts} for noisy, step in noised(latents, settings))

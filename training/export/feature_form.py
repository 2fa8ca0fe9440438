"""What `glad export` knows of the feature form: its pieces, the trials of each network, and samples of their inputs.

Exported are backbone, UNet and decoder. The UNet is F of `glad.feature_form.PreconditionedDenoiser`: what stands around
it is PyTorch's on every engine, and so are embedding, memory and comparator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from glad.feature_form import FeatureModels
from glad.settings.method import MethodSettings
from model_store.backbones.base import FrozenBackbone
from model_store.engines.export_manifest import FeatureShapes, Part
from model_store.engines.feature_form import TorchPictureDecoder
from model_store.engines.torch_modules import TorchDenoiser
from training.export.component_parity import Call, ComponentTrial, one_by_one, predicting
from training.export.example_inputs import good_images, inputs, noised, noised_on_the_way
from training.export.onnx import TRAINED_BATCH, Piece
from training.export.pixel_form import UnetModule
from training.synthesis.probes import Probe


class _Backbone(nn.Module):
    def __init__(self, module: FrozenBackbone, levels: Sequence[int]) -> None:
        super().__init__()
        self.module, self.levels = module, tuple(levels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        levels: tuple[Tensor, ...] = self.module(images, self.levels)
        return levels


class _PictureDecoder(nn.Module):
    def __init__(self, decoder: TorchPictureDecoder) -> None:
        super().__init__()
        self.module, self.factor = decoder.module, decoder.factor
        self.compute = decoder.compute

    def forward(self, latents: Tensor) -> Tensor:
        return self.compute(latents)


def feature_shapes(models: FeatureModels, settings: MethodSettings) -> FeatureShapes:
    """Return the shapes that an export of these models under these settings will have."""
    space = models.space
    return FeatureShapes(
        resolution=settings.resolution,
        levels=space.settings.levels,
        latent_channels=space.channels,
        factor=space.settings.stride,
        modelled=space.modelled,
        fold=models.fold,
    )


def feature_pieces(models: FeatureModels, shapes: FeatureShapes) -> dict[Part, Piece]:
    """Return the networks of a bundle as they are exported.

    Raises:
        TypeError: unless they are torch's.
    """
    backbone, unet, decoder = models.backbone, models.denoiser, models.decoder
    if not (
        isinstance(backbone, FrozenBackbone)
        and isinstance(unet, TorchDenoiser)
        and isinstance(decoder, TorchPictureDecoder)
    ):
        raise TypeError(f"models are {type(backbone).__name__} and others; only torch's can be exported")
    side = shapes.resolution // shapes.factor
    images = torch.zeros(TRAINED_BATCH, 3, shapes.resolution, shapes.resolution)
    latents = torch.zeros(TRAINED_BATCH, shapes.latent_channels, side, side)
    coarse = side // shapes.fold
    folded = torch.zeros(TRAINED_BATCH, shapes.modelled * shapes.fold**2, coarse, coarse)
    unet_inputs = {"latents": folded, "timesteps": torch.zeros(TRAINED_BATCH, dtype=torch.int64)}
    return {
        "backbone": Piece(
            _Backbone(backbone, shapes.levels), {"images": images}, tuple(f"level_{level}" for level in shapes.levels)
        ),
        "unet": Piece(UnetModule(unet.module), unet_inputs, ("noise",)),
        "decoder": Piece(_PictureDecoder(decoder), {"latents": latents}, ("images",)),
    }


@torch.no_grad()
def feature_trials(
    reference: FeatureModels, settings: MethodSettings, probes: Sequence[Probe], device: str
) -> Iterator[ComponentTrial]:
    """Yield every network with real inputs: the probes, what the UNet sees of their noised latents, and latents as they
    are and as the reference rebuilds them.
    """
    images, noise = inputs(reference, settings, probes, device)
    levels = reference.space.settings.levels
    yield ComponentTrial("backbone", tuple(f"level {level}" for level in levels), (images,), _reading(levels))
    encoder, denoiser = reference.assemble().encoder, reference.preconditioned
    latents = one_by_one(lambda rows: (encoder.encode(rows),), images)[0]
    rebuilt = [latents]
    for noisy, steps in noised_on_the_way(latents, noise, settings):
        rows = (denoiser.network_input(noisy, steps), steps)
        yield ComponentTrial("unet", (f"at step {int(steps[0])}",), rows, predicting)
        rebuilt.append(one_by_one(lambda *rows: (denoiser.denoised(*rows),), noisy, steps)[0])
    # The images as they are, and what is left of them by the nearest and by the noisiest step.
    decoded = torch.cat([rebuilt[0], rebuilt[1], rebuilt[-1]])
    yield ComponentTrial("decoder", ("",), (decoded,), _decoding)


def _reading(levels: tuple[int, ...]) -> Callable[[FeatureModels], Call]:
    return lambda models: lambda rows: tuple(models.backbone(rows, levels))


def _decoding(models: FeatureModels) -> Call:
    return lambda rows: (models.decoder.decode(rows),)


def feature_samples(
    models: FeatureModels, settings: MethodSettings, probes: Sequence[Probe], part: Part
) -> tuple[Mapping[str, Tensor], ...]:
    """Return inputs of a network as inference gives them.

    They are good images, their latents, and what the UNet sees of these, noised to several steps.
    """
    images = good_images(models, settings, probes)
    if part == "backbone":
        return tuple({"images": image} for image in images)
    encoder, denoiser = models.assemble().encoder, models.preconditioned
    latents = [encoder.encode(image) for image in images]
    if part == "decoder":
        return tuple({"latents": latent} for latent in latents)
    return tuple(
        {"latents": denoiser.network_input(noisy, step), "timesteps": step} for noisy, step in noised(latents, settings)
    )

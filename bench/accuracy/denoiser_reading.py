"""What a small denoiser does to test images: how it ranks them, and what of a defect it leaves.

Every denoiser of a study is read with the same autoencoder and the same features, and walks plainly from T: adaptive
steps would hide what it leaves, and the features are adapted to the autoencoder's pictures alone, so that no denoiser
is at home and the others are guests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import ViTModel

from bench.accuracy.twin_images import ENCODED_AT_ONCE, EncodedTwins, StudyImages
from glad.images.placement import letterbox
from glad.models import PixelModels
from glad.settings.method import MethodSettings
from model_store.engines.torch import TorchAutoencoder, TorchFeatures
from model_store.engines.torch_modules import TorchDenoiser
from model_store.inspection import InspectedImage, inspect
from model_store.pretrained import round_to_stored_precision
from training.data.dataset import Split, read_pixels
from training.data.masks import read_truth
from training.finetune.autoencoder import train_autoencoder
from training.finetune.features import Reconstructions, train_features
from training.finetune.reconstruction_watch import NoisePredictor, walk_plainly
from training.finetune.unet import decode_latents, encode_pairs
from training.metrics.pixel_metrics import rank_pixels
from training.pipeline import make_run_pairs
from training.progress import Count
from training.recipe import Recipe
from training.run_identity import claim_run
from training.studies.ablation import fixed_at
from training.studies.variant_results import VariantResult
from training.synthesis.pairs import PairSet
from training.training_run import TrainingRun


@dataclass(frozen=True, eq=False)
class StudyNetworks:
    """What all denoisers of a study have in common."""

    autoencoder: AutoencoderKL
    features: ViTModel
    settings: MethodSettings
    """Of a plain walk from T."""


def learn_networks(recipe: Recipe, split: Split, folder: Path, count: int) -> StudyNetworks:
    """Train autoencoder and features, or take them from a folder where they were trained before.

    Args:
        recipe: of both.
        split: of the good images.
        folder: of this training alone.
        count: so many pairs show the features what the autoencoder makes of a good part.

    Raises:
        RunMismatch: if the folder holds another recipe's networks, or those of other images.
    """
    claim_run(folder, recipe, split)
    run = TrainingRun(folder)
    pairs = make_run_pairs(recipe, split, 1, folder)
    autoencoder = train_autoencoder(pairs, recipe.autoencoder, run, seed=recipe.seed)
    round_to_stored_precision(autoencoder)
    few = PairSet(*(side[:count] for side in (pairs.normal, pairs.anomalous, pairs.mask, pairs.valid)))
    seen = _pictures(autoencoder, encode_pairs(autoencoder, few).normal)
    rebuilt = Reconstructions(seen, torch.arange(len(seen)))
    features = train_features(pairs, rebuilt, recipe.features, recipe.settings, run, seed=recipe.seed)
    round_to_stored_precision(features)
    return StudyNetworks(autoencoder, features, fixed_at(recipe.settings, recipe.settings.start))


def _pictures(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    decoded = torch.cat([decode_latents(autoencoder, part) for part in torch.split(latents, ENCODED_AT_ONCE)])
    return ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class DenoiserReading:
    """What one denoiser said of the test images, in their order."""

    scores: NDArray[np.float64]
    maps: NDArray[np.float16]
    """(N, S, S)."""
    kept: NDArray[np.float64]
    """Of each defective image: what of the defect is left, times the square of the defect."""
    squares: NDArray[np.float64]
    """Of each defective image: the square of what the defect changed in the latent."""
    elsewhere: NDArray[np.float64]
    """Of each defective image: the mean square error of the places that the defect did not change."""

    def write(self, file: Path) -> None:
        """Write all of it, whole or not at all."""
        whole = file.with_name(f".{file.name}")
        with whole.open("wb") as stream:
            np.savez_compressed(stream, **vars(self))
        whole.replace(file)

    @classmethod
    def read(cls, file: Path) -> DenoiserReading:
        """Return what was written."""
        with np.load(file) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})

    def ranked(self, images: StudyImages) -> VariantResult:
        """Return scores and map, reduced to what figures and their bootstrap need."""
        side = self.maps.shape[-1]
        sizes = [read_pixels(image.path).shape for image in images.tests]
        places = [letterbox(width, height, side) for height, width, _ in sizes]
        maps = [place.restore(one) for place, one in zip(places, self.maps, strict=True)]
        truths = [read_truth(image.mask, place) for image, place in zip(images.tests, places, strict=True)]
        return VariantResult(self.scores, rank_pixels(maps, truths), 0.0)


def read_denoiser(
    unet: UNet2DModel, networks: StudyNetworks, images: StudyImages, twins: EncodedTwins, progress: Count
) -> DenoiserReading:
    """Return what a denoiser says of the test images, rounded as a bundle would store it.

    Args:
        unet: of which weights are rounded in place.
        networks: of the study.
        images: of the study.
        twins: of the study, by the same autoencoder.
        progress: counts images.
    """
    round_to_stored_precision(unet)
    denoiser = TorchDenoiser(unet)
    models = PixelModels(TorchAutoencoder(networks.autoencoder), denoiser, TorchFeatures(networks.features)).assemble()
    found: list[InspectedImage] = []
    for first in range(0, len(images.tests), ENCODED_AT_ONCE):
        some = [read_pixels(image.path) for image in images.tests[first : first + ENCODED_AT_ONCE]]
        found += inspect(some, models, networks.settings)
        progress(len(found), len(images.tests))
    scores, maps = np.array([one.score for one in found]), np.stack([one.map.astype(np.float16) for one in found])
    return DenoiserReading(scores, maps, *repaired(denoiser, networks.settings, twins))


def repaired(
    denoiser: NoisePredictor, settings: MethodSettings, twins: EncodedTwins
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return `kept`, `squares` and `elsewhere` of a reading."""
    noise = torch.randn(twins.good.shape, generator=torch.Generator().manual_seed(13))
    rebuilt = walk_plainly(denoiser, twins.defective, noise, settings)
    defect, error = twins.defective - twins.good, rebuilt - twins.good
    kept, squares = ((side * defect).sum((1, 2, 3)).double().numpy() for side in (error, defect))
    outside = twins.alike[:, None].expand_as(error)
    elsewhere = (error.square() * outside).sum((1, 2, 3)) / outside.sum((1, 2, 3)).clamp(min=1)
    return kept, squares, elsewhere.double().numpy()

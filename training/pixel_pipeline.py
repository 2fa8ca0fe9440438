"""The stages of the pixel form, each on those before it: autoencoder, denoiser of its latents, features.

The denoiser knows this autoencoder's latents alone, and the features learn what both of them make of a good image. So
a stage can be run without those after it, not without those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import nn

from model_store.manifest import Kind
from training.finetune.autoencoder import train_autoencoder
from training.finetune.features import reconstruct_pairs, train_features
from training.finetune.reconstruction_watch import COURSE, ReconstructionWatch, watched_images
from training.finetune.unet import decode_latents, encode_pairs, train_unet
from training.launched_processes import main_process_first
from training.pretrained_pipeline import LATENTS, RECONSTRUCTIONS
from training.recipe import Recipe
from training.synthesis.pairs import PairSet
from training.training_run import TrainingRun

PIXEL_STAGES = ("pairs", "autoencoder", "latents", "unet", "reconstructions", "features")
PIXEL_NETWORKS: dict[str, Kind] = {"autoencoder": "autoencoder_kl", "unet": "unet2d", "features": "vit"}
"""The stages that train a network, in order, each with the kind of the bundle's component of the same name."""


def train_pixel_networks(
    recipe: Recipe, run: TrainingRun, make_pairs: Callable[[], PairSet]
) -> Iterator[tuple[str, nn.Module]]:
    """Yield each network of `PIXEL_NETWORKS` with its name as soon as it is trained from scratch.

    What a caller does not ask for is not trained.

    Args:
        recipe: of the networks.
        run: of which these are the stages; what is there already is not made again.
        make_pairs: makes the pairs, or reads those that were made.
    """
    settings, seed, loop = recipe.settings, recipe.seed, recipe.training
    with run.stage("pairs"):
        pairs = make_pairs()
    autoencoder = train_autoencoder(pairs, recipe.autoencoder, run, seed=seed, training=loop)
    yield "autoencoder", autoencoder
    with run.stage("latents"), main_process_first():
        latents = encode_pairs(autoencoder, pairs, keep=run.folder / LATENTS)
    images = watched_images(pairs, latents.normal, latents.anomalous)
    watch = ReconstructionWatch(run.folder / COURSE, images, partial(decode_latents, autoencoder), settings, seed=seed)
    unet = train_unet(latents, recipe.unet, settings, run, seed=seed, training=loop, watch=watch)
    yield "unet", unet
    with run.stage("reconstructions"), main_process_first():
        rebuilt = reconstruct_pairs(
            pairs,
            latents,
            autoencoder,
            unet,
            settings,
            count=recipe.features.reconstructions,
            seed=seed,
            keep=run.folder / RECONSTRUCTIONS,
        )
    yield "features", train_features(pairs, rebuilt, recipe.features, settings, run, seed=seed, training=loop)

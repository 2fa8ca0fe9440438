"""A UNet trained without ATP for a bundle that has one: the baseline of the ablations, everything else the same."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from model_store.bundle import Bundle, BundleParts, write_bundle
from model_store.engines.torch import load_models, save_components
from model_store.engines.torch_modules import TorchAutoencoder, TorchFeatures
from training.data import Split, good_split
from training.finetune.unet import encode_pairs, train_unet
from training.pipeline import claim_run, pairs_of
from training.progress import Progress
from training.publish import LICENCE
from training.recipe import Recipe
from training.scan import trigger_peaks

PLAIN = "none"
"""`unet.anomaly_weight` of a training without ATP: good images only, and the added noise as its target."""


def recipe_of(bundle: Bundle) -> Recipe:
    """The recipe that trained a bundle. ValueError for one that was not trained from a recipe."""
    try:
        return Recipe.model_validate(bundle.manifest.provenance.recipe)
    except ValidationError as error:
        raise ValueError(
            f"{bundle.path} does not say by which recipe it was trained: train a UNet without ATP by yourself and give "
            "its bundle with --without-atp, or leave those rows out with --no-plain"
        ) from error


def train_plain(
    bundle: Bundle,
    data: Path,
    run: Path,
    *,
    progress: Progress,
    workers: int | None = None,
) -> tuple[Path, float]:
    """Train the UNet anew without ATP; everything else stays the bundle's. Resumes in the same run folder.

    data: the images that the bundle was trained on -> the new bundle's folder, and a delta for it: at the same quantile
    of good training images' trigger scores at which the bundle's own delta lies. ValueError as in `recipe_of`;
    DataError, RunMismatch.
    """
    own = recipe_of(bundle)
    recipe = own.model_copy(update={"unet": own.unet.model_copy(update={"anomaly_weight": PLAIN})})
    split = good_split(data, recipe.calibration.holdout, recipe.seed)
    claim_run(run, recipe, split)
    folder = run / "plain"
    if not (folder / "manifest.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        _train(bundle, recipe, split, folder, workers)
    return folder, _same_quantile(bundle, folder, recipe, split, progress=progress, workers=workers)


def _train(bundle: Bundle, recipe: Recipe, split: Split, folder: Path, workers: int | None) -> None:
    models, run = load_models(bundle), folder.parent
    autoencoder, features = models.autoencoder, models.features
    if not isinstance(autoencoder, TorchAutoencoder) or not isinstance(features, TorchFeatures):
        raise TypeError(f"the engine made {type(autoencoder).__name__} and {type(features).__name__}; torch is needed")
    latents = encode_pairs(autoencoder.module, pairs_of(recipe, split, workers))
    unet = train_unet(latents, recipe.unet, recipe.settings, run, seed=recipe.seed)
    saved = save_components(run / "components", autoencoder.module, unet, features.module, licence=LICENCE)
    manifest = bundle.manifest
    parts = BundleParts(
        manifest.product,
        manifest.version,
        manifest.settings,
        None,
        manifest.provenance,
        title="without ATP, for an ablation only",
    )
    write_bundle(folder, parts, {**bundle.sources(), "unet": saved["unet"]})


def _same_quantile(
    bundle: Bundle,
    plain: Path,
    recipe: Recipe,
    split: Split,
    *,
    progress: Progress,
    workers: int | None,
) -> float:
    settings, images = bundle.manifest.settings, split.train[: recipe.calibration.delta_images]
    peaks = {}
    for name, folder in (("with ATP", bundle.path), ("without ATP", plain)):
        show = partial(progress, f"trigger scores {name}")
        peaks[name] = trigger_peaks(folder, settings, images, progress=show, workers=workers)
    quantile = float(np.mean(np.array(peaks["with ATP"]) <= settings.trigger.delta))
    return float(np.quantile(peaks["without ATP"], quantile))

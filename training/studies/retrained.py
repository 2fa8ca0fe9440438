"""A bundle with one component trained anew in another way, everything else the same: for the ablations."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import ValidationError

from model_store.bundle import Bundle, BundleParts, write_bundle
from model_store.engines.torch import load_models
from model_store.engines.torch_modules import TorchAutoencoder
from model_store.manifest import MANIFEST_NAME
from model_store.pretrained import save_module
from training.data.dataset import Split, good_split
from training.finetune.features import Reconstructions, train_features
from training.finetune.unet import encode_pairs, train_unet
from training.package import LICENCE
from training.parallel_inspection import trigger_peaks
from training.pipeline import make_run_pairs
from training.pretrained_recipe import PretrainedRecipe
from training.progress import Progress
from training.recipe import FeatureRecipe, Recipe
from training.recipe_file import recipe_class
from training.run_identity import claim_run
from training.run_lock import locked_run
from training.training_run import TrainingRun

BUNDLE = "bundle"
"""The new bundle's folder in the run."""


def training_recipe(bundle: Bundle) -> Recipe:
    """Return the recipe that trained a bundle.

    Raises:
        ValueError: if it was not trained from a recipe of the pixel form.
    """
    kind = recipe_class(bundle.manifest.provenance.recipe)
    if kind is PretrainedRecipe:
        raise ValueError(
            f"{bundle.path} is made of published models: fine-tune their UNet without ATP by `glad train` with --set "
            "unet.anomaly_weight=none, and give that bundle with --without-atp, or leave those rows out with --no-plain"
        )
    if kind is FeatureRecipe:
        raise ValueError(
            f"{bundle.path} is of the feature form, whose parts are trained together: train one without ATP with "
            "`glad train light --set unet.anomaly_weight=none` and give it with --without-atp, or leave those rows out "
            "with --no-plain"
        )
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
    """Train the UNet without ATP: good images only, and the added noise as its target. Resumes in the same run folder.

    Args:
        data: the images that the bundle was trained on.

    Returns:
        The new bundle's folder, and a delta for it: at the same quantile of good training images' trigger scores at
            which the bundle's own delta lies.

    Raises:
        ValueError: as in `training_recipe`.
        DataError, RunMismatch, RunInUse: if the images or the run folder do not fit.
    """
    recipe = training_recipe(bundle)
    change = {"unet": recipe.unet.model_copy(update={"anomaly_weight": "none"})}
    return _retrained(bundle, recipe.model_copy(update=change), "unet", data, run, progress=progress, workers=workers)


def train_unadapted(
    bundle: Bundle,
    data: Path,
    run: Path,
    *,
    progress: Progress,
    workers: int | None = None,
) -> tuple[Path, float]:
    """Train the features without adaptation to reconstructions: contrast between images only.

    Otherwise as `train_plain`.
    """
    recipe = training_recipe(bundle)
    change = {"features": recipe.features.model_copy(update={"reconstructions": 0})}
    changed = recipe.model_copy(update=change)
    return _retrained(bundle, changed, "features", data, run, progress=progress, workers=workers)


def _retrained(
    bundle: Bundle,
    recipe: Recipe,
    part: Literal["unet", "features"],
    data: Path,
    run: Path,
    *,
    progress: Progress,
    workers: int | None,
) -> tuple[Path, float]:
    split = good_split(data, recipe.calibration.holdout, recipe.seed)
    folder = run / BUNDLE
    with locked_run(run):
        claim_run(run, recipe, split)
        if not (folder / MANIFEST_NAME).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _train(bundle, recipe, part, split, run, workers=workers)
    return folder, _same_quantile(bundle, folder, recipe, split, progress=progress, workers=workers)


def _train(
    bundle: Bundle,
    recipe: Recipe,
    part: Literal["unet", "features"],
    split: Split,
    run: Path,
    *,
    workers: int | None,
) -> None:
    models = load_models(bundle)
    autoencoder, settings = models.autoencoder, recipe.settings
    if not isinstance(autoencoder, TorchAutoencoder):
        raise TypeError(f"the engine made {type(autoencoder).__name__}; torch is needed")
    pairs = make_run_pairs(recipe, split, workers)
    if part == "unet":
        latents = encode_pairs(autoencoder.module, pairs)
        unet = train_unet(latents, recipe.unet, settings, TrainingRun(run), seed=recipe.seed)
        source = save_module(unet, run / "components" / part, "unet2d", "float16", licence=LICENCE)
    else:
        none = Reconstructions(pairs.normal[:0], torch.arange(0))
        features = train_features(pairs, none, recipe.features, settings, TrainingRun(run), seed=recipe.seed)
        source = save_module(features, run / "components" / part, "vit", "float16", licence=LICENCE)
    manifest = bundle.manifest
    parts = BundleParts(
        manifest.product,
        manifest.version,
        manifest.settings,
        None,
        manifest.provenance,
        title=f"{part} trained in another way, for an ablation only",
    )
    write_bundle(run / BUNDLE, parts, {**bundle.sources(), part: source})


def _same_quantile(
    bundle: Bundle,
    changed: Path,
    recipe: Recipe,
    split: Split,
    *,
    progress: Progress,
    workers: int | None,
) -> float:
    settings, images = bundle.manifest.settings, split.train[: recipe.calibration.delta_images]
    peaks = {}
    for name, folder in (("before", bundle.path), ("after", changed)):
        show = partial(progress, f"trigger scores {name}")
        peaks[name] = trigger_peaks(folder, settings, images, progress=show, workers=workers)
    quantile = float(np.mean(np.array(peaks["before"]) <= settings.trigger.delta))
    return float(np.quantile(peaks["after"], quantile))

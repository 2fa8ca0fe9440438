"""The stages of the feature form: good images become latents of a frozen backbone, then a denoiser and a decoder.

Denoiser and decoder stand on the latents alone, not on each other: each can be trained without the other. What they
learn depends on the recipe and the images, not on which stages ran before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from diffusers import AutoencoderTiny, UNet2DModel

from glad.memory_bank import group_numbers
from glad.settings.framing import Tiles
from glad.settings.method import MethodSettings
from model_store.backbones.base import FrozenBackbone
from model_store.backbones.loading import load_backbone
from model_store.engines.feature_form import FeatureModules
from model_store.manifest import Kind
from model_store.pretrained import round_to_stored_precision
from training.data.dataset import DataError, Split
from training.finetune.evidence import (
    GoodParts,
    alike,
    build_memory,
    choose_walk,
    fit_witnesses,
    with_doubtful_range,
)
from training.finetune.latent_space import EncodedPairs, cached_pairs
from training.finetune.picture_decoder import train_decoder
from training.finetune.unet import preconditioned_loss, train_unet
from training.launched_processes import leave_to_main_process, main_process_first
from training.package import say_weights
from training.recipe import FeatureRecipe
from training.synthesis.pairs import PairSet
from training.training_run import TrainingRun

ENCODING = ("pairs", "latents")
"""The stages on which each of the networks stands."""
NETWORKS: dict[str, Kind] = {"unet": "unet2d", "decoder": "autoencoder_tiny"}
"""The stages that train a network, in order, each with the kind of the bundle's component of the same name."""
FEATURE_STAGES = (*ENCODING, *NETWORKS, "evidence")


@dataclass(frozen=True, eq=False)
class FeatureTrainingSet:
    """What the networks of the feature form learn from."""

    recipe: FeatureRecipe
    backbone: FrozenBackbone
    licence: str
    """Of the backbone's weights."""
    pairs: PairSet
    parts: GoodParts
    encoded: EncodedPairs

    @property
    def settings(self) -> MethodSettings:
        """Return the recipe's, without a range of readings outside of which no image walks."""
        return self.recipe.settings.where_all_walk


@dataclass(frozen=True, eq=False)
class TrainedFeatureModules:
    """What a training of the feature form has made."""

    modules: FeatureModules
    licence: str
    """Of the backbone's weights."""
    settings: MethodSettings
    """The recipe's, with which images walk; delta is calibration's to find."""


def feature_training_set(
    recipe: FeatureRecipe, split: Split, run: TrainingRun, make_pairs: Callable[[], PairSet]
) -> FeatureTrainingSet:
    """Return the pairs and their latents, from the run's folder as far as they are there.

    Args:
        recipe: see `with_backbone_mean`.
        split: of the good images.
        run: of which these are the first stages.
        make_pairs: makes them, or reads those that were made.

    Raises:
        ImportRefused: if the backbone's source holds none.
        DataError: if all images show one part.
        ValueError: if backbone and recipe do not fit.
    """
    refuse_one_part(split)
    loaded = load_backbone(recipe.backbone)
    backbone = loaded.backbone.cut(recipe.embedding.levels[-1])
    round_to_stored_precision(backbone)
    with run.stage("pairs"):
        pairs = make_pairs()
    tiled = isinstance(recipe.settings.framing, Tiles)
    distinct = len(pairs) if tiled else min(len(split.train), len(pairs))
    with run.stage("latents"), main_process_first():
        encoded = cached_pairs(
            backbone,
            pairs,
            recipe.embedding,
            run.folder,
            recipe=recipe.latent,
            using=recipe.settings.preparation,
            good=distinct,
        )
    parts = GoodParts(group_numbers(split.train_groups), distinct=distinct)
    return FeatureTrainingSet(recipe, backbone, loaded.licence, pairs, parts, encoded)


def train_feature_unet(given: FeatureTrainingSet, run: TrainingRun) -> UNet2DModel:
    """Return the denoiser of latents, trained as the recipe's table [unet] says."""
    recipe, settings, space, fold = given.recipe, given.settings, given.encoded.space, given.recipe.latent.fold
    modelled = given.encoded.pairs.first(space.modelled)
    loss = preconditioned_loss(space.variances[: space.modelled], settings.schedule, fold, recipe.unet.error_unit)
    return train_unet(
        modelled, recipe.unet, settings, run, seed=recipe.seed, training=recipe.training, fold=fold, loss=loss
    )


def train_feature_decoder(given: FeatureTrainingSet, run: TrainingRun) -> AutoencoderTiny:
    """Return the decoder of latents to pictures, trained as the recipe's table [decoder] says."""
    recipe = given.recipe
    return train_decoder(
        given.encoded.pairs, given.pairs, recipe.decoder, run, seed=recipe.seed, training=recipe.training
    )


def train_feature_modules(
    recipe: FeatureRecipe, split: Split, run: TrainingRun, make_pairs: Callable[[], PairSet]
) -> TrainedFeatureModules:
    """Train the denoiser and the decoder of the feature form, and fit memory, comparators and what walks.

    Arguments and errors as of `feature_training_set`.

    Raises:
        ValueError: also if the anomalies do not show in the backbone's features.
    """
    given = feature_training_set(recipe, split, run, make_pairs)
    encoded, parts, space, settings = given.encoded, given.parts, given.encoded.space, given.settings
    memory = build_memory(encoded, parts, recipe.memory)  # before what takes long: it may be refused
    unet, decoder = train_feature_unet(given, run), train_feature_decoder(given, run)
    leave_to_main_process()
    for module in (unet, decoder):
        round_to_stored_precision(module)
    modules = FeatureModules(given.backbone, unet, decoder, space, alike(space, memory))
    models = modules.models(settings).assemble()
    with run.stage("evidence"):
        walk = choose_walk(encoded, models, settings, recipe.calibration, seed=recipe.seed)
        doubtful = recipe.doubtful
        witnesses = fit_witnesses(
            encoded,
            given.pairs.mask,
            parts,
            memory,
            models=models,
            settings=walk,
            recipe=recipe.comparator,
            seed=recipe.seed,
            one_call=doubtful is not None and doubtful.one_call,
        )
        final = recipe.settings
        if doubtful is not None:
            final = with_doubtful_range(
                final, doubtful, encoded=encoded, parts=parts, witnesses=witnesses, models=models, seed=recipe.seed
            )
    say_weights(run.say, backbone=given.backbone, unet=unet, decoder=decoder)
    run.say(f"memory: {len(memory.patches)} patches; latents: {space.channels} channels, {space.modelled} modelled")
    if final.doubtful is not None:
        run.say(f"images walk whose first reading lies between {final.doubtful.low:.3f} and {final.doubtful.high:.3f}")
    return TrainedFeatureModules(replace(modules, witnesses=witnesses), given.licence, final)


def refuse_one_part(split: Split) -> None:
    """Refuse images of one part alone, for the feature form.

    Raises:
        DataError: if all images to train on show one part.
    """
    if len(set(split.train_groups or split.train)) < 2:
        raise DataError(
            f"all {len(split.train)} images to train on show one part; a part is held against the memory of others: "
            "give images of at least two, or take groups.csv away if each image shows a part of its own"
        )


def with_backbone_mean(recipe: FeatureRecipe) -> FeatureRecipe:
    """Return a recipe whose images are padded with the mean that its backbone subtracts."""
    preparation = recipe.settings.preparation.model_copy(update={"mean": load_backbone(recipe.backbone).backbone.mean})
    settings = recipe.settings.model_copy(update={"preparation": preparation})
    return recipe.model_copy(update={"settings": settings})

"""Recipes: everything that turns a folder of good images into a bundle, as one typed, frozen object read from TOML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import AliasChoices, Field, model_validator

from glad.settings import Frozen
from glad.settings.embedding import EmbeddingSettings, MemoryBankSettings
from glad.settings.method import ComparatorKind, MethodSettings
from training.denoiser_recipe import AtpRecipe
from training.feature_recipe import ComparatorRecipe, DecoderRecipe, DoubtfulRecipe, LatentRecipe
from training.synthesis_recipe import SensitivityRecipe, SynthesisRecipe

ATTENTION_HEAD = 8  # channels of an attention head in diffusers' UNet2DModel


class CropsRecipe(Frozen):
    """Random crops of the pairs that an autoencoder learns on, and what an error of its pictures costs."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    crop: int = Field(ge=16, description="side of the random crops, px")
    learning_rate: float = Field(gt=0)
    square_weight: float = Field(5.0, ge=0, description="weight of the squared error: L1 alone gives small parts up")
    gradient_weight: float = Field(1.0, ge=0, description="weight of the L1 between image gradients")
    damage_weight: float = Field(4.0, ge=0, description="how much more a synthetically damaged pixel counts")


class AutoencoderRecipe(CropsRecipe):
    """The KL autoencoder (diffusers AutoencoderKL)."""

    widths: tuple[int, ...] = Field(min_length=1)
    latent_channels: int = Field(8, ge=1)
    norm_groups: int = Field(8, ge=1)
    layers: int = Field(1, ge=1)
    kl_weight: float = Field(1e-6, ge=0)
    start_log_variance: float = Field(-6.0, le=0, description="of the posterior of an untrained autoencoder")

    @property
    def factor(self) -> int:
        """Pixels per latent element on a side."""
        return int(2 ** (len(self.widths) - 1))


class UnetRecipe(AtpRecipe):
    """The denoiser (diffusers UNet2DModel), trained with ATP on latents."""

    widths: tuple[int, ...] = Field(min_length=1)
    layers: int = Field(1, ge=1)
    norm_groups: int = Field(16, ge=1)
    ema: float = Field(0.999, ge=0, lt=1)
    error_unit: Literal["linear_error", "epsilon", "sample", "v_prediction"] = Field(
        "linear_error",
        description="of the feature form: what the squared error of the estimate is measured in; the linear denoiser's "
        "error, or that of the noise, of z, or of v",
    )


class FeaturesRecipe(Frozen):
    """The feature extractor (transformers ViTModel), trained by anomaly contrast on pairs and on reconstructions."""

    width: int = Field(ge=16)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp: int = Field(ge=16)
    patch: int = Field(8, ge=2)
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    reconstructions: int = Field(
        ge=0, description="pairs whose reconstruction is cached to adapt to what inference sees"
    )
    margin: float = Field(0.0, ge=-1, lt=1, description="cosine that anomalous patches are pushed below")


class CalibrationRecipe(Frozen):
    """Thresholds from good images that no training saw."""

    fail_quantile: float = Field(0.98, gt=0, lt=1)
    review_quantile: float = Field(0.90, gt=0, lt=1)
    pixel_quantile: float = Field(0.98, gt=0, lt=1, description="of the good images' largest map values")
    confidence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="that no more good parts than promised are rejected; None: the promise holds on average over draws",
    )
    training_parts: bool = Field(
        False,
        description="where the parts held out are too few for fail_quantile: count those of the training too, each "
        "against a memory without its own images; an estimate, for the feature form alone",
    )
    delta_quantile: float = Field(0.90, gt=0, lt=1, description="of good training images' largest trigger scores")
    delta_images: int = Field(100, ge=4)
    holdout: float = Field(
        0.2, gt=0, lt=1, description="share of train/good kept for calibration without calibration/good"
    )


class LoopRecipe(Frozen):
    """How the training loops use the device. A run may go on with another of these, except for the optimizer."""

    precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="of the forward pass; no: float32; fp16 needs a GPU; the weights stay float32"
    )
    accumulate: int = Field(
        1, ge=1, description="parts in which a batch passes the model, one after the other: less memory, same batch"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass instead of keeping them: less memory, slower"
    )
    optimizer: Literal["adamw", "adamw8bit"] = Field(
        "adamw", description="adamw8bit: its memory takes a quarter; needs the package bitsandbytes and a GPU"
    )
    compile: bool = Field(False, description="torch.compile the model: slow to begin, then faster on a GPU")
    keep: int = Field(2, ge=1, description="checkpoints of a stage that stay on disk")
    checkpoint_every_s: float = Field(60.0, ge=0, description="seconds between checkpoints")


class RecipeBase(Frozen):
    """What every training has, whatever the form of its models."""

    name: str
    seed: int = 0
    threads: int | None = Field(None, ge=1, description="torch threads; None: as torch chooses")
    settings: MethodSettings
    synthesis: SynthesisRecipe
    training: LoopRecipe = LoopRecipe()
    calibration: CalibrationRecipe = CalibrationRecipe()
    sensitivity: SensitivityRecipe = SensitivityRecipe()

    def with_confidence(self, confidence: float | None) -> Self:
        """Return the recipe whose thresholds keep their promise with this confidence; None: with its own."""
        if confidence is None:
            return self
        return self.model_copy(update={"calibration": self.calibration.model_copy(update={"confidence": confidence})})


class FeatureRecipe(RecipeBase):
    """A whole training of the feature form, from good images to a bundle."""

    backbone: str = Field(description="package:NAME, a folder, or a hub id: see `model_store.backbones`")
    embedding: EmbeddingSettings = EmbeddingSettings()
    latent: LatentRecipe = LatentRecipe()
    memory: MemoryBankSettings = MemoryBankSettings()
    unet: UnetRecipe
    comparator: ComparatorRecipe = ComparatorRecipe()
    doubtful: DoubtfulRecipe | None = Field(None, description="None: every image walks")
    decoder: DecoderRecipe

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        problems = (*_fold_problems(self), *_doubtful_problems(self), *_shared_problems(self))
        if problem := next((p for p in problems if p), ""):
            raise ValueError(problem)
        return self


class Recipe(RecipeBase):
    """A whole training of the pixel form, from good images to a bundle."""

    autoencoder: AutoencoderRecipe = Field(
        validation_alias=AliasChoices("autoencoder", "vae"),
        description="also read under its former name, `vae`, which recipes in bundles' provenance have",
    )
    unet: UnetRecipe
    features: FeaturesRecipe

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        # Everything that the libraries would notice only after the pairs, or after the first model, are made.
        problems = (*_grid_problems(self), *_width_problems(self), *_shared_problems(self), *_layer_problems(self))
        if problem := next((p for p in problems if p), ""):
            raise ValueError(problem)
        return self


def _grid_problems(recipe: Recipe) -> Iterator[str]:
    side, factor, patch = recipe.settings.resolution, recipe.autoencoder.factor, recipe.features.patch
    if side % factor or side % patch:
        yield (
            f"resolution {side} is not divisible by the autoencoder's factor {factor} and the patch {patch}: "
            f"choose a multiple of {max(factor, patch)}"
        )
    if factor != patch:
        yield f"the autoencoder's factor {factor} and the patch {patch} differ: mask and latent need one grid"
    if recipe.autoencoder.crop % factor:
        yield (
            f"autoencoder.crop {recipe.autoencoder.crop} is not divisible by the autoencoder's factor {factor}: "
            f"choose a multiple of {factor}"
        )
    halvings = 2 ** (len(recipe.unet.widths) - 1)
    if side // factor % halvings:
        yield (
            f"the latent's side {side // factor} cannot be halved {len(recipe.unet.widths) - 1} times for unet.widths "
            f"{recipe.unet.widths}: choose a resolution divisible by {factor * halvings}, or fewer widths"
        )


def _width_problems(recipe: Recipe) -> Iterator[str]:
    yield _norm_problem("autoencoder", recipe.autoencoder)
    if recipe.features.width % recipe.features.heads:
        yield (
            f"features.width {recipe.features.width} is not divisible by features.heads {recipe.features.heads}: "
            "choose a multiple, or fewer heads"
        )


def _norm_problem(name: str, part: AutoencoderRecipe | UnetRecipe) -> str:
    if odd := [width for width in part.widths if width % part.norm_groups]:
        return (
            f"{name}.widths {odd} are not divisible by {name}.norm_groups {part.norm_groups}: "
            "choose multiples of it, or fewer groups"
        )
    return ""


def _shared_problems(recipe: Recipe | FeatureRecipe) -> Iterator[str]:
    yield _norm_problem("unet", recipe.unet)
    if recipe.unet.widths[-1] % ATTENTION_HEAD:
        yield f"the last of unet.widths {recipe.unet.widths} carries attention: choose a multiple of {ATTENTION_HEAD}"
    if recipe.settings.guidance != 1:
        yield f"guidance is {recipe.settings.guidance}; a recipe trains a UNet without a prompt: set guidance to 1"
    yield from synthesis_problems(recipe)


def synthesis_problems(recipe: RecipeBase) -> Iterator[str]:
    """Yield what of the synthesis does not fit together."""
    if recipe.synthesis.none < 1 and not any(recipe.synthesis.weights.values()):
        yield "every weight of synthesis is 0: give at least one kind of anomaly a weight, or set none to 1"


def _layer_problems(recipe: Recipe) -> Iterator[str]:
    settings, depth = recipe.settings, recipe.features.depth
    if settings.score.layers[-1] > depth:
        yield (
            f"score layers are {settings.score.layers}, the extractor has {depth} blocks: "
            "name layers that exist or raise features.depth"
        )
    if recipe.calibration.training_parts:
        yield (
            "calibration.training_parts is true; networks of the pixel form have learnt every image of the training by "
            "heart: set it to false"
        )
    if recipe.unet.error_unit != "linear_error":
        yield (
            f"unet.error_unit is {recipe.unet.error_unit}; the UNet of the pixel form predicts the noise and its error "
            "is measured in that: leave error_unit out"
        )
    if settings.trigger_layer not in settings.score.layers:
        yield (
            f"trigger.layer is {settings.trigger_layer}; only score.layers {settings.score.layers} are trained: "
            "choose one of them"
        )
    if settings.scoring_side % recipe.features.patch:
        yield (
            f"score.resolution {settings.scoring_side} is not divisible by the patch {recipe.features.patch}: "
            "choose a multiple"
        )
    if settings.score.imagenet_normalise or settings.trigger.imagenet_normalise:
        yield "imagenet_normalise is true; the extractor is trained on images in [-1, 1]: set it to false"


def _fold_problems(recipe: FeatureRecipe) -> Iterator[str]:
    side, stride = recipe.settings.resolution, recipe.embedding.stride
    unit = stride * recipe.latent.fold * 2 ** (len(recipe.unet.widths) - 1)
    if side % unit:
        yield (
            f"resolution {side} is not divisible by {unit}, which is embedding.stride {stride} times latent.fold "
            f"{recipe.latent.fold} times 2 for each of unet.widths {recipe.unet.widths} but the last: choose a multiple"
        )
    if recipe.decoder.doublings and stride % 2**recipe.decoder.doublings:
        yield (
            f"decoder.doublings is {recipe.decoder.doublings}, the grid's stride {stride}: the picture would be larger "
            "than the image; choose fewer"
        )
    if recipe.latent.channels is not None and recipe.latent.modelled > recipe.latent.channels:
        yield (
            f"latent.modelled is {recipe.latent.modelled}, latent.channels {recipe.latent.channels}: the denoiser "
            "cannot model more than there are; lower it"
        )
    if recipe.latent.channels is not None and (recipe.memory.searched or 0) > recipe.latent.channels:
        yield (
            f"memory.searched is {recipe.memory.searched}, latent.channels {recipe.latent.channels}: patches are "
            "looked for by channels that are there; lower it"
        )
    if recipe.unet.loss_weighting != "plain":
        yield (
            f"unet.loss_weighting is {recipe.unet.loss_weighting}; in the feature form error_unit says what counts at "
            "which t: leave loss_weighting out"
        )
    if recipe.settings.trigger.comparator is not ComparatorKind.LATENTS:
        yield (
            f"trigger.comparator is {recipe.settings.trigger.comparator}; the feature form compares latents as they "
            f"are: set it to {ComparatorKind.LATENTS}"
        )


def _doubtful_problems(recipe: FeatureRecipe) -> Iterator[str]:
    if recipe.doubtful is None:
        return
    if recipe.settings.doubtful is not None:
        yield "doubtful and settings.doubtful both say which images walk: give one of them"
    if not recipe.settings.score.evidence.memory:
        yield (
            "doubtful is given, and settings.score.evidence.memory is 0: an image is first read by its memory; raise "
            "evidence.memory, or remove [doubtful], so that every image walks"
        )

"""Recipes that fine-tune published models, and their tables: the autoencoder, DINO, a small autoencoder beside them.

Each table describes one stage that can be used alone; that of the UNet is in `training.denoiser_recipe`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from glad.settings import Frozen, with_changes
from glad.settings.method import ComparatorKind
from glad.settings.presets import PROMPT
from glad.settings.presets import preset as published_preset
from model_store.manifest import Dtype
from training.denoiser_recipe import UnetFinetuneRecipe
from training.recipe import CropsRecipe, RecipeBase, synthesis_problems

HOLDOUT = Field(
    0.1,
    gt=0,
    lt=1,
    description="share of the good images to train on, whole parts together, that the stage measures itself on instead",
)
VALIDATIONS = Field(
    10, ge=1, description="how often, evenly over the steps, the stage is measured; its best weights are kept"
)


class VaeFinetuneRecipe(CropsRecipe):
    """The published autoencoder (diffusers AutoencoderKL), fine-tuned on the product and on synthetic anomalies."""

    trained: Literal["decoder", "all"] = Field(
        "decoder", description="decoder: the latents stay those that the UNet knows; all: train the UNet after it"
    )
    batch: int = Field(4, ge=1)
    crop: int = Field(256, ge=16, description="side of the random crops, px")
    learning_rate: float = Field(1e-5, gt=0)
    features_weight: float = Field(
        0.1, ge=0, description="weight of the distance in the features of DINO, frozen, in the place of LPIPS; 0: none"
    )
    kl_weight: float = Field(1e-6, ge=0, description="acts only where the encoder is trained")
    validations: int = VALIDATIONS
    holdout: float = HOLDOUT


class DinoFinetuneRecipe(Frozen):
    """DINO, fine-tuned so that a good image and its reconstruction look alike to it (method of the paper: VisA)."""

    side: int = Field(256, ge=16, description="of the images, px; a multiple of the patch")
    blocks: tuple[int, ...] = Field((3, 6, 9, 12), min_length=1, description="whose MLPs are trained, and compared")
    epochs: int = Field(15, ge=1, description="one is a pass over the good images to train on")
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    frozen_weight: float = Field(
        0.01, ge=0, description="weight of the distance to the network as it was; the paper has 0.01, or 0"
    )
    start: int = Field(200, ge=1, description="step that reconstructions start from")
    calls: int = Field(1, ge=1, description="of the UNet for each reconstruction")
    anomalies: int = Field(
        100, ge=8, description="synthetic anomalies on the good images held out, which choose the epoch with them"
    )
    holdout: float = HOLDOUT

    @model_validator(mode="after")
    def _blocks_rise(self) -> DinoFinetuneRecipe:
        if self.blocks[0] < 1 or any(a >= b for a, b in zip(self.blocks, self.blocks[1:], strict=False)):
            raise ValueError(f"blocks are {self.blocks}; give each once, in rising order, counted from 1")
        return self


class DistilRecipe(CropsRecipe):
    """A small autoencoder (diffusers AutoencoderTiny) that does what the product's autoencoder does."""

    width: int = Field(64, ge=8, description="channels of every layer")
    blocks: int = Field(3, ge=1, description="residual blocks at each resolution but the image's, which has one")
    batch: int = Field(4, ge=1)
    crop: int = Field(256, ge=16, description="side of the random crops, px")
    learning_rate: float = Field(1e-3, gt=0)
    latents_weight: float = Field(
        1.0, ge=0, description="weight of the squared error of the latents, beside the errors of the pictures"
    )
    validations: int = VALIDATIONS
    holdout: float = HOLDOUT


class PretrainedRecipe(RecipeBase):
    """Published models (Stable Diffusion 1.x, DINO), fine-tuned on good images, to a bundle of the pixel form.

    Each table is a stage; without it the published weights stay as they are.
    """

    base: str = Field(description="Stable Diffusion 1.x: a folder in Hugging Face layout, or a hub id")
    dino: str = Field(description="DINO's ViT: a folder in Hugging Face layout, or a hub id")
    licence: str = Field(description="under which licences these weights stand; kept in the manifest")
    preset: str | None = Field(
        None,
        description="published settings, such as mvtec-ad/carpet, which [settings] changes; {class} in it stands for "
        "the data folder's name",
    )
    prompt: str = Field(PROMPT, description="the constant prompt; default: the preset's. {class} as in preset")
    multi_class: bool = Field(
        False, description="the data folder holds a folder for each class, and one UNet learns them all"
    )
    dtype: Dtype = Field("float16", description="precision in the bundle")
    autoencoder: VaeFinetuneRecipe | None = Field(None, description="None: the autoencoder as published")
    unet: UnetFinetuneRecipe | None = Field(None, description="None: the UNet as published")
    small: DistilRecipe | None = Field(
        None,
        description="a small autoencoder, distilled after the UNet's training, takes the autoencoder's place in the "
        "bundle; None: none does",
    )
    features: DinoFinetuneRecipe | None = Field(None, description="None: DINO as published")

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or not isinstance(name := content.get("preset"), str):
            return content
        published = published_preset(name)
        # The preset's δ belongs to the preset's settings alone, and every training finds its own.
        settings = published.settings.model_dump(mode="json", exclude={"trigger": {"calibrated_for"}})
        # Unless the recipe says where synthetic anomalies lie, they lie where the authors' code puts them.
        synthesis = with_changes({"foreground": published.synthesis_foreground}, content.get("synthesis", {}))
        changed = with_changes(settings, content.get("settings", {}))
        return {"prompt": published.prompt, **content, "settings": changed, "synthesis": synthesis}

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if problem := next((p for p in (*_pretrained_problems(self), *synthesis_problems(self)) if p), ""):
            raise ValueError(problem)
        return self


def _pretrained_problems(recipe: PretrainedRecipe) -> Iterator[str]:
    if "{class}" in recipe.prompt:
        yield (
            f"prompt is {recipe.prompt!r}: {{class}} stands for the name of the folder of good images; give --data, or "
            "the class itself with --set prompt=..."
        )
    if recipe.settings.trigger.comparator is ComparatorKind.LATENTS:
        yield "trigger.comparator is latents; published models compare decoded images: set it to images"
    if recipe.calibration.training_parts:
        yield "calibration.training_parts is true; the UNet has learnt every image of the training: set it to false"
    if recipe.autoencoder is not None and recipe.autoencoder.trained == "all" and recipe.unet is None:
        yield (
            "autoencoder.trained is all, and there is no [unet]: a UNet does not know the latents of another encoder; "
            "set it to decoder, or train the UNet too"
        )
    if recipe.multi_class and any(part is not None for part in (recipe.autoencoder, recipe.small, recipe.features)):
        yield "multi_class trains the UNet alone: leave [autoencoder], [small] and [features] out"

"""Check that models fit each other and the settings: the same rules for every engine. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from glad.settings.method import MethodSettings


class ModelsDoNotFit(ValueError):
    """The models and settings cannot work together; each line of the message gives the value, the rule and the fix."""


@dataclass(frozen=True)
class ModelShapes:
    """The sizes that models must have in common."""

    image_channels: int
    latent_channels: int
    factor: int
    """Pixels per latent element on a side."""
    unet_in_channels: int
    unet_out_channels: int
    unet_stride: int
    """The latent's side must be a multiple of this: 2 ** (number of the UNet's downsamplings)."""
    feature_channels: int
    patch: int
    """Pixels per patch on a side."""
    depth: int
    """Number of feature blocks."""
    prompt_widths: tuple[int, ...] = ()
    """Widths D of the embedded prompts that the UNet attends to; none: it takes no prompt."""
    condition_width: int | None = None
    """D of the bundle's condition; None: there is none."""
    unet_extras: tuple[str, ...] = ()
    """Other inputs that the UNet needs, by its configuration's names."""


def check_fit(shapes: ModelShapes, settings: MethodSettings) -> None:
    """Check that models and settings fit.

    Raises:
        ModelsDoNotFit: if they do not; the message names everything that does not fit.
    """
    problems = [
        *_models_problems(shapes),
        *_condition_problems(shapes, settings),
        *_grid_problems(shapes, settings),
        *_scoring_problems(shapes, settings),
        *_layer_problems(shapes, settings),
    ]
    if problems:
        raise ModelsDoNotFit("models and settings do not fit:\n" + "\n".join(f"- {problem}" for problem in problems))


def _models_problems(shapes: ModelShapes) -> Iterator[str]:
    for name, channels in (("autoencoder", shapes.image_channels), ("features", shapes.feature_channels)):
        if channels != 3:
            yield f"{name} has {channels} image channels; images have 3 (RGB): use a model made for RGB"
    for name, channels in (("in", shapes.unet_in_channels), ("out", shapes.unet_out_channels)):
        if channels != shapes.latent_channels:
            yield (
                f"unet has {channels} {name}put channels; the autoencoder's latents have {shapes.latent_channels}: "
                f"train a UNet with {name}_channels={shapes.latent_channels}"
            )


def _condition_problems(shapes: ModelShapes, settings: MethodSettings) -> Iterator[str]:
    width = shapes.condition_width
    if shapes.prompt_widths and width is None:
        yield f"unet attends to prompts of width {shapes.prompt_widths[0]}; there is no condition: embed the prompt"
    elif not shapes.prompt_widths and width is not None:
        yield f"condition has width {width}; the unet takes none: leave the condition away"
    elif width is not None and shapes.prompt_widths != (width,):
        widths = ", ".join(map(str, shapes.prompt_widths))
        yield (
            f"condition has width {width}; the unet's cross_attention_dim is {widths}: use the text encoder that the "
            "unet was trained with"
        )
    if shapes.unet_extras:
        yield (
            f"unet needs {', '.join(shapes.unet_extras)}; it is given latent, step and prompt only: "
            "use a Stable Diffusion 1.x UNet"
        )
    if settings.guidance != 1 and not shapes.prompt_widths:
        yield f"guidance is {settings.guidance}; the unet takes no prompt to guide by: set guidance to 1"


def _grid_problems(shapes: ModelShapes, settings: MethodSettings) -> Iterator[str]:
    side = settings.resolution
    if shapes.patch != shapes.factor:
        yield (
            f"features have patches of {shapes.patch} px, the autoencoder's factor is {shapes.factor}; latents, "
            f"features and fusion mask share one grid (Eq. 6): use features with patch {shapes.factor}"
        )
    for rule, divisor in (
        ("the autoencoder's factor", shapes.factor),
        ("the features' patch", shapes.patch),
        ("the autoencoder's factor times the UNet's stride", shapes.factor * shapes.unet_stride),
    ):
        if side % divisor:
            lower = side // divisor * divisor
            nearest = f"{lower} or {lower + divisor}" if lower else f"{divisor}"
            yield f"resolution is {side} px; it must be a multiple of {divisor} ({rule}): use {nearest}"
            return


def _scoring_problems(shapes: ModelShapes, settings: MethodSettings) -> Iterator[str]:
    side, patch = settings.scoring_side, shapes.patch
    if settings.score.resolution is not None and side % patch:
        yield (
            f"score.resolution is {side} px; it must be a multiple of {patch} (the features' patch): "
            f"use {max(1, side // patch) * patch} or {(side // patch + 1) * patch}"
        )


def _layer_problems(shapes: ModelShapes, settings: MethodSettings) -> Iterator[str]:
    for name, layers in (("score.layers", settings.score.layers), ("trigger.layer", (settings.trigger_layer,))):
        if deep := [layer for layer in layers if layer > shapes.depth]:
            yield f"{name} names block {deep}; the features have {shapes.depth} blocks: use 1 ... {shapes.depth}"

"""From pairs of images to pairs of latents in the feature form: the backbone runs once over every image.

What comes out is cached in the run's folder, so that a resumed training does not run the backbone again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from glad.embedding import Embedding, combine_levels, judged_places, level_scales
from glad.feature_form import FeatureEncoder, LatentSpace
from glad.images.preparation import prepare_square
from glad.protocols import Backbone
from glad.settings.embedding import BundlePreparation, EmbeddingSettings
from training.finetune.unet import LatentPairs
from training.progress import progress_bar
from training.recipe import LatentRecipe
from training.synthesis.pairs import PairSet

CACHE = "latents.safetensors"
LEAST_VARIANCE = 1e-6
"""Of a latent's channel: one that never varies on good images has no other."""


@dataclass(frozen=True, eq=False)
class EncodedPairs:
    """The latent space of a product, and its training pairs in it."""

    space: LatentSpace
    pairs: LatentPairs
    judged: Tensor
    """(N, h, w) bool: the places that show the image alone."""


def prepared(images: Tensor, valid: Tensor, preparation: BundlePreparation) -> Tensor:
    """Return square images uint8 (B, 3, S, S), padded where they are not `valid` (B, S, S), as a backbone takes them:
    (B, 3, S, S) float32.
    """
    squares = [
        prepare_square(pixels.permute(1, 2, 0).numpy(), _content(shown), preparation, preparation.mean)
        for pixels, shown in zip(images, valid.numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


def _content(valid: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


@torch.no_grad()
def fit_latent_space(
    backbone: Backbone,
    images: Tensor,
    valid: Tensor,
    settings: EmbeddingSettings,
    *,
    recipe: LatentRecipe,
    using: BundlePreparation,
) -> LatentSpace:
    """Return the latent space of good images: their principal directions, scaled to a variance of 1 on average.

    Args:
        backbone: frozen.
        images: uint8 (N, 3, S, S), good ones.
        valid: (N, S, S) bool.
        settings: of the embedding.
        recipe: of the latents.
        using: how images are prepared.

    Raises:
        ValueError: if the embedding has fewer channels.
    """
    widths = [backbone.channels(level) for level in settings.levels]
    channels = recipe.channels or sum(widths)
    if max(channels, recipe.modelled) > sum(widths):
        raise ValueError(
            f"latent.channels is {recipe.channels}, latent.modelled {recipe.modelled}; the backbone's levels "
            f"{settings.levels} have {sum(widths)}: choose fewer"
        )
    plain = (1.0,) * len(widths)
    embeddings: list[Embedding] = []
    with progress_bar() as bar:
        task = bar.add_task("latent space", total=len(images), note="")
        for one, shown in zip(torch.split(images, 1), torch.split(valid, 1), strict=True):
            levels = backbone(prepared(one, shown, using), settings.levels)
            found = combine_levels(levels, shown, settings, plain)
            embeddings.append(Embedding(found.features.half(), found.judged))
            bar.update(task, advance=1)
    scales = level_scales(embeddings, widths)
    divisor = torch.repeat_interleave(torch.tensor(scales), torch.tensor(widths))
    places = torch.cat([one.features.permute(0, 2, 3, 1)[one.judged].float() / divisor for one in embeddings]).double()
    mean = places.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(places.T))
    variances, directions = variances[-channels:].flip(0), directions[:, -channels:].flip(1)
    size = variances.mean().sqrt()
    return LatentSpace(
        settings,
        scales,
        mean.float(),
        (directions / size).float(),
        (variances / size**2).clamp_min(LEAST_VARIANCE).float(),
        recipe.modelled,
    )


@torch.no_grad()
def encode_image_pairs(
    backbone: Backbone, pairs: PairSet, space: LatentSpace, using: BundlePreparation
) -> tuple[LatentPairs, Tensor]:
    """Return both sides of every pair in the latent space, and the judged places (N, h, w) bool."""
    encoder = FeatureEncoder(backbone, space)
    sides: list[Tensor] = []
    with progress_bar() as bar:
        task = bar.add_task("latents", total=2 * len(pairs), note="")
        for images in (pairs.normal, pairs.anomalous):
            latents = []
            for one, shown in zip(torch.split(images, 1), torch.split(pairs.valid, 1), strict=True):
                latents.append(encoder.encode(prepared(one, shown, using)).half())
                bar.update(task, advance=1)
            sides.append(torch.cat(latents))
    return LatentPairs(*sides), judged_places(pairs.valid, space.settings.stride)


def cached_pairs(
    backbone: Backbone,
    pairs: PairSet,
    settings: EmbeddingSettings,
    folder: Path,
    *,
    recipe: LatentRecipe,
    using: BundlePreparation,
    good: int,
) -> EncodedPairs:
    """Return the latent space and the pairs in it: from the run's folder if they are there, else made and kept there.

    Args:
        good: the first so many normal images make the space; each good image once.
    """
    path = folder / CACHE
    if path.is_file():
        return _read(path, settings, recipe)
    space = fit_latent_space(backbone, pairs.normal[:good], pairs.valid[:good], settings, recipe=recipe, using=using)
    latents, judged = encode_image_pairs(backbone, pairs, space, using)
    made = EncodedPairs(space, latents, judged)
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    save_file(dict(_tensors(made)), draft, metadata={"scales": json.dumps(space.scales)})
    draft.replace(path)
    return made


def _tensors(made: EncodedPairs) -> Iterator[tuple[str, Tensor]]:
    yield "normal", made.pairs.normal
    yield "anomalous", made.pairs.anomalous
    yield "judged", made.judged
    yield "mean", made.space.mean
    yield "directions", made.space.directions.contiguous()
    yield "variances", made.space.variances


def _read(path: Path, settings: EmbeddingSettings, recipe: LatentRecipe) -> EncodedPairs:
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        scales = tuple(json.loads(file.metadata()["scales"]))
    space = LatentSpace(settings, scales, found["mean"], found["directions"], found["variances"], recipe.modelled)
    return EncodedPairs(space, LatentPairs(found["normal"], found["anomalous"]), found["judged"])

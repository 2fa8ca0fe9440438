"""From pairs of images to pairs of latents in the feature form: the backbone runs once over every image.

What comes out is cached in the run's folder, so that a resumed training does not run the backbone again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
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
from training.feature_recipe import LatentRecipe
from training.finetune.unet import LatentPairs
from training.kept_arrays import made_once
from training.progress import progress_bar
from training.synthesis.pairs import PairSet, content_of

CACHE = "latents.safetensors"
PARTS, SPACE = "latents", "space.safetensors"
"""A folder in the run's until the cache is whole, and a file in it."""
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
        prepare_square(pixels.permute(1, 2, 0).numpy(), content_of(shown), preparation, preparation.mean)
        for pixels, shown in zip(images, valid.numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def fit_latent_space(
    backbone: Backbone,
    images: Tensor,
    valid: Tensor,
    settings: EmbeddingSettings,
    *,
    recipe: LatentRecipe,
    using: BundlePreparation,
) -> tuple[LatentSpace, list[tuple[Tensor, ...]]]:
    """Return the latent space of good images: their principal directions, scaled to a variance of 1 on average.

    Beside it stand the backbone's levels of each image, (1, D, h, w), so that it need not run over them again.

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
    levels: list[tuple[Tensor, ...]] = []
    with progress_bar() as bar:
        task = bar.add_task("latent space", total=len(images), note="")
        for one, shown in zip(torch.split(images, 1), torch.split(valid, 1), strict=True):
            levels.append(backbone(prepared(one, shown, using), settings.levels))
            found = combine_levels(levels[-1], shown, settings, plain)
            embeddings.append(Embedding(found.features.half(), found.judged))
            bar.update(task, advance=1)
    scales = level_scales(embeddings, widths)
    divisor = torch.repeat_interleave(torch.tensor(scales), torch.tensor(widths))
    places = torch.cat([one.features.permute(0, 2, 3, 1)[one.judged].float() / divisor for one in embeddings]).double()
    mean = places.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(places.T))
    variances, directions = variances[-channels:].flip(0), directions[:, -channels:].flip(1)
    size = variances.mean().sqrt()
    space = LatentSpace(
        settings,
        scales,
        mean.float(),
        (directions / size).float(),
        (variances / size**2).clamp_min(LEAST_VARIANCE).float(),
        recipe.modelled,
    )
    return space, levels


@torch.no_grad()
def encode_image_pairs(
    backbone: Backbone,
    pairs: PairSet,
    space: LatentSpace,
    using: BundlePreparation,
    levels: Sequence[tuple[Tensor, ...]] = (),
    *,
    keep: Path | None = None,
) -> tuple[LatentPairs, Tensor]:
    """Return both sides of every pair in the latent space, and the judged places (N, h, w) bool.

    Args:
        backbone: frozen.
        pairs: of images.
        space: of the latents.
        using: how images are prepared.
        levels: of the first normal images, see `fit_latent_space`.
        keep: a folder of this very call, which goes on from the latents that lie there.
    """
    encoder, side = FeatureEncoder(backbone, space), pairs.valid.shape[-1]
    # Many pairs share their normal image, and some have no anomaly: the backbone sees each image once.
    seen = {
        _digest(pairs.normal[i], pairs.valid[i]): space.from_levels(known, side).half()
        for i, known in enumerate(levels)
    }

    def encode(number: Tensor, images: Tensor) -> Tensor:
        key = _digest(images[number[0]], pairs.valid[number[0]])
        if key not in seen:
            seen[key] = encoder.encode(prepared(images[number], pairs.valid[number], using)).half()
        return seen[key]

    sides = {
        name: made_once(
            torch.arange(len(pairs)),
            partial(encode, images=images),
            keep and keep / name,
            at_once=1,
            title=f"latents, {name}",
        )
        for name, images in (("normal", pairs.normal), ("anomalous", pairs.anomalous))
    }
    return LatentPairs(**sides), judged_places(pairs.valid, space.settings.stride)


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
    path, parts = folder / CACHE, folder / PARTS
    if path.is_file():
        return _read(path, settings, recipe)
    levels: Sequence[tuple[Tensor, ...]] = ()
    if (parts / SPACE).is_file():
        space = _space(*_tensors_and_scales(parts / SPACE), settings, recipe)
    else:
        images, valid = pairs.normal[:good], pairs.valid[:good]
        space, levels = fit_latent_space(backbone, images, valid, settings, recipe=recipe, using=using)
        _write(parts / SPACE, _space_tensors(space), space)
    latents, judged = encode_image_pairs(backbone, pairs, space, using, levels, keep=parts)
    content = {"normal": latents.normal, "anomalous": latents.anomalous, "judged": judged}
    _write(path, content | _space_tensors(space), space)
    shutil.rmtree(parts)
    return EncodedPairs(space, latents, judged)


def _digest(image: Tensor, valid: Tensor) -> bytes:
    return blake2b(image.numpy().tobytes() + valid.numpy().tobytes(), digest_size=16).digest()


def _space_tensors(space: LatentSpace) -> dict[str, Tensor]:
    return {"mean": space.mean, "directions": space.directions.contiguous(), "variances": space.variances}


def _space(
    found: Mapping[str, Tensor], scales: tuple[float, ...], settings: EmbeddingSettings, recipe: LatentRecipe
) -> LatentSpace:
    directions = found["directions"].T.contiguous().T  # as they were fitted: sums depend on the order in memory
    return LatentSpace(settings, scales, found["mean"], directions, found["variances"], recipe.modelled)


def _write(path: Path, tensors: Mapping[str, Tensor], space: LatentSpace) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    save_file(dict(tensors), draft, metadata={"scales": json.dumps(space.scales)})
    draft.replace(path)


def _tensors_and_scales(path: Path) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return found, tuple(json.loads(file.metadata()["scales"]))


def _read(path: Path, settings: EmbeddingSettings, recipe: LatentRecipe) -> EncodedPairs:
    found, scales = _tensors_and_scales(path)
    space = _space(found, scales, settings, recipe)
    return EncodedPairs(space, LatentPairs(found["normal"], found["anomalous"]), found["judged"])

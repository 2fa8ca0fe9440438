"""Calls of the models, in few, fixed batch sizes: encode, decode, and predict the noise.

A model sees the same call shapes again and again: kernels differ between shapes by about 1e-6, so a score repeats bit
for bit only where the shape of the call repeats; and compiled engines want few shapes anyway. On a CPU each lane has
calls of its own: what it gets depends on nobody else, and sharing them gains little there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glad.protocols import Condition, Denoiser, LatentDecoder, LatentEncoder


@dataclass(frozen=True)
class BatchSizes:
    """The batch sizes ("buckets") in which the models are called. The defaults are a CPU's."""

    denoiser: tuple[int, ...] = (1,)
    """Lanes in one UNet call."""
    comparator: tuple[int, ...] = (1,)
    """Images in one call of what encodes, compares, scores or decodes."""

    def __post_init__(self) -> None:
        for name, buckets in (("denoiser", self.denoiser), ("comparator", self.comparator)):
            if not buckets or buckets[0] < 1 or list(buckets) != sorted(set(buckets)):
                raise ValueError(f"{name} buckets are {buckets}; give ascending sizes, each once, such as (1, 2, 4)")


def batch_sizes_for_device(kind: str, lanes: int) -> BatchSizes:
    """Return the batch sizes for a kind of device: on a GPU powers of two up to the lanes, on a CPU one row a call."""
    if kind == "cpu":
        return BatchSizes()
    sizes = tuple(2**power for power in range((lanes - 1).bit_length() + 1))
    return BatchSizes(denoiser=sizes, comparator=sizes)


def in_buckets(
    call: Callable[..., tuple[Tensor, ...]], rows: Sequence[Tensor], buckets: Sequence[int]
) -> tuple[Tensor, ...]:
    """Return the outputs of a row-wise model on rows (B, ...), called in batches of the given sizes only.

    More rows than the largest bucket are split; a remainder is padded to the smallest bucket that fits by repeating its
    last row, and the outputs of the padding are dropped.
    """
    parts = [
        tuple(output[: stop - start] for output in call(*(padded(row[start:stop], size) for row in rows)))
        for start, stop, size in call_ranges(len(rows[0]), buckets)
    ]
    return parts[0] if len(parts) == 1 else tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))


def call_in_batches(model: Callable[..., Tensor], rows: Sequence[Tensor], buckets: Sequence[int]) -> Tensor:
    """Return the output of a model that has one: as `in_buckets`."""
    return in_buckets(lambda *batch: (model(*batch),), rows, buckets)[0]


def call_ranges(count: int, buckets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield first row, end row and bucket of every call that `count` rows need."""
    for start in range(0, count, buckets[-1]):
        stop = min(count, start + buckets[-1])
        yield start, stop, next(bucket for bucket in buckets if bucket >= stop - start)


def padded(rows: Tensor, size: int) -> Tensor:
    """Return rows (B, ...) as (size, ...), the last row repeated."""
    missing = size - len(rows)
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


def encode(encoder: LatentEncoder, images: Tensor, batch_sizes: BatchSizes) -> Tensor:
    """Return the latents (B, C, h, w) float32 of images (B, 3, H, W) in [-1, 1], in the comparator's batch sizes."""
    return call_in_batches(encoder.encode, (images,), batch_sizes.comparator).float()


def decode(decoder: LatentDecoder, latents: Tensor, batch_sizes: BatchSizes) -> Tensor:
    """Return the images (B, 3, H, W) float32 of latents (B, C, h, w), in the comparator's batch sizes."""
    return call_in_batches(decoder.decode, (latents,), batch_sizes.comparator).float()


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The embedded prompts and the guidance of each lane of a UNet call."""

    conditions: Sequence[Condition | None]
    guidance: Sequence[float]
    """w of e_0 + w (e_c - e_0), per lane; 1: the product's condition alone, one evaluation instead of two."""


def predict_noise(
    denoiser: Denoiser, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, batch_sizes: BatchSizes
) -> Tensor:
    """Return e = eps_theta(x^_t, t), (B, C, h, w) float32, calling the UNet in few batch sizes.

    Guided lanes (classifier-free guidance, which the authors' code uses with w = 9) are evaluated twice, with their
    own condition and with the empty prompt.

    Args:
        denoiser: the UNet.
        latents: x^_t, (B, C, h, w).
        timesteps: t, (B,) int64.
        conditioning: one entry per lane.
        batch_sizes: those of `denoiser` are used.

    Raises:
        ValueError: if only some of the lanes have a condition.
    """
    conditions = [condition for condition in conditioning.conditions if condition is not None]
    if not conditions:
        return call_in_batches(denoiser, (latents, timesteps), batch_sizes.denoiser).float()
    if len(conditions) < len(latents):
        raise ValueError(f"{len(conditions)} of {len(latents)} lanes have a condition: all lanes of one UNet need one")

    # The guided lanes' second evaluations are further rows of the same call.
    guided = [row for row, weight in enumerate(conditioning.guidance) if weight != 1]
    prompts = [condition.product for condition in conditions] + [conditions[row].empty for row in guided]
    rows = torch.cat([latents, latents[guided]]), torch.cat([timesteps, timesteps[guided]]), torch.stack(prompts)
    predicted = call_in_batches(denoiser, rows, batch_sizes.denoiser).float()

    # e = e_0 + w (e_c - e_0)
    noise, empty = predicted[: len(latents)].clone(), predicted[len(latents) :]
    weights = torch.tensor([conditioning.guidance[row] for row in guided], device=latents.device)[:, None, None, None]
    noise[guided] = empty + weights * (noise[guided] - empty)
    return noise

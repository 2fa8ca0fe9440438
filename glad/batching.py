"""Few, fixed batch sizes: a model sees the same call shapes again and again.

Kernels differ between shapes by about 1e-6, so a score repeats bit for bit only where the shape of the call repeats;
and compiled engines want few shapes anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glad.protocols import Autoencoder


@dataclass(frozen=True)
class BatchSizes:
    """The batch sizes ("buckets") in which the models are called.

    The defaults are right for a CPU, where autoencoder and features gain nothing from a batch and the UNet does.
    """

    denoiser: tuple[int, ...] = (1, 2, 4, 8)
    """Lanes in one UNet call."""
    comparator: tuple[int, ...] = (1,)
    """Images in one call of the autoencoder or of the features."""

    def __post_init__(self) -> None:
        for name, buckets in (("denoiser", self.denoiser), ("comparator", self.comparator)):
            if not buckets or buckets[0] < 1 or list(buckets) != sorted(set(buckets)):
                raise ValueError(f"{name} buckets are {buckets}; give ascending sizes, each once, such as (1, 2, 4)")


def batch_sizes_for_device(kind: str, lanes: int) -> BatchSizes:
    """Return the batch sizes for a kind of device, cpu or cuda: powers of two up to the lanes.

    On a CPU only the denoiser gains from a batch.
    """
    sizes = tuple(2**power for power in range((lanes - 1).bit_length() + 1))
    return BatchSizes(denoiser=sizes, comparator=(1,) if kind == "cpu" else sizes)


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


def encode(autoencoder: Autoencoder, images: Tensor, batch_sizes: BatchSizes) -> Tensor:
    """Return the latents (B, C, h, w) float32 of images (B, 3, H, W) in [-1, 1], in the comparator's batch sizes."""
    return call_in_batches(autoencoder.encode, (images,), batch_sizes.comparator).float()


def decode(autoencoder: Autoencoder, latents: Tensor, batch_sizes: BatchSizes) -> Tensor:
    """Return the images (B, 3, H, W) float32 of latents (B, C, h, w), in the comparator's batch sizes."""
    return call_in_batches(autoencoder.decode, (latents,), batch_sizes.comparator).float()

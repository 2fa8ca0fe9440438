"""The only toucher of the device: puts images into lanes, steps them, turns finished lanes into maps and scores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.guidance import Told, predict_noise
from glad.imaging import Pixels, from_model
from glad.lane import Lane, LaneBlock, Phase
from glad.reconstruct import decode, encode
from glad.score import anomaly_map, image_scores
from glad.step import CallShapes, step
from service.worker.codec import Prepared
from service.worker.models import LoadedBundle

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Inspected:
    """What the method found in one image, away from the device."""

    lane: Lane
    score: float
    map: NDArray[np.float32]
    """(side, side), 0 on padding."""
    reconstruction: Pixels
    """(side, side, 3) uint8."""
    encode_ms: float
    denoise_ms: float
    score_ms: float


class NotFinite(Exception):
    """A model gave NaN or infinity for this image."""


@dataclass(frozen=True, eq=False)
class Seat:
    """Where a job's lane is, and what it came with."""

    slot: int
    prepared: Prepared
    entered_at: float
    encode_ms: float


@dataclass(frozen=True)
class Stepped:
    """What one step of a group led to."""

    finished: tuple[str, ...] = ()
    failed: Mapping[str, Exception] = field(default_factory=dict)
    """Jobs whose models raised even when they were alone in the call."""
    size: int = 0
    """Lanes that were stepped."""


def call_shapes(device: str, lanes: int) -> CallShapes:
    """The batch sizes for a device: powers of two up to the lanes; on a CPU only the denoiser gains from a batch."""
    sizes = tuple(2**power for power in range((lanes - 1).bit_length() + 1))
    return CallShapes(denoiser=sizes, comparator=(1,) if device == "cpu" else sizes)


class Runner:
    """Owns the device and every tensor on it. Called from one thread only."""

    def __init__(self, device: str, lanes: int) -> None:
        self._device, self._lanes = torch.device(device), lanes
        self._shapes = call_shapes(self._device.type, lanes)
        self._blocks: dict[str, LaneBlock] = {}
        self._seats: dict[str, Seat] = {}

    @torch.no_grad()
    def admit(self, job: str, prepared: Prepared) -> None:
        """Encodes the image into a free lane of its group's block."""
        bundle, began = prepared.bundle, time.perf_counter()
        images = torch.from_numpy(prepared.image)[None].to(self._device)
        latent = encode(bundle.models.autoencoder, images, self._shapes)[0]
        noise = torch.from_numpy(prepared.noise).to(self._device)
        valid = torch.from_numpy(prepared.valid_patches).to(self._device)
        block = self._block(bundle)
        slot = block.free_slots()[0]
        block.admit(slot, Lane(bundle.settings), latent, noise, valid, condition=bundle.models.condition)
        entered = time.perf_counter()
        self._seats[job] = Seat(slot, prepared, entered, (entered - began) * 1e3)

    def step(self, group: str, jobs: Sequence[str]) -> Stepped:
        """Advances these jobs, all of this group, by one step. What a model raises for one fails that one only."""
        failed: dict[str, Exception] = {}
        for part in self._parts(jobs):
            failed |= self._step_or_isolate(group, part)
        block = self._blocks[group]
        done = (job for job in jobs if job not in failed)
        finished = tuple(job for job in done if block.lane(self._seats[job].slot).phase is Phase.FINISHED)
        return Stepped(finished, failed, len(jobs))

    @torch.no_grad()
    def finish(self, job: str) -> Inspected:
        """Decodes and scores a finished lane. NotFinite if a model went astray: such an image never passes."""
        seat = self._seats[job]
        prepared, bundle = seat.prepared, seat.prepared.bundle
        block, began = self._blocks[bundle.group], time.perf_counter()
        settings = bundle.settings.score
        valid = torch.from_numpy(prepared.placement.valid_pixels())[None].to(self._device)
        images = torch.from_numpy(prepared.image)[None].to(self._device)
        rebuilt = decode(bundle.models.autoencoder, block.generated[seat.slot][None], self._shapes)
        buckets = self._shapes.comparator
        found = anomaly_map(images, rebuilt, bundle.models.features, settings, valid, buckets=buckets)
        score = image_scores(found, settings, valid)
        _refuse_not_finite(latent=block.generated[seat.slot], reconstruction=rebuilt, map=found, score=score)
        return Inspected(
            lane=block.lane(seat.slot),
            score=float(score[0]),
            map=found[0].float().cpu().numpy(),
            reconstruction=from_model(rebuilt[0].float().cpu().numpy()),
            encode_ms=seat.encode_ms,
            denoise_ms=(began - seat.entered_at) * 1e3,
            score_ms=(time.perf_counter() - began) * 1e3,
        )

    def release(self, job: str) -> None:
        """Frees a job's lane, if it has one; a block without lanes is given back."""
        seat = self._seats.pop(job, None)
        if seat is None:
            return
        group = seat.prepared.bundle.group
        self._blocks[group].release(seat.slot)
        if len(self._blocks[group].free_slots()) == self._lanes:
            del self._blocks[group]

    def check_device(self) -> None:
        """Raises if the device itself has failed, as after an illegal access: then no later call can succeed either."""
        if self._device.type != "cpu":
            torch.ones(1, device=self._device).add(1).cpu()

    @torch.no_grad()
    def warm(self, bundle: LoadedBundle) -> Iterator[str]:
        """Calls every model once in every shape that will be used; yields the name of each call when it is done."""
        models, side = bundle.models, bundle.settings.resolution
        for size in self._shapes.comparator:
            images = torch.zeros(size, 3, side, side, device=self._device)
            models.autoencoder.decode(models.autoencoder.encode(images))
            models.features(images, bundle.settings.score.layers)
            yield f"images x {size}"
        for size in self._shapes.denoiser:
            latents = torch.zeros(size, *bundle.latent_shape, device=self._device)
            told = Told((models.condition,) * size, (1.0,) * size)
            steps = torch.ones(size, dtype=torch.int64, device=self._device)
            predict_noise(models.denoiser, latents, steps, told, self._shapes)
            yield f"denoiser x {size}"

    def _block(self, bundle: LoadedBundle) -> LaneBlock:
        if bundle.group not in self._blocks:
            channels, side, _ = bundle.latent_shape
            self._blocks[bundle.group] = LaneBlock.empty(self._lanes, channels, side, self._device)
        return self._blocks[bundle.group]

    def _parts(self, jobs: Sequence[str]) -> Iterator[Sequence[str]]:
        """All jobs at once, unless memory has proved too small for that."""
        most = self._shapes.denoiser[-1]
        return (jobs[start : start + most] for start in range(0, len(jobs), most))

    def _step_or_isolate(self, group: str, jobs: Sequence[str]) -> dict[str, Exception]:
        """Steps the jobs together; if that raises, each alone, so that only the culprit fails."""
        try:
            self._step(group, jobs)
        except torch.OutOfMemoryError as error:
            return self._step_smaller(group, jobs, error)
        except Exception as error:
            if len(jobs) == 1:
                return {jobs[0]: error}
            log.warning("step failed and is repeated one by one", jobs=list(jobs), error=str(error))
            return {job: failure for name in jobs for job, failure in self._step_or_isolate(group, (name,)).items()}
        return {}

    def _step(self, group: str, jobs: Sequence[str]) -> None:
        block, bundle = self._blocks[group], self._seats[jobs[0]].prepared.bundle
        slots = [self._seats[job].slot for job in jobs]
        block.write(step(block, slots, bundle.models, bundle.comparator, self._shapes))

    def _step_smaller(self, group: str, jobs: Sequence[str], error: Exception) -> dict[str, Exception]:
        """The device is out of memory: halve the calls, and remember."""
        half = len(jobs) // 2
        if half == 0:
            return {jobs[0]: error}
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        fitting = tuple(size for size in self._shapes.denoiser if size <= half)
        self._shapes = replace(self._shapes, denoiser=fitting, comparator=(1,))
        log.warning("device out of memory: calls are smaller from now on", largest=fitting[-1])
        return {job: e for part in self._parts(jobs) for job, e in self._step_or_isolate(group, part).items()}


def _refuse_not_finite(**tensors: Tensor) -> None:
    if broken := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise NotFinite(f"the model gave NaN or infinity in {', '.join(broken)}")

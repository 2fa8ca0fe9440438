"""The only toucher of the device: puts images into lanes, steps them, turns finished lanes into maps and scores."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.batching import batch_sizes_for_device
from glad.image_codec import Pixels
from glad.images.framed import ModelInput
from glad.images.tiling import Tile
from glad.lane import Lane, LaneBlock, Phase
from glad.noise_prediction import Conditioning, predict_noise
from glad.reconstruct import decode, encode
from glad.scoring import at_side, gather_evidence
from glad.step import step
from model_store.inspection import PartialInspection, TileResult
from service.worker.bundle_cache import LoadedBundle
from service.worker.picture_codec import Prepared

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Inspected:
    """What the method found in one image, away from the device."""

    lane: Lane
    score: float
    map: NDArray[np.float32]
    """(rows, columns) of the placement's plane, 0 where nothing counts."""
    reconstruction: Pixels
    """The plane too, at most `glad.images.mosaic.LONGEST_PX` long: (…, 3) uint8."""
    encode_ms: float
    denoise_ms: float
    score_ms: float


class NotFinite(Exception):
    """A model gave NaN or infinity for this image."""


@dataclass(frozen=True, eq=False)
class Seat:
    """Where the lane of one of a job's tiles is, and what it came with."""

    job: str
    slot: int
    tile: Tile
    square: ModelInput


@dataclass(eq=False)
class Stay:
    """A job on the device: its tiles that wait, that hold lanes, and what those that left have shown."""

    prepared: Prepared
    unfinished: PartialInspection
    waiting: deque[Tile]
    seats: list[Seat]
    entered_at: float
    encode_ms: float = 0.0
    score_ms: float = 0.0

    @property
    def group(self) -> str:
        """Whose lanes its tiles share."""
        return self.prepared.bundle.group


@dataclass(frozen=True)
class Stepped:
    """What one step of a group led to."""

    finished: tuple[str, ...] = ()
    """Jobs of which every tile has walked all its way."""
    freed: tuple[str, ...] = ()
    """Jobs with more tiles to walk, once for each lane that one of their tiles has left."""
    failed: Mapping[str, Exception] = field(default_factory=dict)
    """Jobs whose models raised even when they were alone in the call."""
    size: int = 0
    """Lanes that were stepped."""


class Runner:
    """Owns the device and every tensor on it. Called from one thread only."""

    def __init__(self, device: str, lanes: int) -> None:
        self._device, self._lanes = torch.device(device), lanes
        self._shapes = batch_sizes_for_device(self._device.type, lanes)
        self._blocks: dict[str, LaneBlock] = {}
        self._stays: dict[str, Stay] = {}

    @torch.no_grad()
    def admit(self, job: str, prepared: Prepared) -> None:
        """Encodes the image, or its next tile, into a free lane of its group's block."""
        bundle, began = prepared.bundle, time.perf_counter()
        if job not in self._stays:
            self._stays[job] = _stay_of(prepared, began)
        stay = self._stays[job]
        tile = stay.waiting.popleft()
        square = prepared.framed.model_input(tile)
        latent = encode(bundle.models.autoencoder, self._on_device(square.image)[None], self._shapes)[0]
        block = self._block(bundle)
        slot = block.free_slots()[0]
        noise, inspected_mask = self._on_device(square.noise), self._on_device(square.inspected_patches)
        block.add_lane(slot, Lane(bundle.settings), latent, noise, inspected_mask, condition=bundle.models.condition)
        stay.seats.append(Seat(job, slot, tile, square))
        stay.encode_ms += (time.perf_counter() - began) * 1e3

    def step(self, group: str, jobs: Sequence[str]) -> Stepped:
        """Advances these jobs, all of this group, by one step. What a model raises for one fails that one only.

        Tiles that have walked all their way leave their lanes at once, unless their job ends with them: see `finish`.
        """
        failed: dict[str, Exception] = {}
        seats = [seat for job in jobs for seat in self._stays[job].seats]
        for part in self._parts(seats):
            failed |= self._step_or_isolate(group, part)
        finished, freed = [], []
        for job in jobs:
            stay = self._stays[job]
            done = [seat for seat in stay.seats if self._blocks[group].lane(seat.slot).phase is Phase.FINISHED]
            if job in failed or not done:
                continue
            if len(done) == len(stay.seats) and not stay.waiting:
                finished.append(job)
                continue
            try:
                freed += [self._leave(stay, seat) for seat in done]
            except Exception as error:
                failed[job] = error
        return Stepped(tuple(finished), tuple(freed), failed, len(seats))

    @torch.no_grad()
    def finish(self, job: str) -> Inspected:
        """Scores a job whose tiles are done. NotFinite if a model went astray: such an image never passes."""
        stay, began = self._stays[job], time.perf_counter()
        for seat in stay.seats:
            self._collect(stay, seat)
        found = stay.unfinished.result()
        _refuse_not_finite(map=torch.from_numpy(found.map), score=torch.tensor(found.score))
        ended = time.perf_counter()
        return Inspected(
            lane=found.lane,
            score=found.score,
            map=found.map,
            reconstruction=found.reconstruction,
            encode_ms=stay.encode_ms,
            denoise_ms=(began - stay.entered_at) * 1e3 - stay.encode_ms - stay.score_ms,
            score_ms=stay.score_ms + (ended - began) * 1e3,
        )

    def release(self, job: str) -> None:
        """Frees a job's lanes, if it has any; a block without lanes is given back."""
        stay = self._stays.pop(job, None)
        if stay is not None:
            for seat in stay.seats:
                self._free(stay.group, seat)

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
            for seen in {bundle.settings.resolution, bundle.settings.scoring_side}:
                models.features(at_side(images, seen), bundle.settings.score.layers)
            yield f"images x {size}"
        for size in self._shapes.denoiser:
            latents = torch.zeros(size, *bundle.latent_shape, device=self._device)
            told = Conditioning((models.condition,) * size, (1.0,) * size)
            steps = torch.ones(size, dtype=torch.int64, device=self._device)
            predict_noise(models.denoiser, latents, steps, told, self._shapes)
            yield f"denoiser x {size}"

    def _leave(self, stay: Stay, seat: Seat) -> str:
        """A tile is done, its job is not: takes what it shows, and frees its lane. Returns the job."""
        began = time.perf_counter()
        self._collect(stay, seat)
        stay.seats.remove(seat)
        self._free(stay.group, seat)
        stay.score_ms += (time.perf_counter() - began) * 1e3
        return seat.job

    @torch.no_grad()
    def _collect(self, stay: Stay, seat: Seat) -> None:
        """Decodes a finished lane and gathers what it shows."""
        bundle, block = stay.prepared.bundle, self._blocks[stay.group]
        latent = block.generated[seat.slot]
        rebuilt = decode(bundle.models.autoencoder, latent[None], self._shapes)
        images, inspected_mask = (
            self._on_device(part)[None] for part in (seat.square.image, seat.square.inspected_pixels)
        )
        buckets = self._shapes.comparator
        (evidence,) = gather_evidence(
            images, rebuilt, bundle.models.features, bundle.settings.score, inspected_mask, buckets=buckets
        )
        _refuse_not_finite(latent=latent, reconstruction=rebuilt, map=evidence.layers_map)
        walked = TileResult(rebuilt[0], evidence, block.lane(seat.slot))
        stay.unfinished.add(seat.tile, seat.square.picture, walked)

    def _free(self, group: str, seat: Seat) -> None:
        block = self._blocks[group]
        block.release(seat.slot)
        if len(block.free_slots()) == self._lanes:
            del self._blocks[group]

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _block(self, bundle: LoadedBundle) -> LaneBlock:
        if bundle.group not in self._blocks:
            channels, side, _ = bundle.latent_shape
            self._blocks[bundle.group] = LaneBlock.empty(self._lanes, channels, side, self._device)
        return self._blocks[bundle.group]

    def _parts(self, seats: Sequence[Seat]) -> Iterator[Sequence[Seat]]:
        """All seats at once, unless memory has proved too small for that."""
        most = self._shapes.denoiser[-1]
        return (seats[start : start + most] for start in range(0, len(seats), most))

    def _step_or_isolate(self, group: str, seats: Sequence[Seat]) -> dict[str, Exception]:
        """Steps the seats together; if that raises, each alone, so that only the culprit's job fails."""
        try:
            self._step(group, seats)
        except torch.OutOfMemoryError as error:
            return self._step_smaller(group, seats, error)
        except Exception as error:
            if len(seats) == 1:
                return {seats[0].job: error}
            jobs = list(dict.fromkeys(seat.job for seat in seats))
            log.warning("step failed and is repeated one by one", jobs=jobs, error=str(error))
            return {job: failure for seat in seats for job, failure in self._step_or_isolate(group, (seat,)).items()}
        return {}

    def _step(self, group: str, seats: Sequence[Seat]) -> None:
        block, bundle = self._blocks[group], self._stays[seats[0].job].prepared.bundle
        slots = [seat.slot for seat in seats]
        block.write(step(block, slots, bundle.models, bundle.comparator, self._shapes))

    def _step_smaller(self, group: str, seats: Sequence[Seat], error: Exception) -> dict[str, Exception]:
        """The device is out of memory: halve the calls, and remember. A single lane may still make calls of two."""
        half = max(1, len(seats) // 2)
        if len(seats) == 1 and self._shapes.denoiser == self._shapes.comparator == (1,):
            return {seats[0].job: error}
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        fitting = tuple(size for size in self._shapes.denoiser if size <= half)
        self._shapes = replace(self._shapes, denoiser=fitting, comparator=(1,))
        log.warning("device out of memory: calls are smaller from now on", largest=fitting[-1])
        return {job: e for part in self._parts(seats) for job, e in self._step_or_isolate(group, part).items()}


def _stay_of(prepared: Prepared, entered_at: float) -> Stay:
    unfinished = PartialInspection(prepared.framed, prepared.bundle.settings)
    return Stay(prepared, unfinished, deque(prepared.framed.tiles), [], entered_at)


def _refuse_not_finite(**tensors: Tensor) -> None:
    if broken := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise NotFinite(f"the model gave NaN or infinity in {', '.join(broken)}")

"""The only code that touches the device: puts tiles into lanes, steps them, and makes maps and scores of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.batching import Conditioning, batch_sizes_for_device, decode, encode, predict_noise
from glad.comparator import Observation
from glad.image_codec import Pixels
from glad.images.tiling import ModelInput, Tile
from glad.lane import Lane, LaneBlock, Phase
from glad.scoring import LaneResult
from glad.step import EncodedImage, start_lane, step
from model_store.inspection import PartialInspection, TileResult
from service.worker.bundle_cache import LoadedBundle
from service.worker.picture_codec import PreparedInspection

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class DeviceResult:
    """The score, map and reconstruction of one image, copied from the device."""

    lane: Lane
    """All tiles of the image together: see `glad.lane.merge_lanes`."""
    score: float
    map: NDArray[np.float32]
    """(rows, columns) of the placement's plane, 0 where zones or padding are not inspected."""
    reconstruction: Pixels | None
    """The plane too, at most `glad.images.mosaic.LONGEST_PX` long: (…, 3) uint8. None: nobody asked for the picture."""
    encode_ms: float
    denoise_ms: float
    score_ms: float


class NotFinite(Exception):
    """A model returned NaN or infinity for this image."""


@dataclass(frozen=True, eq=False)
class TileSlot:
    """A tile in its lane."""

    job: str
    slot: int
    """Index into the group's `LaneBlock`."""
    tile: Tile
    model_input: ModelInput


@dataclass(eq=False)
class DeviceJob:
    """A job on the device: tiles that wait, tiles in lanes, and the results of tiles that are done."""

    image: PreparedInspection
    group: str
    """The lanes that its tiles share: see `LoadedBundle.group`."""
    results: PartialInspection
    waiting: deque[Tile]
    slots: list[TileSlot]
    started_at: float
    """perf_counter when its first tile was encoded."""
    encode_ms: float = 0.0
    score_ms: float = 0.0


@dataclass(frozen=True)
class StepReport:
    """The outcome of one step of a group."""

    finished: tuple[str, ...] = ()
    """Jobs of which every tile has made all its steps."""
    freed: tuple[str, ...] = ()
    """Jobs with more tiles to come, once for each lane that one of their tiles has left."""
    failed: Mapping[str, Exception] = field(default_factory=dict)
    """Jobs whose models raised even when they were alone in the call."""
    lanes: int = 0
    """Lanes that were stepped."""


class Runner:
    """Owns the device and every tensor on it. To be called from one thread only."""

    def __init__(self, device: str, lanes: int) -> None:
        """Prepare for `lanes` tiles at a time on a device such as "cpu" or "cuda:0"; loads nothing yet."""
        self._device, self._lanes = torch.device(device), lanes
        # Calls are padded to few fixed sizes: kernels of other batch sizes differ by about 1e-6, so a score repeats
        # bit for bit only if the call's size does; and compiled engines are built for a few sizes.
        self._batch_sizes = batch_sizes_for_device(self._device.type, lanes)
        self._blocks: dict[str, LaneBlock] = {}
        self._jobs: dict[str, DeviceJob] = {}

    @torch.no_grad()
    def start_tile(self, job: str, image: PreparedInspection) -> bool:
        """Encode the image, or its next tile, into a free lane of its group's block.

        Returns:
            Whether the tile needs steps; False where its first reading was clear.
        """
        bundle, began = image.bundle, time.perf_counter()
        device_job = self._jobs.get(job)
        if device_job is None:
            device_job = self._jobs[job] = DeviceJob(
                image=image,
                group=bundle.group,
                results=PartialInspection(image.framed, bundle.settings),
                waiting=deque(image.framed.tiles),
                slots=[],
                started_at=began,
            )
        tile = device_job.waiting.popleft()
        # Cut only now: a large image has hundreds of tiles, whose float32 inputs together would be many times its size.
        model_input = image.framed.model_input(tile) if image.single is None else image.single
        pixels = self._on_device(model_input.image)[None]
        latent = encode(bundle.models.encoder, pixels, self._batch_sizes)[0]
        block = self._block(bundle)
        slot = block.free_slots()[0]
        encoded = EncodedImage(
            latent,
            self._on_device(model_input.noise),
            self._on_device(model_input.inspected_patches),
            self._on_device(model_input.inspected_pixels),
        )
        start_lane(block, slot, encoded, bundle.models, bundle.settings)
        device_job.slots.append(TileSlot(job, slot, tile, model_input))
        device_job.encode_ms += (time.perf_counter() - began) * 1e3
        return not _is_finished(block.lanes[slot])

    def step(self, group: str, jobs: Sequence[str]) -> StepReport:
        """Advance these jobs, all of this group, by one step. An exception of one job's model fails that job only.

        Tiles that have made all their steps, or need none, leave their lanes at once, unless their job ends with them:
        see `finish`.
        """
        failed: dict[str, Exception] = {}
        lanes = self._blocks[group].lanes
        held = [tile_slot for job in jobs for tile_slot in self._jobs[job].slots]
        slots = [tile_slot for tile_slot in held if not _is_finished(lanes[tile_slot.slot])]
        for part in self._parts(slots):
            failed |= self._step_or_isolate(group, part)
        finished, freed = [], []
        for job in jobs:
            device_job = self._jobs[job]
            done = [one for one in device_job.slots if _is_finished(lanes[one.slot])]
            if job in failed or not done:
                continue
            if len(done) == len(device_job.slots) and not device_job.waiting:
                finished.append(job)
                continue
            try:
                for tile_slot in done:
                    self._finish_tile(device_job, tile_slot)
                    freed.append(job)
            except Exception as error:
                failed[job] = error
        return StepReport(tuple(finished), tuple(freed), failed, len(slots))

    @torch.no_grad()
    def finish(self, job: str, wants_picture: Callable[[float], bool] = lambda _: True) -> DeviceResult:
        """Score a job whose tiles are done.

        Args:
            job: its name.
            wants_picture: of an image with this score; where nobody does, no reconstruction is decoded. What the score
                needs, and what is of several tiles, is decoded before the score is known.

        Raises:
            NotFinite: if a model returned NaN or infinity: such an image never passes.
        """
        device_job, began = self._jobs[job], time.perf_counter()
        for tile_slot in device_job.slots:
            self._collect(device_job, tile_slot)
        results = device_job.results
        inspected = results.scored()
        _refuse_not_finite(map=torch.from_numpy(inspected.map), score=torch.tensor(inspected.score))
        if results.reconstruction is None and wants_picture(inspected.score):
            (tile_slot,) = device_job.slots
            results.add_reconstruction(tile_slot.tile, self._decoded(device_job, tile_slot))
        ended = time.perf_counter()
        return DeviceResult(
            lane=inspected.lane,
            score=inspected.score,
            map=inspected.map,
            reconstruction=results.reconstruction,
            encode_ms=device_job.encode_ms,
            denoise_ms=(began - device_job.started_at) * 1e3 - device_job.encode_ms - device_job.score_ms,
            score_ms=device_job.score_ms + (ended - began) * 1e3,
        )

    def release(self, job: str) -> None:
        """Free a job's lanes, if it has any; a block without lanes gives its memory back."""
        device_job = self._jobs.pop(job, None)
        if device_job is not None:
            for tile_slot in device_job.slots:
                self._free(device_job.group, tile_slot)

    def check_device(self) -> None:
        """Raise if the device itself has failed, as after an illegal access: then no later call can succeed either."""
        if self._device.type != "cpu":
            # CUDA reports errors late: only a result that is copied back proves that the device still works.
            torch.ones(1, device=self._device).add(1).cpu()

    @torch.no_grad()
    def warm(self, bundle: LoadedBundle) -> Iterator[str]:
        """Call every model once in every size that will be used; yield the name of each call when it is done."""
        models, settings = bundle.models, bundle.settings
        for size in self._batch_sizes.comparator:
            images = torch.zeros(size, 3, settings.resolution, settings.resolution, device=self._device)
            latents = models.encoder.encode(images)
            pictures = models.decoder.decode(latents)
            # Both compare pairs: half as many fill a call.
            rows = range(max(1, size // 2))
            models.comparator(
                [Observation(settings, settings.grid[0], latents[i], latents[i], latents[i]) for i in rows], (size,)
            )
            scorer = models.scorer
            ended = [
                LaneResult(images[i], latents[i], latents[i], pictures[i] if scorer.needs_picture else None)
                for i in rows
            ]
            scorer(ended, settings.score, (size,))
            yield f"images x {size}"
        for size in self._batch_sizes.denoiser:
            latents = torch.zeros(size, *bundle.latent_shape, device=self._device)
            conditioning = Conditioning((models.condition,) * size, (1.0,) * size)
            timesteps = torch.ones(size, dtype=torch.int64, device=self._device)
            predict_noise(models.denoiser, latents, timesteps, conditioning, self._batch_sizes)
            yield f"denoiser x {size}"

    def _finish_tile(self, device_job: DeviceJob, tile_slot: TileSlot) -> None:
        """Keep the result of a tile that is done while its job is not, and free its lane."""
        began = time.perf_counter()
        self._collect(device_job, tile_slot)
        device_job.slots.remove(tile_slot)
        self._free(device_job.group, tile_slot)
        device_job.score_ms += (time.perf_counter() - began) * 1e3

    @torch.no_grad()
    def _collect(self, device_job: DeviceJob, tile_slot: TileSlot) -> None:
        """Gather the evidence of a finished lane's tile, and its picture if it is needed now."""
        bundle, block, model_input = device_job.image.bundle, self._blocks[device_job.group], tile_slot.model_input
        scorer, slot = bundle.models.scorer, tile_slot.slot
        latent = block.generated[slot]
        # Checked here, not in each step: a NaN in a lane stays to its end, and every check waits for the device.
        _refuse_not_finite(latent=latent)
        single = len(device_job.image.framed.tiles) == 1
        reconstruction = None if single and not scorer.needs_picture else self._decoded(device_job, tile_slot)
        lane_result = LaneResult(
            image=self._on_device(model_input.image),
            latent=block.latents[slot],
            x0=latent,
            picture=reconstruction if scorer.needs_picture else None,
            inspected_mask=self._on_device(model_input.inspected_pixels),
            valid=block.valid[slot],
            reading=block.readings[slot],
            walked=block.lane(slot).walked,
        )
        # One image a call: together with its neighbours the size of the call, and so the score's last bits, would
        # depend on which images happen to finish in the same step.
        (evidence,) = scorer((lane_result,), bundle.settings.score, self._batch_sizes.comparator)
        _refuse_not_finite(map=evidence.layers_map)
        result = TileResult(reconstruction, evidence, block.lane(slot))
        device_job.results.add(tile_slot.tile, model_input.picture, result)

    def _decoded(self, device_job: DeviceJob, tile_slot: TileSlot) -> Tensor:
        """Return the picture of a finished lane, (3, S, S)."""
        latent = self._blocks[device_job.group].generated[tile_slot.slot]
        picture = decode(device_job.image.bundle.models.decoder, latent[None], self._batch_sizes)[0]
        _refuse_not_finite(reconstruction=picture)
        return picture

    def _free(self, group: str, tile_slot: TileSlot) -> None:
        block = self._blocks[group]
        block.release(tile_slot.slot)
        if all(lane is None for lane in block.lanes):
            del self._blocks[group]

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _block(self, bundle: LoadedBundle) -> LaneBlock:
        """Return the group's lanes; they are float32 whatever the models' precision.

        A half-precision latent would round away the small steps of a long grid, differently on every device.
        """
        if bundle.group not in self._blocks:
            channels, side, _ = bundle.latent_shape
            self._blocks[bundle.group] = LaneBlock.empty(self._lanes, channels, side, self._device)
        return self._blocks[bundle.group]

    def _parts(self, slots: Sequence[TileSlot]) -> Iterator[Sequence[TileSlot]]:
        """Return all slots as one part, or several if memory has proved too small for that."""
        most = self._batch_sizes.denoiser[-1]
        return (slots[start : start + most] for start in range(0, len(slots), most))

    def _step_or_isolate(self, group: str, slots: Sequence[TileSlot]) -> dict[str, Exception]:
        """Step the slots together; if that raises, each alone, so that only the culprit's job fails.

        A batched call raises for all its rows and does not say which one is at fault. Repeating is safe because a step
        returns its outcome and changes the block only once it has succeeded: no lane makes a step twice.
        """
        try:
            self._step(group, slots)
        except torch.OutOfMemoryError as error:
            return self._step_smaller(group, slots, error)
        except Exception as error:
            if len(slots) == 1:
                return {slots[0].job: error}
            jobs = list(dict.fromkeys(tile_slot.job for tile_slot in slots))
            log.warning("step failed and is repeated one by one", jobs=jobs, error=str(error))
            return {job: failure for one in slots for job, failure in self._step_or_isolate(group, (one,)).items()}
        return {}

    def _step(self, group: str, slots: Sequence[TileSlot]) -> None:
        # Any bundle of the group will do: equal groups mean equal models, and what differs is each lane's own.
        block, bundle = self._blocks[group], self._jobs[slots[0].job].image.bundle
        numbers = [tile_slot.slot for tile_slot in slots]
        block.write(step(block, numbers, bundle.models, self._batch_sizes))

    def _step_smaller(self, group: str, slots: Sequence[TileSlot], error: Exception) -> dict[str, Exception]:
        """Halve the calls after the device ran out of memory, and keep them small from now on.

        They do not grow again: memory that was too small once is too small whenever the lanes are full. A single lane
        may still make calls of two (guidance predicts twice), so it fails only where calls of one do not fit.
        """
        half = max(1, len(slots) // 2)
        if len(slots) == 1 and self._batch_sizes.denoiser == self._batch_sizes.comparator == (1,):
            return {slots[0].job: error}
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # the allocator keeps blocks of the large calls, which small ones cannot use
        fitting = tuple(size for size in self._batch_sizes.denoiser if size <= half)
        self._batch_sizes = replace(self._batch_sizes, denoiser=fitting, comparator=(1,))
        log.warning("device out of memory: calls are smaller from now on", largest=fitting[-1])
        return {job: e for part in self._parts(slots) for job, e in self._step_or_isolate(group, part).items()}


def _is_finished(lane: Lane | None) -> bool:
    return lane is not None and lane.phase is Phase.FINISHED


def _refuse_not_finite(**tensors: Tensor) -> None:
    if broken := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise NotFinite(f"the model gave NaN or infinity in {', '.join(broken)}")

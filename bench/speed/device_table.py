"""What a device makes of networks of full size: each part's time and TFLOP/s, whole images, memory.

Work is counted by torch's own FLOP counter, which sees matrix products, convolutions and attention. Shares are those of
what a large matrix product reaches on this device in the same type: no data sheet's figure, so every device has one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.speed.fullsize import Architecture, fullsize_settings, peak_memory_gb, random_modules
from bench.speed.fullsize_features import BackboneSize, random_feature_models
from bench.speed.model_calls import model_calls
from bench.support.device_cost import Rounds, interleaved, settle, with_memory
from glad.batching import BatchSizes, batch_sizes_for_device
from glad.models import ComponentModels, Models
from glad.protocols import Condition
from glad.reconstruct import reconstruct
from glad.scoring import LaneResult
from glad.settings.method import MethodSettings
from model_store.engines.torch import models_from_modules
from model_store.manifest import Dtype
from training.progress import Progress

DTYPES: Mapping[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
MATRIX_SIDE = {"cuda": 8192, "cpu": 2048}
NEVER = 1e9
"""A threshold that no comparison reaches: every step that may compare does, as of a good part."""


@dataclass(frozen=True)
class DevicePlan:
    """What to measure."""

    sides: tuple[int, ...]
    batches: tuple[int, ...]
    """Rows in one call of a part, and images side by side on whole ways."""
    dtypes: tuple[Dtype, ...]
    device: str
    architecture: Architecture
    backbones: Mapping[str, BackboneSize]
    """By name, of the feature form."""
    minutes: float
    """What would begin later, or end later by its parts' times, is left out, and named."""
    rounds: int = 3


@dataclass(frozen=True)
class PartRow:
    """A part under one batch size."""

    models: str
    side: int
    dtype: str
    part: str
    batch: int
    ms: float
    """Of one call, median."""
    tflop: float
    """Of one call: multiplications and additions, in 10^12."""


def share_of_peak(row: PartRow, peak: float) -> float:
    """Return a part's TFLOP/s as a share of the matrix product's."""
    return row.tflop / row.ms * 1e3 / peak


@dataclass(frozen=True)
class WholeRow:
    """Images the whole way, side by side: encoded, walked, decoded, scored."""

    models: str
    side: int
    dtype: str
    way: str
    """"walks", or "clear": at its first reading."""
    images: int
    """At once."""
    p50_ms: float
    """Of all of them together, median."""
    images_per_s: float
    peak_gb: float
    """Memory in use at most: torch's on a GPU, without the weights; the process's so far on a CPU."""


@dataclass(frozen=True)
class DeviceFigures:
    """Everything that there was time for."""

    device: str
    device_name: str
    threads: int
    matrix_tflop_per_s: Mapping[str, float]
    """By type."""
    parameters: Mapping[str, Mapping[str, int]]
    parts: tuple[PartRow, ...]
    whole: tuple[WholeRow, ...]
    left_out: tuple[str, ...]
    """What did not fit the minutes or the memory."""


@dataclass(frozen=True, eq=False)
class _Case:
    """Models at one side in one type."""

    name: str
    side: int
    dtype: Dtype
    models: ComponentModels
    settings: MethodSettings
    ways: Mapping[str, MethodSettings]

    def __str__(self) -> str:
        return f"{self.name}, {self.side}², {self.dtype}"


@dataclass(eq=False)
class _Measurement:
    plan: DevicePlan
    ends_at: float
    parts: list[PartRow] = field(default_factory=list)
    whole: list[WholeRow] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @contextmanager
    def if_it_fits(self, what: str) -> Iterator[None]:
        """Note what the device's memory is too small for, and go on."""
        try:
            yield
        except torch.OutOfMemoryError:
            self.left_out.append(f"{what}: out of memory")
            torch.cuda.empty_cache()

    def has_time(self, what: str, seconds: float = 0.0) -> bool:
        """Return whether there is time for work of so many seconds; note it if not."""
        enough = time.monotonic() + seconds < self.ends_at
        if not enough:
            self.left_out.append(f"{what}: no time" + (f" for some {seconds:.0f} s" if seconds else ""))
        return enough


def measure_device(plan: DevicePlan, progress: Progress) -> DeviceFigures:
    """Return the figures of every model at every side in every type, as far as time goes."""
    place, measured = torch.device(plan.device), _Measurement(plan, time.monotonic() + 60 * plan.minutes)
    peaks: dict[str, float] = {dtype: _matrix_tflop_per_s(DTYPES[dtype], plan.device) for dtype in plan.dtypes}
    parameters: dict[str, Mapping[str, int]] = {}
    makers = [
        (name, side, dtype, make)
        for side in plan.sides
        for dtype in plan.dtypes
        for name, make in _makers(plan).items()
    ]
    for number, (name, side, dtype, make) in enumerate(makers):
        progress("models", number, len(makers))
        what = f"{name}, {side}², {dtype}"
        if not measured.has_time(what):
            continue
        with measured.if_it_fits(what):
            case, counted = make(side, dtype)
            parameters[case.name] = counted
            _measure_parts(case, measured)
            _measure_whole(case, measured)
    progress("models", len(makers), len(makers))
    return DeviceFigures(
        device=plan.device,
        device_name=torch.cuda.get_device_name(place) if place.type == "cuda" else "",
        threads=torch.get_num_threads(),
        matrix_tflop_per_s=peaks,
        parameters=parameters,
        parts=tuple(measured.parts),
        whole=tuple(measured.whole),
        left_out=tuple(measured.left_out),
    )


Make = Callable[[int, Dtype], tuple[_Case, Mapping[str, int]]]


def _makers(plan: DevicePlan) -> Mapping[str, Make]:
    """Return what makes each model, by name."""

    def pixel(side: int, dtype: Dtype) -> tuple[_Case, Mapping[str, int]]:
        modules, settings = random_modules(plan.architecture), fullsize_settings(side, delta=NEVER)
        for module in (modules.autoencoder, modules.unet, modules.features):
            module.to(device=plan.device, dtype=DTYPES[dtype]).requires_grad_(False)
        told = Condition(*(one.to(plan.device) for one in (modules.condition.product, modules.condition.empty)))
        models = models_from_modules(modules.autoencoder, modules.unet, modules.features, settings, told)
        return _Case("Stable Diffusion 1.5, ViT-B/8", side, dtype, models, settings, {"walks": settings}), (
            modules.parameters
        )

    def feature(name: str, size: BackboneSize) -> Make:
        def make(side: int, dtype: Dtype) -> tuple[_Case, Mapping[str, int]]:
            own_side = size.side(side)
            made = random_feature_models(size, own_side, DTYPES[dtype], plan.device)
            walks = made.settings.where_all_walk.with_delta(NEVER)
            ways = {"clear": made.settings, "walks": walks}
            return _Case(name, own_side, dtype, made.models, made.settings, ways), made.parameters

        return make

    return {"pixel form": pixel, **{name: feature(name, size) for name, size in plan.backbones.items()}}


def _measure_parts(case: _Case, measured: _Measurement) -> None:
    plan = measured.plan
    for call in model_calls(case.models, case.settings, BatchSizes(plan.batches, plan.batches), plan.device):
        what = f"{case}, {call.component} × {call.batch}"
        if not measured.has_time(what):
            continue
        with measured.if_it_fits(what):
            with FlopCounterMode(display=False) as counter:
                call.run(case.models)
            tflop = counter.get_total_flops() / 1e12
            seconds = _timed(partial(call.run, case.models), plan).median
            row = PartRow(case.name, case.side, case.dtype, call.component, call.batch, 1e3 * seconds, tflop)
            measured.parts.append(row)


def _measure_whole(case: _Case, measured: _Measurement) -> None:
    plan, models = measured.plan, case.models.assemble()
    for way, settings in case.ways.items():
        for count in plan.batches:
            what = f"{case}, {count} images, {way}"
            expected_s = (1 + plan.rounds) * count * _expected_s(case, measured.parts, settings, walks=way == "walks")
            if not measured.has_time(what, expected_s):
                continue
            with measured.if_it_fits(what):
                inspect = _whole_way(models, settings, count, plan.device)
                seconds, memory = with_memory(partial(_rounds, inspect, plan), plan.device)
                row = WholeRow(
                    models=case.name,
                    side=case.side,
                    dtype=case.dtype,
                    way=way,
                    images=count,
                    p50_ms=1e3 * statistics.median(seconds),
                    images_per_s=count / statistics.median(seconds),
                    peak_gb=peak_memory_gb() if memory is None else memory.torch_peak_gb,
                )
                measured.whole.append(row)


def _expected_s(case: _Case, parts: list[PartRow], settings: MethodSettings, *, walks: bool) -> float:
    """Return about how many seconds an image takes: by its parts alone; a comparison decodes and reads two pictures."""
    ms = {
        row.part: row.ms / row.batch
        for row in parts
        if (row.models, row.side, row.dtype) == (case.name, case.side, case.dtype)
    }
    step_ms = ms.get("unet", 0.0)
    if "encoder" in ms:
        compared = sum(step >= settings.t_min for step in settings.grid) / len(settings.grid)
        step_ms += compared * 2 * (ms["decoder"] + max(value for name, value in ms.items() if "features" in name))
    return (sum(ms.values()) + (len(settings.grid) if walks else 1) * step_ms) / 1e3


def _whole_way(models: Models, settings: MethodSettings, count: int, device: str) -> Callable[[], object]:
    """Return the call that inspects so many images, all in lanes side by side, as a worker of that device does."""
    draw, side = torch.Generator().manual_seed(0), settings.resolution
    images = (torch.rand(count, 3, side, side, generator=draw) * 2 - 1).to(device)
    noise = torch.randn(count, *models.latent_shape(side), generator=draw).to(device)
    sizes = batch_sizes_for_device(torch.device(device).type, count)

    def inspect() -> object:
        rebuilt = reconstruct(images, noise, models, settings, batch_sizes=sizes)
        results = [
            LaneResult(
                image=images[i],
                latent=rebuilt.encoded[i],
                x0=rebuilt.latents[i],
                picture=rebuilt.images[i] if models.scorer.needs_picture else None,
                reading=rebuilt.readings[i],
                walked=rebuilt.lanes[i].walked,
            )
            for i in range(count)
        ]
        return models.scorer(results, settings.score, sizes.comparator)

    return inspect


@torch.no_grad()
def _rounds(call: Callable[[], object], plan: DevicePlan) -> list[float]:
    device, seconds = torch.device(plan.device), list[float]()
    for _ in range(1 + plan.rounds):
        settle(device)
        began = time.perf_counter()
        call()
        settle(device)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]  # the first call chooses kernels


@torch.no_grad()
def _timed(call: Callable[[], object], plan: DevicePlan) -> Rounds:
    return interleaved({"": call}, plan.rounds, plan.device)[""]


def _matrix_tflop_per_s(dtype: torch.dtype, device: str) -> float:
    """Return what a large square matrix product reaches."""
    side = MATRIX_SIDE[torch.device(device).type]
    left, right = (torch.randn(side, side).to(device=device, dtype=dtype) for _ in range(2))
    seconds = interleaved({"": lambda: left @ right}, 5, device)[""].median
    return 2 * side**3 / seconds / 1e12

"""Full-size models with random weights as ONNX files: what the export costs, and one step of both engines beside it.

Nothing here decides what may be served: `glad export` proves a bundle's own weights. Speed, memory and size depend on
shapes, not on values; the error of random weights shows that the export is sound at this size.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.speed.fullsize import Modules, peak_memory_gb
from bench.speed.model_calls import ModelCall, model_calls
from bench.support.device_cost import ROUND_S, MemoryTaken, Rounds, interleaved, with_memory
from glad.batching import BatchSizes
from glad.models import PixelModels
from glad.protocols import Condition
from glad.settings.method import MethodSettings
from model_store.engines.backends import Backend, open_files
from model_store.engines.export_manifest import ExportedPart, ExportShapes, Part, Precision
from model_store.engines.onnx import Provider, onnx_runtime
from model_store.engines.torch import models_from_modules
from model_store.manifest import Dtype
from model_store.pretrained import DTYPES as STORED_DTYPES
from training.export.component_parity import in_units
from training.export.forms import pieces, shapes_of
from training.export.onnx import export_onnx

PRECISIONS: tuple[Precision, ...] = ("float32", "float16")
"""Of the files: int8 learns its ranges from images, of which random weights make nothing."""
PROVIDERS: tuple[Provider, ...] = ("cpu", "cuda", "tensorrt")
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ExportPlan:
    """The precisions, engines and batch sizes of a measurement."""

    precisions: tuple[Precision, ...] = ("float32",)
    """Precisions of the ONNX files."""
    dtype: Dtype = "float32"
    """In which torch computes beside them."""
    device: str = "cpu"
    providers: tuple[Provider, ...] = ("cpu",)
    """Providers of ONNX Runtime."""
    batches: tuple[int, ...] = (1,)
    rounds: int = 3
    round_s: float = ROUND_S


@dataclass(frozen=True)
class MadeFile:
    """An ONNX file, traced or converted, written, checked and hashed; with its external data."""

    part: str
    precision: str
    megabytes: float
    seconds: float


@dataclass(frozen=True)
class ExportCandidate:
    """A way to run the models, once they are loaded and every call was made."""

    name: str
    load_s: float
    """From modules in memory, or from the files."""
    memory: MemoryTaken | None
    """None on a CPU."""
    process_peak_gb: float
    """The peak of the process's memory so far."""


@dataclass(frozen=True, eq=False)
class _Tried:
    candidate: ExportCandidate
    models: PixelModels
    errors: Mapping[str, float]
    """By component, under a batch of one."""


@dataclass(frozen=True)
class ExportRow:
    """A component under one batch size in every way, timed in turn."""

    component: str
    batch: int
    rounds: Mapping[str, Rounds]
    errors: Mapping[str, float]
    """Largest error over the RMS of what float32 in torch on the CPU gives; a batch of one only."""

    def images_per_s(self, name: str) -> float:
        """Return images per second by the median round."""
        return self.batch / self.rounds[name].median

    def ratio(self, name: str) -> float:
        """Return how many times as fast as torch this way is."""
        return self.rounds[next(iter(self.rounds))].median / self.rounds[name].median


@dataclass(frozen=True)
class ExportFigures:
    """The figures of a whole measurement at one side."""

    side: int
    parameters: Mapping[str, int]
    files: tuple[MadeFile, ...]
    export_peak_gb: float
    """The process's peak memory when all files were written."""
    candidates: tuple[ExportCandidate, ...]
    rows: tuple[ExportRow, ...]


def measure_export(
    modules: Modules, settings: MethodSettings, plan: ExportPlan, say: Callable[[str], None]
) -> ExportFigures:
    """Export, load and compare; `say` is told of each stage. ExportFailed, EngineUnusable, ValueError.

    modules: float32 on the CPU; afterwards they are of the plan's type, on its device.
    """
    onnx_runtime()  # exports take minutes: what runs them must be there
    parameters = modules.parameters
    exact = _torch_models(modules, settings, "cpu", "float32")
    shapes = shapes_of(exact, settings)
    with tempfile.TemporaryDirectory(prefix="glad-bench-") as folder:
        parts, files = _exported(exact, settings, Path(folder), plan.precisions, say)
        export_peak_gb = peak_memory_gb()
        expected = {call.component: call.run(exact) for call in model_calls(exact, settings, BatchSizes((1,)))}
        calls = tuple(model_calls(exact, settings, BatchSizes(plan.batches, plan.batches), plan.device))
        ways: dict[str, Callable[[], PixelModels]] = {
            f"torch-{plan.dtype}": partial(_torch_models, modules, settings, plan.device, plan.dtype),
            **_onnx_ways(parts, shapes, Path(folder), exact, plan),
        }
        tried = []
        for name, load in ways.items():
            say(f"loading {name}, and one call of each")
            tried.append(_tried(name, load, calls, expected, plan.device))
        rows = []
        for call in calls:
            say(f"timing {call.component}, {call.batch} at once")
            rows.append(_row(call, tried, plan))
    return ExportFigures(
        settings.resolution, parameters, files, export_peak_gb, tuple(one.candidate for one in tried), tuple(rows)
    )


def _torch_models(modules: Modules, settings: MethodSettings, device: str, dtype: Dtype) -> PixelModels:
    """Return the models, as `load_models` does.

    The modules themselves are moved and converted: there is no memory for a second copy.
    """
    for module in (modules.autoencoder, modules.unet, modules.features):
        nn.Module.to(module, device=device, dtype=STORED_DTYPES[dtype])
        module.requires_grad_(False)
    modules.autoencoder.to(memory_format=torch.channels_last)
    condition = _moved(modules.condition, device)
    return models_from_modules(modules.autoencoder, modules.unet, modules.features, settings, condition)


def _moved(condition: Condition, device: str) -> Condition:
    return Condition(condition.product.to(device), condition.empty.to(device))


def _exported(
    models: PixelModels,
    settings: MethodSettings,
    folder: Path,
    precisions: Sequence[Precision],
    say: Callable[[str], None],
) -> tuple[tuple[ExportedPart, ...], tuple[MadeFile, ...]]:
    """Return the exported parts and what each file cost; the export reports every file when it is done."""
    moments = [time.perf_counter()]

    def heard(text: str) -> None:
        moments.append(time.perf_counter())
        say(f"{text}, {moments[-1] - moments[-2]:.0f} s")

    say("exporting")
    parts = export_onnx(pieces(models, settings), folder, precisions, samples=_no_samples, say=heard)
    files = tuple(
        MadeFile(part.part, part.precision, sum(entry.bytes for entry in part.files.values()) / 1e6, ended - began)
        for part, (began, ended) in zip(parts, pairwise(moments), strict=True)
    )
    return parts, files


def _no_samples(part: Part) -> Sequence[Mapping[str, Tensor]]:
    raise ValueError(f"int8 learns its ranges from images, and random weights of {part} have none: leave it out")


def _onnx_ways(
    parts: Sequence[ExportedPart], shapes: ExportShapes, folder: Path, exact: PixelModels, plan: ExportPlan
) -> dict[str, Callable[[], PixelModels]]:
    """Yield every provider with the files of every precision, as a worker opens them."""
    condition = None if exact.condition is None else _moved(exact.condition, plan.device)
    told = replace(exact, condition=condition)
    ways: dict[str, Callable[[], PixelModels]] = {}
    for provider, precision in product(plan.providers, plan.precisions):
        files = {part.part: folder / part.file for part in parts if part.precision == precision}
        runner = Backend("onnx", provider, precision)
        ways[str(runner)] = partial(_opened, told, runner, files, shapes, plan.device)
    return ways


def _opened(
    told: PixelModels, runner: Backend, files: Mapping[Part, Path], shapes: ExportShapes, device: str
) -> PixelModels:
    return told.with_components(open_files(runner, files, shapes, device))


def _tried(
    name: str,
    load: Callable[[], PixelModels],
    calls: Sequence[ModelCall],
    expected: Mapping[str, tuple[Tensor, ...]],
    device: str,
) -> _Tried:
    """Load one way to run the models, and make every call once."""

    def work() -> tuple[PixelModels, float, dict[str, float]]:
        began = time.perf_counter()
        models = load()
        load_s = time.perf_counter() - began
        answers = {(call.component, call.batch): call.run(models) for call in calls}
        singles = {name: outputs for (name, batch), outputs in answers.items() if batch == 1}
        errors = {part: _largest_error(found, expected[part]) for part, found in singles.items()}
        return models, load_s, errors

    (models, load_s, errors), memory = with_memory(work, device)
    return _Tried(ExportCandidate(name, load_s, memory, peak_memory_gb()), models, errors)


def _largest_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest error of all outputs, each in units of its own RMS."""
    pairs = [(one.cpu().double(), other.cpu().double()) for one, other in zip(found, expected, strict=True)]
    return max(in_units(float((one - other).abs().amax()), float(other.square().mean().sqrt())) for one, other in pairs)


def _row(call: ModelCall, tried: Sequence[_Tried], plan: ExportPlan) -> ExportRow:
    runs = {one.candidate.name: partial(call.run, one.models) for one in tried}
    errors = {one.candidate.name: one.errors[call.component] for one in tried if call.component in one.errors}
    timed = interleaved(runs, plan.rounds, plan.device, round_s=plan.round_s)
    return ExportRow(call.component, call.batch, timed, errors if call.batch == 1 else {})

"""`glad export`: a bundle's models for another engine, proven equal on this device before anything is published."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from glad.batching import batch_sizes_for_device
from glad.models import ComponentModels
from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, open_bundle
from model_store.engines.backends import Backend, FindGpu, open_files
from model_store.engines.export_manifest import (
    EngineFailed,
    ExportedPart,
    ExportEngine,
    ExportShapes,
    Part,
    Precision,
    export_folder,
    needed_parts,
)
from model_store.engines.loading import device_of_environment, load_own_models
from model_store.engines.onnx import Provider
from model_store.engines.tensorrt import gpu_identity
from model_store.files import hidden_sibling, make_folder
from model_store.manifest import ComponentName
from training.data.dataset import good_split
from training.export.forms import export_form, pieces, shapes_of
from training.export.onnx import ExportFailed, export_onnx
from training.export.parity import Parity, compare
from training.export.published import ExportOrigin, replace_export, write_export, write_parity
from training.export.tensorrt import TIMING_CACHE, build_parts
from training.export.tolerances import Tolerances, tolerances_for
from training.progress import Progress
from training.recalibrate import recorded_recipes
from training.synthesis.pairs import single_square_settings
from training.synthesis.probes import Probe, make_probes


@dataclass(frozen=True)
class BundleExportPlan:
    """The files to export, and how they are to be shown equal."""

    precisions: tuple[Precision, ...]
    engine: ExportEngine = "onnx"
    providers: tuple[Provider, ...] = ("cpu",)
    """Of ONNX Runtime: each is compared by itself. TensorRT's own engines have none."""
    exact: tuple[Part, ...] = ()
    """Models that stay float32 in every precision."""
    components: tuple[ComponentName, ...] = ()
    """Those to export; PyTorch runs the others beside them. (): all."""
    lanes: int = 16
    """TensorRT: the worker's, which decide the batch sizes that engines are built for."""
    images: int = 20
    """Good images for the parity; a synthetic anomaly is made of each."""
    tolerance: tuple[str, ...] = ()
    """NAME=VALUE, laid over the defaults of each precision."""
    device: str = "cpu"
    seed: int = 0

    def tolerances(self, precision: Precision) -> Tolerances:
        """Return the tolerances at a precision.

        Raises:
            ValueError: for a name that does not exist.
        """
        return tolerances_for(precision).changed(self.tolerance)

    @property
    def runners(self) -> tuple[Backend, ...]:
        """Every way to run the files, each of which must prove equal."""
        if self.engine == "tensorrt":
            return tuple(Backend("tensorrt", precision=precision) for precision in self.precisions)
        return tuple(
            Backend("onnx", provider, precision) for precision in self.precisions for provider in self.providers
        )


@dataclass(frozen=True)
class ExportOutcome:
    """The outcome of an export."""

    folder: Path | None
    """The published export's folder; None: the comparison failed, and nothing was published."""
    parities: tuple[Parity, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything over tolerance."""
        return tuple(f"{parity.runner}: {problem}" for parity in self.parities for problem in parity.problems)


@dataclass(frozen=True)
class ExportSource:
    """A bundle to export, its models on the CPU, and the images to compare on."""

    bundle: Bundle
    models: ComponentModels
    settings: MethodSettings
    """Of one square: probes are inspected as a single model image."""
    shapes: ExportShapes
    probes: tuple[Probe, ...]


def export_for_this_device(
    folder: Path, data: Path, report: Path, *, command: str, progress: Progress
) -> ExportOutcome:
    """Export a new bundle for ONNX Runtime on this machine's device, in float32.

    Args:
        folder: the bundle's.
        data: the good images that it was trained on.
        report: folder of the parity's report.

    Raises:
        ValueError, ExportFailed: as `make_export`.
    """
    device = device_of_environment()
    provider: Provider = "cpu" if device == "cpu" else "cuda"
    plan = BundleExportPlan(("float32",), providers=(provider,), device=device)
    return make_export(folder, data, report, plan, command=command, progress=progress, say=lambda text: None)


def make_export(
    folder: Path,
    data: Path,
    report: Path,
    plan: BundleExportPlan,
    *,
    command: str,
    progress: Progress,
    say: Callable[[str], None],
    find_gpu: FindGpu = gpu_identity,
) -> ExportOutcome:
    """Export a bundle, compare each way to run it with its own weights, and publish it in the bundle's folder if equal.

    A bundle's older export stays until the new one is published.

    Args:
        folder: the bundle's.
        data: good images, see `training.data.dataset`.
        report: folder for parity.json and its pages, written whether the comparison passes or not.

    Raises:
        BundleError, DataError, ExportFailed, EngineUnusable, ValueError: nothing is published.
    """
    for precision in plan.precisions:
        plan.tolerances(precision)
    # Refuses before the work where the engine is absent.
    origin = ExportOrigin.detect(plan.engine, plan.device, find_gpu, plan.providers)
    bundle = open_bundle(folder)
    target = export_folder(bundle.path, plan.engine)
    with _source(bundle, data, plan) as source, _scratch(target) as made:
        parts = _written(source, made, plan, say, find_gpu=find_gpu, older=target)
        reference = source.models if plan.device == "cpu" else load_own_models(bundle, plan.device)
        prove = partial(_proven, source, reference, made, parts, plan=plan, progress=progress, find_gpu=find_gpu)
        parities = tuple(prove(runner) for runner in plan.runners)
        make_folder(report)
        write_parity(parities, report, origin)
        if any(parity.problems for parity in parities):
            return ExportOutcome(None, parities)
        write_export(made, source.bundle, parts, source.shapes, parities, report=report, command=command, origin=origin)
        replace_export(made, target)
    return ExportOutcome(target, parities)


@contextmanager
def _source(bundle: Bundle, data: Path, plan: BundleExportPlan) -> Iterator[ExportSource]:
    recipe, synthesis, seed = recorded_recipes(bundle.manifest.provenance)
    split = good_split(data, recipe.holdout, seed)
    settings = single_square_settings(bundle.manifest.settings)
    models = load_own_models(bundle)
    shapes = shapes_of(models, bundle.manifest.settings)
    _check_parts(plan.exact, shapes)
    _check_components(plan.components, shapes)
    with tempfile.TemporaryDirectory() as scratch:
        probes = make_probes(split.calibration[: plan.images], settings, synthesis, Path(scratch), seed=plan.seed)
        yield ExportSource(bundle, models, settings, shapes, tuple(probes))


def _check_parts(named: Sequence[Part], shapes: ExportShapes) -> None:
    """Refuse models to keep in float32 that a bundle of this form does not have."""
    parts = needed_parts(shapes)
    if unknown := [part for part in named if part not in parts]:
        raise ValueError(
            f"{', '.join(unknown)} cannot stay float32: a bundle of form {shapes.form} with these settings is exported "
            f"as {', '.join(parts)}; choose of them"
        )


def _check_components(named: Sequence[ComponentName], shapes: ExportShapes) -> None:
    """Refuse components that a bundle of this form does not have, or that PyTorch runs on every engine."""
    if unknown := [name for name in named if name not in shapes.component_parts]:
        raise ValueError(
            f"{', '.join(unknown)} cannot be exported: a bundle of form {shapes.form} is exported as "
            f"{', '.join(shapes.component_parts)}; choose of them"
        )


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target, which is removed afterwards unless it has been moved there."""
    make_folder(target.parent)
    temporary = hidden_sibling(target)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _written(
    source: ExportSource,
    folder: Path,
    plan: BundleExportPlan,
    say: Callable[[str], None],
    *,
    find_gpu: FindGpu,
    older: Path,
) -> tuple[ExportedPart, ...]:
    models, settings = source.models, source.bundle.manifest.settings
    learnt = partial(export_form(models).samples, models, source.settings, source.probes)
    chosen = chain(*(source.shapes.component_parts[name] for name in plan.components or source.shapes.component_parts))
    every = pieces(models, settings)
    write = partial(
        export_onnx,
        {part: every[part] for part in chosen},
        precisions=plan.precisions,
        exact=plan.exact,
        samples=learnt,
        say=say,
    )
    if plan.engine == "onnx":
        return write(folder)
    if (cache := older / TIMING_CACHE).is_file():
        shutil.copy(cache, folder / TIMING_CACHE)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        onnx = Path(scratch)
        buckets = batch_sizes_for_device("cuda", plan.lanes)
        return build_parts(onnx, write(onnx), folder, buckets, place=find_gpu(plan.device), say=say)


def _proven(
    source: ExportSource,
    reference: ComponentModels,
    folder: Path,
    parts: Sequence[ExportedPart],
    runner: Backend,
    *,
    plan: BundleExportPlan,
    progress: Progress,
    find_gpu: FindGpu,
) -> Parity:
    files = {part.part: folder / part.file for part in parts if part.precision == runner.precision}
    networks = open_files(runner, files, source.shapes, plan.device, find_gpu=find_gpu)
    candidate = reference.with_components({**reference.components, **networks})
    try:
        return compare(
            reference,
            candidate,
            source.bundle.manifest,
            source.probes,
            plan.tolerances(runner.precision),
            runner=runner,
            progress=partial(_named, progress, runner),
            device=plan.device,
        )
    except (EngineFailed, torch.OutOfMemoryError) as error:
        raise ExportFailed(
            f"{runner} did not answer while it was compared, so nothing was published: {error}"
        ) from error


def _named(progress: Progress, runner: Backend, stage: str, done: int, total: int) -> None:
    progress(f"{runner}: {stage}", done, total)

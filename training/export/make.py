"""`glad export`: a bundle's models for another engine, proven equal on this device before anything is published."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from glad.models import Models
from glad.schedule import NoiseSchedule, add_noise
from glad.score import at_side
from glad.settings import MethodSettings
from model_store.bundle import Bundle, open_bundle
from model_store.engines.exported import (
    EXPORT_NAME,
    PARITY_NAME,
    Export,
    ExportedPart,
    ExportShapes,
    Part,
    Precision,
    export_folder,
)
from model_store.engines.onnx import RuntimeOptions, load_onnx
from model_store.engines.torch import load_models
from model_store.files import hash_file, hidden_sibling, make_folder, sync_folder, write_file
from training.data import good_split
from training.export.component_parity import inputs
from training.export.onnx import export_onnx, shapes_of
from training.export.parity import Parity, compare
from training.export.parity_page import Compared, verdict, write_page
from training.export.tolerances import Tolerances, tolerances_for
from training.probes import Probe, make_probes
from training.progress import Progress
from training.recalibrate import recipe_of
from training.squares import of_one_square

CALIBRATION_SAMPLES = 16
"""Inputs of each model by which int8 finds its ranges."""
STEPS_OF_SAMPLES = 5


@dataclass(frozen=True)
class Plan:
    """What to export, and how it is to be shown equal."""

    precisions: tuple[Precision, ...]
    images: int = 20
    """Good images for the parity; a synthetic anomaly is made of each."""
    tolerance: tuple[str, ...] = ()
    """NAME=VALUE, laid over the defaults of each precision."""
    device: str = "cpu"
    seed: int = 0

    def tolerances(self, precision: Precision) -> Tolerances:
        """What is allowed at a precision. ValueError for a name that does not exist."""
        return tolerances_for(precision).changed(self.tolerance)


@dataclass(frozen=True)
class Made:
    """What an export came to."""

    folder: Path | None
    """Where it was published; None: it did not pass, and nothing was."""
    parities: tuple[Parity, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything over tolerance."""
        return tuple(f"{parity.precision}: {problem}" for parity in self.parities for problem in parity.problems)

    @property
    def told(self) -> tuple[str, ...]:
        """Each precision's outcome in a sentence."""
        return tuple(verdict(parity, compared(parity)) for parity in self.parities)


def make_onnx(
    folder: Path, data: Path, report: Path, plan: Plan, *, command: str, progress: Progress, say: Callable[[str], None]
) -> Made:
    """Export a bundle to ONNX, compare it with its own weights, and publish it in the bundle's folder if it is equal.

    folder: the bundle's; data: good images, see `training.data`; report: where parity.json and its pages go, passed or
    not. BundleError, DataError, ExportFailed, EngineUnusable, ValueError; a bundle's older export stays until then.
    """
    allowed = {precision: plan.tolerances(precision) for precision in plan.precisions}
    bundle = open_bundle(folder)
    recipe, synthesis, seed = recipe_of(bundle.manifest.provenance)
    split = good_split(data, recipe.holdout, seed)
    settings = of_one_square(bundle.manifest.settings)
    reference = load_models(bundle)
    shapes = shapes_of(reference, bundle.manifest.settings)
    make_folder(report)
    target = export_folder(bundle.path, "onnx")
    make_folder(target.parent)
    with tempfile.TemporaryDirectory() as scratch:
        probes = make_probes(split.calibration[: plan.images], settings, synthesis, Path(scratch), seed=plan.seed)
        temporary = hidden_sibling(target)
        temporary.mkdir()
        try:
            learnt = partial(samples, reference, settings, probes)
            parts = export_onnx(reference, shapes, temporary, plan.precisions, samples=learnt, say=say)
            parities = _proven(
                bundle,
                reference,
                temporary,
                parts,
                shapes,
                probes=probes,
                allowed=allowed,
                plan=plan,
                progress=progress,
            )
            _write_report(parities, report)
            if any(parity.problems for parity in parities):
                return Made(None, parities)
            _finish(bundle, temporary, parts, shapes, parities, report=report, command=command)
            _replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Made(target, parities)


def samples(
    models: Models, settings: MethodSettings, probes: Sequence[Probe], part: Part
) -> tuple[Mapping[str, Tensor], ...]:
    """Inputs of a model as inference gives them: good images, their latents, and these noised to several steps."""
    good = [probe for probe in probes if not probe.defective][:CALIBRATION_SAMPLES]
    images = list(torch.split(inputs(models, settings, good, "cpu")[0], 1))
    if part == "scoring_features":
        images = [at_side(image, settings.scoring_side) for image in images]
    if part in {"encoder", "features", "scoring_features"}:
        return tuple({"images": image} for image in images)
    latents = [models.autoencoder.encode(image) for image in images]
    if part == "decoder":
        return tuple({"latents": latent} for latent in latents)
    schedule = NoiseSchedule.from_settings(settings.schedule)
    told = {} if models.condition is None else {"conditions": models.condition.product.cpu()[None]}
    made = []
    for number, latent in enumerate(latents):
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(number))
        for share in range(STEPS_OF_SAMPLES):
            step = torch.tensor([max(1, settings.start * (share + 1) // STEPS_OF_SAMPLES - 1)])
            made.append({"latents": add_noise(latent, noise, step, schedule), "timesteps": step, **told})
    return tuple(made)


def _proven(
    bundle: Bundle,
    loaded: Models,
    folder: Path,
    parts: Sequence[ExportedPart],
    shapes: ExportShapes,
    *,
    probes: Sequence[Probe],
    allowed: Mapping[Precision, Tolerances],
    plan: Plan,
    progress: Progress,
) -> tuple[Parity, ...]:
    reference = loaded if plan.device == "cpu" else load_models(bundle, plan.device)
    kind = torch.device(plan.device).type
    found = []
    for precision, tolerances in allowed.items():
        files = {part.part: folder / part.file for part in parts if part.precision == precision}
        options = RuntimeOptions(plan.device, "cuda" if kind == "cuda" else "cpu")
        candidate = load_onnx(files, shapes, options, reference.condition)
        found.append(
            compare(
                reference,
                candidate,
                bundle.manifest,
                probes,
                tolerances,
                precision=precision,
                progress=partial(_named, progress, precision),
                device=plan.device,
            )
        )
    return tuple(found)


def _named(progress: Progress, precision: Precision, stage: str, done: int, total: int) -> None:
    progress(f"{precision}: {stage}", done, total)


def _write_report(parities: Sequence[Parity], folder: Path) -> None:
    """parity.json over all precisions, and a page of each; what an earlier run wrote there is replaced."""
    content = json.dumps([parity.as_json() for parity in parities], indent=2) + "\n"
    (folder / PARITY_NAME).write_text(content, encoding="utf-8")
    for parity in parities:
        write_page(parity, compared(parity), folder / page_name(parity.precision))


def compared(parity: Parity) -> Compared:
    """What stood against each other."""
    return Compared("PyTorch", f"ONNX Runtime, {parity.device}", software())


def software() -> dict[str, str]:
    """Versions of what makes and runs an export."""
    return {name: version(name) for name in ("glad-inspect", "torch", "onnx", "onnxruntime")}


def page_name(precision: Precision) -> str:
    """The page of one precision's parity."""
    return f"parity.{precision}.html"


def _finish(
    bundle: Bundle,
    folder: Path,
    parts: tuple[ExportedPart, ...],
    shapes: ExportShapes,
    parities: Sequence[Parity],
    *,
    report: Path,
    command: str,
) -> None:
    """Lays the proof and the manifest beside the files, which makes them an export."""
    for name in (PARITY_NAME, *(page_name(parity.precision) for parity in parities)):
        write_file(folder / name, (report / name).read_bytes())
    manifest = Export(
        engine="onnx",
        bundle=bundle.hash,
        product=bundle.manifest.product,
        version=bundle.manifest.version,
        command=command,
        shapes=shapes,
        parts=parts,
        proofs=tuple(parity.proof for parity in parities),
        parity=hash_file(folder / PARITY_NAME),
        software=software(),
    )
    write_file(folder / EXPORT_NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
    sync_folder(folder)


def _replace(made: Path, target: Path) -> None:
    """Puts the new export in the older one's place; whoever opened that one keeps its files until he closes them."""
    old = hidden_sibling(target)
    if target.exists():
        os.rename(target, old)
    os.rename(made, target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)

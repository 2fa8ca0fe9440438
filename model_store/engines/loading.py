"""One door to a bundle's models: by bundle, device and setting, from whichever engine may serve them there.

`auto` takes the fastest engine that is proven on this device, in the order of `BACKEND_ORDER` where nobody measures; an
engine that cannot be used is passed over, and the reason is kept to be told. A named engine is taken or refused, never
replaced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch

from glad.protocols import Models
from model_store.bundle import Bundle
from model_store.engines.backends import BACKEND_ORDER, Backend, FindGpu, open_files, refuse_unproven
from model_store.engines.engine_spec import AUTO, EngineSpec
from model_store.engines.export_manifest import EngineUnusable, ExportEngine, OpenExport, open_export
from model_store.engines.tensorrt import gpu_identity
from model_store.engines.torch import component_hashes, load_models
from model_store.engines.torch_io import load_condition
from model_store.manifest import REQUIRED_COMPONENTS, ComponentName


@dataclass(frozen=True)
class LoadedModels:
    """Models ready to run, and how they came to be chosen."""

    models: Models
    engine: str
    """What runs them, such as onnx-cpu-float32, or autoencoder, unet and features apart."""
    identities: Mapping[ComponentName, str]
    """Per component, what it is and what runs it: equal identities answer equally, whatever product they serve."""
    passed_over: tuple[str, ...] = ()
    """Engines that could have come first, each with the reason why it did not."""
    seconds: Mapping[str, float] | None = None
    """Measured time of one image per engine; None where nothing was measured."""


Measure = Callable[[Models], float]
"""Seconds that one image takes: see `model_store.engines.timing.seconds_per_image`."""


def load(
    bundle: Bundle,
    device: str = "cpu",
    wanted: EngineSpec | None = None,
    *,
    measure: Measure | None = None,
) -> LoadedModels:
    """A bundle's models from the engine that is wanted, or from the best one.

    measure: compare all usable engines by it instead of taking the first in `BACKEND_ORDER`.
    EngineUnusable if a named engine cannot serve; ModelLoadError, ModelsDoNotFit from torch.
    """
    wanted = wanted or EngineSpec()
    main = _load(bundle, device, wanted.engine, measure)
    others = {name: _load(bundle, device, engine, None) for name, engine in wanted.components}
    if not others:
        return main
    sources = {name: others.get(name, main) for name in REQUIRED_COMPONENTS}
    return replace(
        main,
        models=Models(
            sources["autoencoder"].models.autoencoder,
            sources["unet"].models.denoiser,
            sources["features"].models.features,
            main.models.condition,
        ),
        engine=", ".join(f"{name}: {source.engine}" for name, source in sources.items()),
        identities={name: source.identities[name] for name, source in sources.items()},
    )


def _load(bundle: Bundle, device: str, engine: str, measure: Measure | None) -> LoadedModels:
    kind = torch.device(device).type
    runners = [
        runner for runner in BACKEND_ORDER.get(kind, (Backend("torch"),)) if engine in {AUTO, runner.requested_as}
    ]
    # Once: it hashes gigabytes at full size.
    exported = cache(lambda kind: open_export(bundle.path, bundle.hash, kind, bundle.keys))
    refused: list[str] = []
    usable: list[LoadedModels] = []
    for runner in runners:
        if usable and measure is None:
            break
        try:
            usable.append(load_backend(bundle, device, runner, exported))
        except EngineUnusable as error:
            refused.append(f"{runner}: {error}")
    if not usable:
        told = "; ".join(refused) or f"{engine} does not run on {kind}"
        raise EngineUnusable(f"GLAD_ENGINE is {engine!r}, and nothing of it can be used: {told}")
    if len(usable) == 1 or measure is None:
        return replace(usable[0], passed_over=tuple(refused))
    timed = {one.engine: measure(one.models) for one in usable}
    best = min(usable, key=lambda one: timed[one.engine])
    slower = (f"{name}: slower, {spent * 1e3:.0f} ms an image" for name, spent in timed.items() if name != best.engine)
    return replace(best, passed_over=(*refused, *slower), seconds=timed)


def load_backend(
    bundle: Bundle,
    device: str,
    runner: Backend,
    exported: Callable[[ExportEngine], OpenExport],
    find_gpu: FindGpu = gpu_identity,
) -> LoadedModels:
    """A bundle's models run in one way, from its own weights or from the verified export that `exported` opens.

    EngineUnusable if it is not proven, or cannot be loaded here; ModelLoadError, ModelsDoNotFit from torch.
    """
    if runner.engine == "torch":
        identities = {name: f"{runner} {hash_}" for name, hash_ in component_hashes(bundle).items()}
        return LoadedModels(load_models(bundle, device), str(runner), identities)
    export = exported(runner.engine)
    refuse_unproven(export, runner, device, find_gpu)
    told = "condition" in bundle.manifest.components
    condition = load_condition(bundle.component("condition"), device) if told else None
    files = export.files(runner.precision)
    models = open_files(runner, files, export.manifest.shapes, device, condition, find_gpu=find_gpu)
    return LoadedModels(models, str(runner), dict(_identities(export, runner)))


def _identities(export: OpenExport, runner: Backend) -> Iterator[tuple[ComponentName, str]]:
    parts = export.manifest.at(runner.precision)
    shares: Mapping[ComponentName, tuple[str, ...]] = {
        "autoencoder": ("encoder", "decoder"),
        "unet": ("unet",),
        "features": ("features", "scoring_features"),
    }
    for component, names in shares.items():
        files = [parts[name].files for name in parts if name in names]
        entries = sorted(f"{file} {entry.sha256}" for one in files for file, entry in one.items())
        yield component, f"{runner} {hashlib.sha256(' '.join(entries).encode()).hexdigest()}"


def choose_device(wanted: str) -> str:
    """`auto` is a GPU if there is one. ValueError for a device that is not there."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise ValueError(f"GLAD_DEVICE is {wanted!r}, which cannot be used ({first_line}): use auto or cpu") from error
    return wanted


def device_of_environment() -> str:
    """The device that GLAD_DEVICE names, `auto` without it. ValueError as in `choose_device`."""
    return choose_device(os.environ.get("GLAD_DEVICE", "auto"))

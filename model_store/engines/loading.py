"""Load a bundle's models: by bundle, device and setting, on whichever engine may serve them there.

`auto` takes the fastest engine that is proven on this device, or the first of `BACKEND_ORDER` where nothing is
measured; TensorRT's own engines serve only where they are named. An engine that cannot be used is passed over, and the
reason is kept. A named engine is used or refused, never replaced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch

from glad.models import ComponentModels, Models, PixelModels
from model_store.bundle import Bundle
from model_store.engines.backends import BACKEND_ORDER, Backend, FindGpu, check_proven, open_files
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.export_manifest import EngineUnusable, ExportEngine, OpenExport, open_export
from model_store.engines.tensorrt import gpu_identity
from model_store.engines.torch import component_hashes, load_models
from model_store.engines.torch_io import load_condition
from model_store.manifest import FORM_COMPONENTS, ComponentName, Form

Measure = Callable[[ComponentModels], float]
"""Returns the seconds that one image takes: see `model_store.engines.timing.seconds_per_image`."""

LOADERS: Mapping[Form, Callable[[Bundle, str], ComponentModels]] = {Form.PIXEL: load_models}
"""Loads a bundle's own weights onto a device, by the form that its components make: `model_store.manifest.form_of`."""


@dataclass(frozen=True)
class LoadedModels:
    """Models ready to run, and how they came to be chosen."""

    parts: ComponentModels
    """The networks one by one, in the bundle's form."""
    engine: str
    """The backend that runs them, such as onnx-cpu-float32, or those of the components apart."""
    identities: Mapping[str, str]
    """Per component its weights and its backend, as one text: components of equal identity answer equally, whatever
    product they serve."""
    passed_over: tuple[str, ...] = ()
    """Backends that come earlier in the order or could have been faster, each with the reason why it was not used."""
    seconds: Mapping[str, float] | None = None
    """Measured time of one image per backend; None where nothing was measured."""

    @cached_property
    def models(self) -> Models:
        """What the lane engine runs on."""
        return self.parts.assemble()


def choose_device(name: str) -> str:
    """Return the device that GLAD_DEVICE names; `auto` is a GPU if there is one.

    Raises:
        ValueError: if this device is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise ValueError(f"GLAD_DEVICE is {name!r}, which cannot be used ({first_line}): use auto or cpu") from error
    return name


def device_of_environment() -> str:
    """Return the device that GLAD_DEVICE names, `auto` without it.

    Raises:
        ValueError: as `choose_device`.
    """
    return choose_device(os.environ.get("GLAD_DEVICE", "auto"))


def load(
    bundle: Bundle,
    device: str = "cpu",
    spec: EngineSpec | None = None,
    *,
    measure: Measure | None = None,
) -> LoadedModels:
    """Return a bundle's models on the engine that is asked for, or on the best one.

    Args:
        bundle: verified when it was opened.
        device: cpu, cuda or cuda:N.
        spec: what GLAD_ENGINE says; None: `auto`.
        measure: compare all usable backends by it, instead of taking the first of `BACKEND_ORDER`.

    Raises:
        EngineUnusable: if the named engine cannot serve.
        ModelLoadError: if the bundle's own weights do not load.
        ModelsDoNotFit: if they fit neither each other nor the settings.
    """
    spec = spec or EngineSpec()
    main = _load(bundle, device, spec.engine, measure)
    needed = FORM_COMPONENTS[bundle.manifest.form]
    others = {name: _load(bundle, device, engine, None) for name, engine in spec.components if name in needed}
    if not others:
        return main
    sources = {name: others.get(name, main) for name in needed}
    return replace(
        main,
        parts=main.parts.with_components({name: source.parts.components[name] for name, source in sources.items()}),
        engine=", ".join(f"{name}: {source.engine}" for name, source in sources.items()),
        identities={name: source.identities[name] for name, source in sources.items()},
    )


def pixel_models(parts: ComponentModels) -> PixelModels:
    """Return the networks of the pixel form, for what works on them one by one.

    Raises:
        EngineUnusable: if they are of another form.
    """
    if not isinstance(parts, PixelModels):
        raise EngineUnusable(
            f"the models are {type(parts).__name__}, made of {', '.join(parts.components)}; this works on the pixel "
            f"form only, made of {', '.join(FORM_COMPONENTS[Form.PIXEL])}: give a bundle of that form"
        )
    return parts


def _load(bundle: Bundle, device: str, engine: str, measure: Measure | None) -> LoadedModels:
    kind = torch.device(device).type
    backends = [backend for backend in BACKEND_ORDER.get(kind, (Backend("torch"),)) if backend.serves(engine)]
    # Opened once per engine: opening hashes every file, gigabytes at full size.
    exported = cache(lambda kind: open_export(bundle.path, bundle.hash, kind, bundle.keys))
    refused: list[str] = []
    usable: list[LoadedModels] = []
    for backend in backends:
        if usable and measure is None:
            break
        try:
            usable.append(load_backend(bundle, device, backend, exported))
        except EngineUnusable as error:
            refused.append(f"{backend}: {error}")
    if not usable:
        reasons = "; ".join(refused) or f"{engine} does not run on {kind}"
        raise EngineUnusable(f"GLAD_ENGINE is {engine!r}, and nothing of it can be used: {reasons}")
    if len(usable) == 1 or measure is None:
        return replace(usable[0], passed_over=tuple(refused))
    seconds = {loaded.engine: measure(loaded.parts) for loaded in usable}
    best = min(usable, key=lambda loaded: seconds[loaded.engine])
    slower = (
        f"{name}: slower, {spent * 1e3:.0f} ms an image" for name, spent in seconds.items() if name != best.engine
    )
    return replace(best, passed_over=(*refused, *slower), seconds=seconds)


def load_backend(
    bundle: Bundle,
    device: str,
    backend: Backend,
    exported: Callable[[ExportEngine], OpenExport],
    find_gpu: FindGpu = gpu_identity,
) -> LoadedModels:
    """Return a bundle's models run by one backend, from its own weights or from its export.

    Args:
        bundle: verified when it was opened.
        device: cpu, cuda or cuda:N.
        backend: the way to run them.
        exported: opens and verifies the bundle's export for an engine.
        find_gpu: finds TensorRT and the GPU.

    Raises:
        EngineUnusable: if the backend is not proven, or cannot be loaded here.
        ModelLoadError: if the bundle's own weights do not load.
        ModelsDoNotFit: if they fit neither each other nor the settings.
    """
    if backend.engine == "torch":
        identities: dict[str, str] = {name: f"{backend} {hash_}" for name, hash_ in component_hashes(bundle).items()}
        return LoadedModels(LOADERS[bundle.manifest.form](bundle, device), str(backend), identities)
    export = exported(backend.engine)
    check_proven(export, backend, device, find_gpu)
    conditioned = "condition" in bundle.manifest.components
    condition = load_condition(bundle.component("condition"), device) if conditioned else None
    files = export.files(backend.precision)
    parts = open_files(backend, files, export.manifest.shapes, device, condition, find_gpu=find_gpu)
    return LoadedModels(parts, str(backend), dict(_identities(export, backend)))


def _identities(export: OpenExport, backend: Backend) -> Iterator[tuple[ComponentName, str]]:
    """Yield each component with the hash of its exported files."""
    parts = export.manifest.at(backend.precision)
    shares: Mapping[ComponentName, tuple[str, ...]] = {
        "autoencoder": ("encoder", "decoder"),
        "unet": ("unet",),
        "features": ("features", "scoring_features"),
    }
    for component, names in shares.items():
        files = [parts[name].files for name in parts if name in names]
        entries = sorted(f"{file} {entry.sha256}" for one in files for file, entry in one.items())
        yield component, f"{backend} {hashlib.sha256(' '.join(entries).encode()).hexdigest()}"

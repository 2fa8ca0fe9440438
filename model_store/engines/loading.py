"""Load a bundle's models: by bundle, device and setting, on whichever engine may serve them there.

`auto` takes the fastest engine that is proven on this device, or the first of `BACKEND_ORDER` where nothing is
measured; TensorRT's own engines serve only where they are named. An engine that cannot be used is passed over, and the
reason is kept. A named engine is used or refused, never replaced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import torch

from glad.models import ComponentModels, Models
from model_store.bundle import Bundle
from model_store.engines.backends import BACKEND_ORDER, Backend, FindGpu, check_proven, open_files, reads_copies
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.export_manifest import (
    EngineUnusable,
    ExportEngine,
    ExportShapes,
    FeatureShapes,
    OpenExport,
    PixelShapes,
    exported_components,
    open_export,
)
from model_store.engines.feature_form import feature_models_around, load_feature_models
from model_store.engines.tensorrt import gpu_identity
from model_store.engines.torch import component_hashes, load_models, pixel_models_around
from model_store.manifest import FORM_COMPONENTS, ComponentName, Form

Measure = Callable[[ComponentModels], float]
"""Returns the seconds that one image takes: see `model_store.engines.timing.seconds_per_image`."""

LOADERS: Mapping[Form, Callable[[Bundle, str], ComponentModels]] = {
    Form.PIXEL: load_models,
    Form.FEATURE: load_feature_models,
}
"""Loads a bundle's own weights onto a device, by the form that its components make: `model_store.manifest.form_of`."""


def load_own_models(bundle: Bundle, device: str = "cpu") -> ComponentModels:
    """Return a bundle's own weights on a device, by PyTorch, in the form that its components make.

    Raises:
        ModelLoadError: if a component does not load.
        ModelsDoNotFit: if the models fit neither each other nor the settings.
    """
    return LOADERS[bundle.manifest.form](bundle, device)


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


def _load(bundle: Bundle, device: str, engine: str, measure: Measure | None) -> LoadedModels:
    kind = torch.device(device).type
    backends = [backend for backend in BACKEND_ORDER.get(kind, (Backend("torch"),)) if backend.serves(engine)]
    # Opened once per engine: opening hashes every file, gigabytes at full size.
    exported = cache(lambda kind: open_export(bundle.path, bundle.hash, kind, bundle.keys))
    own = cache(lambda: load_own_models(bundle, device))
    refused: list[str] = []
    usable: list[LoadedModels] = []
    for backend in backends:
        if usable and measure is None:
            break
        try:
            usable.append(load_backend(bundle, device, backend, exported, own=own))
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
    *,
    own: Callable[[], ComponentModels] | None = None,
) -> LoadedModels:
    """Return a bundle's models run by one backend, from its own weights or from its export.

    Args:
        bundle: verified when it was opened.
        device: cpu, cuda or cuda:N.
        backend: the way to run them.
        exported: opens and verifies the bundle's export for an engine.
        find_gpu: finds TensorRT and the GPU.
        own: returns the bundle's own models, if they are loaded already; None: they are loaded where they are needed.

    Raises:
        EngineUnusable: if the backend is not proven, or cannot be loaded here.
        ModelLoadError: if the bundle's own weights do not load.
        ModelsDoNotFit: if they fit neither each other nor the settings.
    """
    own = own or cache(partial(load_own_models, bundle, device))
    if backend.engine == "torch":
        return LoadedModels(own(), str(backend), _own_identities(bundle, component_hashes(bundle)))
    export = exported(backend.engine)
    check_proven(export, backend, device, find_gpu)
    shapes = export.manifest.shapes
    with export.verified(backend.precision, on_disk=not reads_copies(backend)) as files:
        networks = open_files(backend, files, shapes, device, find_gpu=find_gpu)
    beside = [name for name in FORM_COMPONENTS[bundle.manifest.form] if name not in networks]
    identities = {**_own_identities(bundle, beside), **_exported_identities(export, backend)}
    left = [name for name in shapes.component_parts if name not in networks]
    if not left:
        return LoadedModels(_around(networks, shapes, bundle, device), str(backend), identities)
    engines = [*(f"{name}: {backend}" for name in networks), *(f"{name}: {Backend('torch')}" for name in left)]
    parts = own().with_components({**own().components, **networks})
    return LoadedModels(parts, ", ".join(engines), identities)


def _around(networks: Mapping[str, Any], shapes: ExportShapes, bundle: Bundle, device: str) -> ComponentModels:
    """Return the models of exported networks: what else belongs to their form is the bundle's own, on PyTorch."""
    match shapes:
        case PixelShapes():
            return pixel_models_around(networks, bundle, device)
        case FeatureShapes():
            return feature_models_around(networks, bundle, device, fold=shapes.fold)


def _own_identities(bundle: Bundle, components: Iterable[ComponentName]) -> dict[str, str]:
    """Return each of these components with the hash of its own weights, which PyTorch runs."""
    hashes, backend = component_hashes(bundle), Backend("torch")
    return {name: f"{backend} {hashes[name]}" for name in components}


def _exported_identities(export: OpenExport, backend: Backend) -> dict[str, str]:
    """Return each exported component with the hash of its files."""
    parts = export.manifest.at(backend.precision)
    identities: dict[str, str] = {}
    for component in exported_components(parts, export.manifest.shapes):
        names = export.manifest.shapes.component_parts[component]
        entries = sorted(f"{file} {entry.sha256}" for name in names for file, entry in parts[name].files.items())
        identities[component] = f"{backend} {hashlib.sha256(' '.join(entries).encode()).hexdigest()}"
    return identities

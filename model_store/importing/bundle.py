"""Import published models: checked against each other and the settings, they become a bundle to calibrate."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import nn
from transformers import ViTModel

from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, BundleParts, ComponentSource, write_bundle
from model_store.checkpoints import ImportRefused, checkpoint_file
from model_store.engines.torch import models_from_modules, save_components
from model_store.engines.torch_io import save_condition
from model_store.files import hash_file, make_folder
from model_store.importing.base import Base, autoencoder_of, check_schedule, empty_models, features_of, unet_of
from model_store.importing.prompt import Embedded, embed_prompt
from model_store.manifest import ComponentName, Dtype, Provenance
from model_store.pretrained import DTYPES, round_to_stored_precision

STAGES = ("prompt", "autoencoder", "unet", "features", "saving", "bundle")
"""The stages of an import, in order."""

Say = Callable[[str], None]
"""Called with the stage that begins."""


@dataclass(frozen=True)
class Origins:
    """The sources of the models; a checkpoint replaces the base's weights."""

    base: str
    """Stable Diffusion 1.x: a folder or a hub id."""
    dino: str
    """DINO's ViT: a folder or a hub id."""
    unet: Path | None = None
    vae: Path | None = None
    features: Path | None = None


@dataclass(frozen=True)
class ImportSpec:
    """The bundle that is made."""

    product: str
    version: str
    settings: MethodSettings
    prompt: str
    licence: str
    title: str = ""
    dtype: Dtype = "float16"


@dataclass(frozen=True, eq=False)
class Parts:
    """The models, as they will be stored."""

    autoencoder: AutoencoderKL | AutoencoderTiny
    unet: UNet2DConditionModel
    features: ViTModel
    embedded: Embedded


def import_bundle(target: Path, origins: Origins, spec: ImportSpec, *, command: str, say: Say) -> Bundle:
    """Write the bundle, without thresholds, to `target`, and return it; call `say` as each of STAGES begins.

    Until it is done its files lie beside `target`, so twice the bundle's size is needed.

    Raises:
        ImportRefused: if a part does not load.
        ModelsDoNotFit: if the parts fit neither each other nor the settings.
        BundleError: as `write_bundle`.
    """
    parts = _parts(origins, spec, say)
    say("saving")
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=target.parent) as folder:
        sources = _saved(parts, Path(folder), spec)
        say("bundle")
        about = BundleParts(
            spec.product,
            spec.version,
            spec.settings,
            None,
            _provenance(origins, spec, command),
            title=spec.title,
        )
        return write_bundle(target, about, sources)


def import_components(
    folder: Path, origins: Origins, spec: ImportSpec, *, say: Say
) -> dict[ComponentName, ComponentSource]:
    """Save the models and the condition under `folder` as a bundle stores them, and return them as its sources.

    Raises:
        ImportRefused, ModelsDoNotFit: as `import_bundle`.
    """
    parts = _parts(origins, spec, say)
    say("saving")
    return _saved(parts, folder, spec)


def check_origins(origins: Origins, settings: MethodSettings, prompt: str) -> Embedded:
    """Check by their configurations that the models fit each other and the settings, and return the embedded prompt.

    Raises:
        ImportRefused, ModelsDoNotFit: as `import_bundle`.
    """
    base = Base(origins.base)
    check_schedule(base, settings.schedule)
    embedded = embed_prompt(base, prompt)
    models_from_modules(*empty_models(base, Base(origins.dino)), settings, embedded.condition)
    return embedded


def _parts(origins: Origins, spec: ImportSpec, say: Say) -> Parts:
    base = Base(origins.base)
    check_schedule(base, spec.settings.schedule)
    say("prompt")
    embedded = embed_prompt(base, spec.prompt)
    say("autoencoder")
    autoencoder = _rounded(autoencoder_of(base, origins.vae), spec.dtype)
    say("unet")
    unet = _rounded(unet_of(base, origins.unet), spec.dtype)
    say("features")
    features = _rounded(features_of(Base(origins.dino), origins.features), spec.dtype)
    models_from_modules(autoencoder, unet, features, spec.settings, embedded.condition)
    return Parts(autoencoder, unet, features, embedded)


def _rounded(module: Any, dtype: Dtype) -> Any:
    """Return a module in the stored precision.

    Done before the next part is read: it halves the memory, and a weight beyond the precision shows early.
    """
    try:
        round_to_stored_precision(module, dtype)
    except ValueError as error:
        raise ImportRefused(f"{type(module).__name__}: {error} (--dtype)") from error
    return nn.Module.to(module, dtype=DTYPES[dtype])


def _saved(parts: Parts, folder: Path, spec: ImportSpec) -> dict[ComponentName, ComponentSource]:
    licence = spec.licence
    modules = save_components(folder, parts.autoencoder, parts.unet, parts.features, licence=licence, dtype=spec.dtype)
    embedded = parts.embedded
    return {
        **modules,
        "condition": save_condition(embedded.condition, folder / "condition", embedded.about, licence=licence),
    }


def _provenance(origins: Origins, spec: ImportSpec, command: str) -> Provenance:
    given = {"unet": origins.unet, "vae": origins.vae, "features": origins.features}
    checkpoints = {part: _identity(path) for part, path in given.items() if path is not None}
    names = ("glad-inspect", "torch", "diffusers", "transformers", "safetensors")
    return Provenance(
        created_at=datetime.now(UTC).replace(microsecond=0),
        command=command,
        recipe={"base": origins.base, "dino": origins.dino, "prompt": spec.prompt, "checkpoints": checkpoints},
        data={},
        software={"python": platform.python_version(), **{name: version(name) for name in names}},
        seed=0,
    )


def _identity(path: Path) -> dict[str, str]:
    file = checkpoint_file(path)
    return {"file": file.name, "sha256": hash_file(file).sha256}

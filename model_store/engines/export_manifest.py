"""The export of a bundle for an engine: a folder `engines/<engine>/` in it, with a manifest of its own. No torch.

A bundle never changes after it was published, and its hash stands for its weights and settings, whatever runs them. An
export is what one engine makes of that bundle: it can be added, made again for another device, or be removed, and the
bundle stays the same one. `export.json` names the bundle by its hash and every file by SHA-256, and is written only
after the export has proved equal (parity.json); an engine that does not verify is refused with a reason and a command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from glad.settings import Frozen
from glad.settings.method import MethodSettings
from model_store.errors import NotSigned
from model_store.files import hash_file
from model_store.manifest import EXPORTS, FileEntry, Sha256
from model_store.signing import NO_KEYS, TrustedKeys

ExportEngine = Literal["onnx", "tensorrt"]
Part = Literal["encoder", "unet", "decoder", "features", "scoring_features"]
Precision = Literal["float32", "float16", "bfloat16", "int8"]

EXPORT_NAME = "export.json"
PARITY_NAME = "parity.json"
PARTS: tuple[Part, ...] = ("encoder", "unet", "decoder", "features", "scoring_features")


class EngineUnusable(ValueError):
    """The engine cannot serve this bundle here: absent, foreign, broken or unproven. The message says what to do."""


class EngineFailed(RuntimeError):
    """The engine was loaded, and then could not answer a call."""


class ExportedPart(Frozen):
    """One model as one engine runs it."""

    part: Part
    precision: Precision
    file: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    files: dict[str, FileEntry] = Field(min_length=1, description="`file`, and external data where there is any")

    @model_validator(mode="after")
    def _file_named(self) -> Self:
        if self.file not in self.files:
            raise ValueError(f"file {self.file!r} has no entry in files")
        return self


class ExportShapes(Frozen):
    """The sizes of the models, which an engine's file does not say."""

    latent_channels: int = Field(ge=1)
    factor: int = Field(ge=1, description="pixels per latent element on a side")
    patch: int = Field(ge=1, description="pixels per patch on a side")
    depth: int = Field(ge=1, description="blocks of the extractor")
    resolution: int = Field(ge=1)
    scoring_side: int = Field(ge=1)
    layers: tuple[int, ...] = Field(min_length=1)
    conditioned: bool = Field(description="the UNet takes embedded prompts")


class Proof(Frozen):
    """The proof that one precision of the export answers as the bundle's own weights do."""

    runner: str = Field(description="what was compared, such as onnx-cuda-float16; nothing else may use it")
    precision: Precision
    passed: bool
    images: int = Field(ge=0)
    verdict_flips: int = Field(ge=0)
    largest_score_difference: float = Field(ge=0)


class Export(Frozen):
    """The whole of `export.json`."""

    format: Literal[1] = 1
    engine: ExportEngine
    bundle: Sha256
    product: str
    version: str
    command: str
    shapes: ExportShapes
    parts: tuple[ExportedPart, ...]
    proofs: tuple[Proof, ...]
    parity: FileEntry = Field(description="the report, parity.json")
    software: dict[str, str]
    device: str | None = Field(None, description="TensorRT: the only device that these files run on")

    def at(self, precision: Precision) -> dict[Part, ExportedPart]:
        """Return the parts of one precision."""
        return {part.part: part for part in self.parts if part.precision == precision}

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Return the precisions that have passed, in the order in which they were made."""
        return tuple(dict.fromkeys(proof.precision for proof in self.proofs if proof.passed))


@dataclass(frozen=True)
class OpenExport:
    """An export whose every file was verified when it was opened."""

    folder: Path
    manifest: Export

    def files(self, precision: Precision) -> dict[Part, Path]:
        """Return the paths of the parts of a precision.

        Raises:
            EngineUnusable: if it was not exported, or has not passed.
        """
        if precision not in self.manifest.precisions:
            has = ", ".join(self.manifest.precisions) or "none"
            raise EngineUnusable(f"{self.folder} holds no proven {precision} (proven: {has}): {remake(self.manifest)}")
        return {part: self.folder / one.file for part, one in self.manifest.at(precision).items()}


def export_folder(bundle: Path, engine: ExportEngine) -> Path:
    """Return the folder of a bundle's export for an engine."""
    return bundle / EXPORTS / engine


def remake(export: Export) -> str:
    """Return the advice for an export that cannot be used."""
    return f"make it again with `glad export BUNDLE --to {export.engine} --data DIR`"


def shapes_for(settings: MethodSettings, **models: int | bool) -> ExportShapes:
    """Return the shapes of an export under a bundle's settings; `models`: the fields that the models themselves say."""
    return ExportShapes(
        resolution=settings.resolution,
        scoring_side=settings.scoring_side,
        layers=tuple(sorted({*settings.score.layers, settings.trigger_layer})),
        **models,
    )


def open_export(bundle: Path, bundle_hash: str, engine: ExportEngine, keys: TrustedKeys = NO_KEYS) -> OpenExport:
    """Return a bundle's export for an engine, after verifying every file of it.

    Raises:
        EngineUnusable: if there is none, or it is another bundle's, broken, unproven, or not signed where signatures
            are needed.
    """
    folder = export_folder(bundle, engine)
    path = folder / EXPORT_NAME
    make = f"run `glad export {bundle} --to {engine} --data DIR`"
    if folder.is_symlink() or not path.is_file():
        raise EngineUnusable(f"{bundle} has no {engine} export: {make}")
    try:
        content = path.read_bytes()
        keys.check(path, content)
        manifest = Export.model_validate_json(content)
    except NotSigned as error:
        raise EngineUnusable(str(error)) from error
    except (ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise EngineUnusable(f"{path} is not the manifest of an export ({reason}): {make}") from error
    if problem := next(_problems(folder, manifest, bundle_hash, engine), None):
        raise EngineUnusable(f"{problem}: {make}")
    return OpenExport(folder, manifest)


def _problems(folder: Path, manifest: Export, bundle_hash: str, engine: ExportEngine) -> Iterator[str]:
    if manifest.engine != engine:
        yield f"{folder} holds an export for {manifest.engine}, not for {engine}"
    if manifest.bundle != bundle_hash:
        yield f"{folder} belongs to another bundle ({manifest.bundle[:12]}, this one is {bundle_hash[:12]})"
    if not manifest.precisions:
        yield f"{folder} has passed no parity"
    yield from _file_problems(folder, {PARITY_NAME: manifest.parity})
    for part in manifest.parts:
        yield from _file_problems(folder, part.files)


def _file_problems(folder: Path, files: Mapping[str, FileEntry]) -> Iterator[str]:
    for name, entry in files.items():
        path = folder / name
        try:
            entry_on_disk = hash_file(path)
        except OSError as error:
            yield f"{path} cannot be read ({error.strerror})"
            continue
        if entry_on_disk.bytes != entry.bytes:
            yield f"{path} has {entry_on_disk.bytes} bytes where {entry.bytes} were exported"
        elif entry_on_disk != entry:
            yield f"{path} is not what was exported (SHA-256 {entry_on_disk.sha256[:12]}, exported {entry.sha256[:12]})"

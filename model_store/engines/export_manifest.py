"""The export of a bundle for an engine: a folder `engines/<engine>/` in it, with a manifest of its own. No torch.

A bundle never changes after it was published, and its hash stands for its weights and settings, whatever runs them. An
export is what one engine makes of that bundle: it can be added, made again for another device, or be removed, and the
bundle stays the same one. `export.json` names the bundle by its hash and every file by SHA-256, and is written only
after the export has proved equal (parity.json); an engine that does not verify is refused with a reason and a command.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)

from glad.settings import Frozen
from model_store.errors import HashMismatch, NotSigned
from model_store.files import hash_file
from model_store.manifest import EXPORTS, ComponentName, FileEntry, Form, Sha256
from model_store.private_copy import verified_copies
from model_store.signing import NO_KEYS, TrustedKeys

ExportEngine = Literal["onnx", "tensorrt"]
Part = Literal["encoder", "unet", "decoder", "features", "scoring_features", "backbone"]
Precision = Literal["float32", "float16", "bfloat16", "int8"]

EXPORT_NAME = "export.json"
PARITY_NAME = "parity.json"
PARTS: tuple[Part, ...] = ("encoder", "unet", "decoder", "features", "scoring_features", "backbone")


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


class PixelShapes(Frozen):
    """The sizes of the pixel form's models, which an engine's file does not say."""

    latent_channels: int = Field(ge=1)
    factor: int = Field(ge=1, description="pixels per latent element on a side")
    patch: int = Field(ge=1, description="pixels per patch on a side")
    depth: int = Field(ge=1, description="blocks of the extractor")
    resolution: int = Field(ge=1)
    scoring_side: int = Field(ge=1)
    layers: tuple[int, ...] = Field(min_length=1)
    conditioned: bool = Field(description="the UNet takes embedded prompts")

    @property
    def form(self) -> Form:
        """Return the form of the models; the manifest of an export leaves out this one."""
        return Form.PIXEL

    @property
    def component_parts(self) -> Mapping[ComponentName, tuple[Part, ...]]:
        """Return the parts of each exported component: the score has its own features where its side differs."""
        scoring: tuple[Part, ...] = () if self.scoring_side == self.resolution else ("scoring_features",)
        return {"autoencoder": ("encoder", "decoder"), "unet": ("unet",), "features": ("features", *scoring)}


class FeatureShapes(Frozen):
    """The sizes of the feature form's networks.

    Only they are exported. Embedding, preconditioning, memory and comparator are computed by PyTorch, beside every
    engine: they are cheap, and must not differ between engines.
    """

    form: Literal[Form.FEATURE] = Form.FEATURE
    resolution: int = Field(ge=1)
    levels: tuple[int, ...] = Field(min_length=1, description="of the backbone, those that its file puts out")
    latent_channels: int = Field(ge=1)
    factor: int = Field(ge=1, description="pixels per latent element on a side")
    modelled: int = Field(ge=1, description="of the latent's channels, the first so many that the UNet sees")
    fold: int = Field(ge=1, description="places on a side that the UNet takes as one")

    @property
    def component_parts(self) -> Mapping[ComponentName, tuple[Part, ...]]:
        """Return the parts of each exported component."""
        return {"backbone": ("backbone",), "unet": ("unet",), "decoder": ("decoder",)}


def _form_of_shapes(shapes: Any) -> str:
    """Return the form that shapes name; those of the pixel form name none."""
    named = shapes.get("form", Form.PIXEL) if isinstance(shapes, dict) else getattr(shapes, "form", Form.PIXEL)
    return str(named)


ExportShapes: TypeAlias = Annotated[
    Annotated[PixelShapes, Tag(Form.PIXEL)] | Annotated[FeatureShapes, Tag(Form.FEATURE)],
    Discriminator(_form_of_shapes),
]
"""The sizes of the models, in the form that they have."""


def needed_parts(shapes: ExportShapes) -> tuple[Part, ...]:
    """Return the parts that the models of these shapes are made of."""
    needed = set(chain(*shapes.component_parts.values()))
    return tuple(part for part in PARTS if part in needed)


def exported_components(parts: Collection[Part], shapes: ExportShapes) -> tuple[ComponentName, ...]:
    """Return the components that these parts make; PyTorch runs the others.

    Raises:
        EngineUnusable: if there is none, or one of which a part is missing.
    """
    begun = {name: needed for name, needed in shapes.component_parts.items() if not set(parts).isdisjoint(needed)}
    if missing := sorted(set(chain(*(begun or shapes.component_parts).values())) - set(parts)):
        raise EngineUnusable(f"the export has no {', '.join(missing)}: export the bundle again")
    return tuple(begun)


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
    components: tuple[ComponentName, ...] = Field((), description="that were exported; (): all that the shapes name")
    parts: tuple[ExportedPart, ...]
    proofs: tuple[Proof, ...]
    parity: FileEntry = Field(description="the report, parity.json")
    software: dict[str, str]
    device: str | None = Field(None, description="TensorRT: the only device that these files run on")

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is the default: versions that do not know the field read the others' exports."""
        content: dict[str, Any] = serialize(self)
        return content if self.components else {name: value for name, value in content.items() if name != "components"}

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
            EngineUnusable: if it was not exported, or has not passed, or if a part is missing.
        """
        if precision not in self.manifest.precisions:
            has = ", ".join(self.manifest.precisions) or "none"
            raise EngineUnusable(f"{self.folder} holds no proven {precision} (proven: {has}): {remake(self.manifest)}")
        parts, shapes = self.manifest.at(precision), self.manifest.shapes
        promised = chain(*(shapes.component_parts[name] for name in self.manifest.components or shapes.component_parts))
        if missing := sorted(set(promised) - set(parts)):
            raise EngineUnusable(f"{self.folder}: the export has no {', '.join(missing)}: {remake(self.manifest)}")
        return {part: self.folder / one.file for part, one in parts.items()}

    @contextmanager
    def verified(self, precision: Precision, *, on_disk: bool = False) -> Iterator[dict[Part, Path]]:
        """Yield private copies of the parts of a precision, to load from: the bytes that were verified, no others.

        Args:
            precision: of the parts.
            on_disk: copy the files of a part that has several to disk, for a reader that resolves links itself.

        Raises:
            EngineUnusable: as `files`; or if a file is not what it was any more, or cannot be copied.
        """
        named = self.files(precision)
        with ExitStack() as copies:
            try:
                copied = {part: copies.enter_context(self._copies(part, precision, on_disk)) for part in named}
            except (HashMismatch, OSError) as error:
                raise EngineUnusable(f"{self.folder}: {error}: {remake(self.manifest)}") from error
            yield {part: folder / named[part].name for part, folder in copied.items()}

    def _copies(self, part: Part, precision: Precision, on_disk: bool) -> AbstractContextManager[Path]:
        files = self.manifest.at(precision)[part].files
        entries = {self.folder / name: entry for name, entry in files.items()}
        return verified_copies(entries, on_disk=on_disk and len(files) > 1)


def export_folder(bundle: Path, engine: ExportEngine) -> Path:
    """Return the folder of a bundle's export for an engine."""
    return bundle / EXPORTS / engine


def remake(export: Export) -> str:
    """Return the advice for an export that cannot be used."""
    return f"make it again with `glad export BUNDLE --to {export.engine} --data DIR`"


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

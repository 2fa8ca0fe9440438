"""A bundle on disk: written atomically, every hash verified, opened. Safetensors only, never pickle; no torch.

BundleError
 ├── BadManifest     manifest.json is absent, not JSON, of another format, or breaks a rule
 ├── MissingFile     the manifest names a file that is not there
 ├── UnknownFile     a file or folder is there that the manifest does not name
 ├── SymlinkFound    a link stands where a file or folder should
 ├── HashMismatch    a file's bytes are not the ones that were published
 ├── ForeignFormat   a file is neither a JSON configuration nor safetensors of the declared kind
 └── BundleExists    another bundle already has this product and version
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from glad.settings import MethodSettings
from model_store.files import hash_file, hidden_sibling, make_folder, sync_folder, write_file
from model_store.manifest import (
    Calibration,
    Component,
    ComponentName,
    Dtype,
    FileEntry,
    Kind,
    Manifest,
    Provenance,
    bundle_hash,
)
from model_store.sharing import Held, held_files, link_or_copy

MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.json"
MAX_JSON_BYTES = 8 << 20

WEIGHTS_NAME: Mapping[Kind, str] = {
    "autoencoder_kl": "diffusion_pytorch_model.safetensors",
    "unet2d": "diffusion_pytorch_model.safetensors",
    "unet2d_condition": "diffusion_pytorch_model.safetensors",
    "vit": "model.safetensors",
    "text_condition": "model.safetensors",
}
"""The one weights file of each kind, as `from_pretrained` looks for it."""

_TENSOR_DTYPES: Mapping[Dtype, str] = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_REPUBLISH = "restore the bundle from where it was published, or publish it again"


class BundleError(Exception):
    """A bundle that must not be used. Says which file, what was expected, what was found, and what to do."""

    def __init__(self, path: Path, *, expected: str, found: str, fix: str) -> None:
        self.path, self.expected, self.found, self.fix = path, expected, found, fix
        super().__init__(f"{path}: expected {expected}; found {found}. {fix[:1].upper()}{fix[1:]}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (type(self), self.path, self.expected, self.found, self.fix)


def _rebuild_error(kind: type[BundleError], path: Path, expected: str, found: str, fix: str) -> BundleError:
    return kind(path, expected=expected, found=found, fix=fix)


class BadManifest(BundleError):
    """manifest.json is absent, not JSON, of another format, or breaks a rule."""


class MissingFile(BundleError):
    """The manifest names a file that is not there."""


class UnknownFile(BundleError):
    """A file or folder is there that the manifest does not name."""


class SymlinkFound(BundleError):
    """A link stands where a file or folder should."""


class HashMismatch(BundleError):
    """A file's bytes are not the ones that were published."""


class ForeignFormat(BundleError):
    """A file is neither a JSON configuration nor safetensors of the declared kind."""


class BundleExists(BundleError):
    """Another bundle already has this product and version."""


@dataclass(frozen=True)
class ComponentSource:
    """A model folder that becomes a component: `config.json` and one safetensors file."""

    folder: Path
    kind: Kind
    dtype: Dtype
    licence: str


@dataclass(frozen=True)
class BundleParts:
    """What a manifest says besides its files."""

    product: str
    version: str
    settings: MethodSettings
    calibration: Calibration | None
    provenance: Provenance
    title: str = ""
    quality: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file was verified when it was opened."""

    path: Path
    manifest: Manifest
    hash: str

    def component(self, name: ComponentName) -> Path:
        """The component's folder."""
        return self.path / name

    def sources(self) -> dict[ComponentName, ComponentSource]:
        """Its components as sources of another bundle, such as the same weights with a new calibration."""
        return {
            name: ComponentSource(self.path / name, component.kind, component.dtype, component.licence)
            for name, component in self.manifest.components.items()
        }


def open_bundle(folder: Path) -> Bundle:
    """Verifies every file of a bundle and returns it, or raises the BundleError that says what is wrong."""
    path = folder.resolve()
    manifest, hash_ = read_manifest(path)
    check_files_present(path, manifest)
    _refuse_unknown(path, manifest)
    for name, entry in manifest.files.items():
        _check_hash(path / name, hash_file(path / name), entry)
    for name, component in manifest.components.items():
        _check_component(path / name, component)
    return Bundle(path, manifest, hash_)


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest and the bundle's hash, from `manifest.json` alone; BadManifest, MissingFile or SymlinkFound."""
    path = folder / MANIFEST_NAME
    _require_file(path, "a bundle's manifest", "name the folder of a bundle: it holds manifest.json")
    content = _read_json_bytes(path, BadManifest)
    try:
        return Manifest.model_validate_json(content), bundle_hash(content)
    except ValidationError as error:
        raise BadManifest(
            path,
            expected="a manifest of format 1",
            found=_first_problems(error),
            fix="restore the manifest that was published, or upgrade glad if a newer one wrote it",
        ) from error


def check_files_present(folder: Path, manifest: Manifest) -> None:
    """Looks for every named file, and at its size: quick enough for a listing. Reads no content."""
    for name, entry in manifest.files.items():
        path = folder / name
        _refuse_link(path.parent)
        _require_file(path, f"a file of {entry.bytes} bytes", _REPUBLISH)
        if (size := path.lstat().st_size) != entry.bytes:
            raise HashMismatch(path, expected=f"{entry.bytes} bytes", found=f"{size} bytes", fix=_REPUBLISH)


def write_bundle(target: Path, parts: BundleParts, components: Mapping[ComponentName, ComponentSource]) -> Bundle:
    """Writes a bundle in one step: files are copied and fsynced beside `target`, then renamed to it.

    At `<store>/<product>/<version>`, files that another bundle of the store has already become hard links to them.
    Writing what is there already changes nothing. BundleExists if another bundle has the place; BundleError if a source
    holds anything but `config.json` and its safetensors file; BadManifest if the parts break a rule.
    """
    described = {name: _describe(name, source) for name, source in components.items()}
    manifest = _compose(target, parts, described)
    files = {path: components[name].folder / Path(path).name for name in described for path in described[name].files}
    return _install(target, manifest.to_bytes(), manifest, files)


def copy_bundle(source: Path, target: Path) -> Bundle:
    """Verifies the bundle in `source` and publishes it, byte for byte, as `target`; errors as in `write_bundle`."""
    bundle = open_bundle(source)
    content = (bundle.path / MANIFEST_NAME).read_bytes()
    if bundle_hash(content) != bundle.hash:
        raise HashMismatch(
            bundle.path / MANIFEST_NAME, expected=bundle.hash, found=bundle_hash(content), fix=_REPUBLISH
        )
    return _install(target, content, bundle.manifest, {name: bundle.path / name for name in bundle.manifest.files})


def _compose(target: Path, parts: BundleParts, components: dict[ComponentName, Component]) -> Manifest:
    try:
        manifest = Manifest(
            product=parts.product,
            version=parts.version,
            title=parts.title,
            settings=parts.settings,
            components=components,
            calibration=parts.calibration,
            provenance=parts.provenance,
            quality=dict(parts.quality),
        )
        # A value that JSON cannot hold (infinity, a path) would be read back as another one.
        content = manifest.to_bytes()
        if Manifest.model_validate_json(content).to_bytes() != content:
            raise ValueError("a value changes when it is written as JSON")
    except ValueError as error:
        raise BadManifest(
            target / MANIFEST_NAME,
            expected="values that a manifest can hold",
            found=_first_problems(error),
            fix="correct the settings, calibration or provenance given",
        ) from error
    return manifest


def _install(target: Path, content: bytes, manifest: Manifest, files: Mapping[str, Path]) -> Bundle:
    if target.exists():
        return _same_or_refuse(target, bundle_hash(content))
    make_folder(target.parent)
    temporary = hidden_sibling(target)
    temporary.mkdir()
    try:
        _fill(temporary, content, manifest, files, _held(target, manifest))
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.exists():
                raise
            return _same_or_refuse(target, bundle_hash(content))
        sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Bundle(target.resolve(), manifest, bundle_hash(content))


def _held(target: Path, manifest: Manifest) -> Held:
    """What the other bundles of a store have already; a bundle that lies anywhere else shares with nobody."""
    in_store = (target.parent.name, target.name) == (manifest.product, manifest.version)
    return held_files(target.parent.parent, MANIFEST_NAME) if in_store else {}


def _fill(folder: Path, content: bytes, manifest: Manifest, files: Mapping[str, Path], held: Held) -> None:
    for name in manifest.components:
        (folder / name).mkdir()
    for path, entry in manifest.files.items():
        _check_hash(files[path], link_or_copy(files[path], folder / path, entry, held), entry)
    for name, component in manifest.components.items():
        _check_component(folder / name, component)
        sync_folder(folder / name)
    write_file(folder / MANIFEST_NAME, content)
    sync_folder(folder)


def _same_or_refuse(target: Path, hash_: str) -> Bundle:
    expected = "no bundle yet, or the same one"
    try:
        present = open_bundle(target)
    except (BundleError, OSError) as error:
        raise BundleExists(
            target, expected=expected, found=f"a broken one: {error}", fix="remove that folder, then publish again"
        ) from error
    if present.hash != hash_:
        raise BundleExists(
            target,
            expected=expected,
            found=f"another bundle, hash {present.hash[:12]} (yours: {hash_[:12]})",
            fix="bundles never change: publish yours under a new version",
        )
    return present


def _describe(name: ComponentName, source: ComponentSource) -> Component:
    wanted = {CONFIG_NAME, WEIGHTS_NAME[source.kind]}
    for file in sorted(wanted):
        _require_file(source.folder / file, f"the {file} of a {source.kind}", "save the model with save_components")
    for present in sorted(source.folder.iterdir()):
        if present.name not in wanted:
            raise _foreign(present, source.kind)
    return Component(
        kind=source.kind,
        dtype=source.dtype,
        files={f"{name}/{file}": hash_file(source.folder / file) for file in sorted(wanted)},
        licence=source.licence,
    )


def _check_component(folder: Path, component: Component) -> None:
    """A component holds its configuration and its weights, both in the only formats that are ever read."""
    wanted = {CONFIG_NAME, WEIGHTS_NAME[component.kind]}
    named = {Path(file).name for file in component.files}
    for file in sorted(named - wanted):
        raise _foreign(folder / file, component.kind)
    for file in sorted(wanted - named):
        raise MissingFile(
            folder / file,
            expected=f"in the manifest: the {file} of a {component.kind}",
            found="no entry",
            fix=_REPUBLISH,
        )
    _check_config(folder / CONFIG_NAME)
    _check_weights(folder / WEIGHTS_NAME[component.kind], component.dtype)


def _foreign(path: Path, kind: Kind) -> ForeignFormat:
    return ForeignFormat(
        path,
        expected=f"only {CONFIG_NAME} and {WEIGHTS_NAME[kind]} in a {kind}",
        found=f"file {path.name!r}",
        fix="remove it; pickled weights (.bin, .pt, .ckpt) must be saved again as safetensors",
    )


def _check_config(path: Path) -> None:
    try:
        config = json.loads(_read_json_bytes(path, ForeignFormat))
    except ValueError as error:
        raise ForeignFormat(path, expected="JSON", found=str(error), fix="save the model again") from error
    if not isinstance(config, dict):
        raise ForeignFormat(path, expected="a JSON object", found=type(config).__name__, fix="save the model again")
    if "auto_map" in config:
        raise ForeignFormat(
            path,
            expected="a configuration of a built-in model class",
            found="'auto_map', which would load Python code",
            fix="use a model class of diffusers or transformers and save it again",
        )


def _check_weights(path: Path, dtype: Dtype) -> None:
    """Reads the safetensors header: a pickle under this name, or weights of another precision, are refused."""
    size = path.lstat().st_size
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        header = stream.read(header_bytes) if 2 <= header_bytes <= min(MAX_JSON_BYTES, size - 8) else b""
    try:
        tensors = json.loads(header)
        dtypes = {tensor["dtype"] for name, tensor in tensors.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ForeignFormat(
            path,
            expected="safetensors",
            found="a file without a safetensors header (a pickle?)",
            fix="save the model again as safetensors",
        ) from error
    floats = {name for name in dtypes if name.startswith(("F", "BF"))}
    if floats - {_TENSOR_DTYPES[dtype]}:
        raise ForeignFormat(
            path,
            expected=f"floating-point tensors of {dtype} ({_TENSOR_DTYPES[dtype]})",
            found=", ".join(sorted(floats)),
            fix="save the model in the precision that the manifest declares",
        )


def _refuse_unknown(folder: Path, manifest: Manifest) -> None:
    files = {MANIFEST_NAME, *manifest.files}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        _refuse_link(path)
        known = name in manifest.components if path.is_dir() else name in files
        if not known:
            raise UnknownFile(
                path,
                expected="only files that the manifest names",
                found=f"{'folder' if path.is_dir() else 'file'} {name!r}",
                fix="move it out of the bundle; a bundle is never changed after it was published",
            )


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _check_hash(path: Path, found: FileEntry, expected: FileEntry) -> None:
    if found != expected:
        raise HashMismatch(
            path,
            expected=f"SHA-256 {expected.sha256} of {expected.bytes} bytes",
            found=f"{found.sha256} of {found.bytes} bytes",
            fix=_REPUBLISH,
        )


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise SymlinkFound(
            path,
            expected="a file or folder of its own",
            found=f"a symbolic link to {os.readlink(path)}",
            fix="copy what it points to into the bundle and publish again",
        )


def _require_file(path: Path, expected: str, fix: str) -> None:
    _refuse_link(path)
    if not path.exists():
        raise MissingFile(path, expected=expected, found="nothing", fix=fix)
    if not path.is_file():
        raise MissingFile(path, expected=expected, found="a folder or device", fix=fix)


def _read_json_bytes(path: Path, refusal: type[BundleError]) -> bytes:
    if (size := path.lstat().st_size) > MAX_JSON_BYTES:
        raise refusal(path, expected=f"at most {MAX_JSON_BYTES} bytes", found=f"{size} bytes", fix="publish it again")
    return path.read_bytes()


def _first_problems(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False)
    shown = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'manifest'}: {p['msg']}" for p in problems[:3])
    return shown + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")

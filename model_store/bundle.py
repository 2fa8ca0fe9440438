"""A bundle on disk: written atomically, opened with every hash verified. Safetensors only, never pickle; no torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from glad.quality_gate.limits import QualityGate
from glad.settings.method import MethodSettings
from model_store.errors import BadManifest, BundleError, BundleExists, HashMismatch
from model_store.files import (
    StoredFiles,
    copy_file,
    hash_file,
    hidden_sibling,
    link_or_copy,
    make_folder,
    stored_files,
    sync_folder,
    write_file,
)
from model_store.manifest import (
    CONFIG_NAME,
    EXPORTS,
    MANIFEST_NAME,
    REPORT,
    WEIGHTS_NAME,
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
from model_store.private_copy import verified_copies
from model_store.signing import NO_KEYS, TrustedKeys, bring_signature
from model_store.verification import (
    REPUBLISH,
    check_component,
    check_files_present,
    check_hash,
    foreign_file,
    read_json_bytes,
    refuse_unknown,
    report_present,
    require_file,
)


@dataclass(frozen=True)
class ComponentSource:
    """A model folder that becomes a component: `config.json` and one safetensors file."""

    folder: Path
    kind: Kind
    dtype: Dtype
    licence: str
    files: Mapping[str, FileEntry] | None = None
    """What its files must be, by their paths in a bundle; None: whatever they are when the bundle is written."""


@dataclass(frozen=True)
class BundleParts:
    """The content of a manifest besides its files."""

    product: str
    version: str
    settings: MethodSettings
    calibration: Calibration | None
    provenance: Provenance
    title: str = ""
    quality: Mapping[str, Any] = field(default_factory=dict)
    gate: QualityGate | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file was verified when it was opened."""

    path: Path
    manifest: Manifest
    hash: str
    keys: TrustedKeys = NO_KEYS
    """The keys one of which has signed it; its exports need such a signature too. `NO_KEYS`: none was needed."""

    def component(self, name: ComponentName) -> Path:
        """Return the component's folder. What is loaded is read by `verified`: these files may be others by now."""
        return self.path / name

    @contextmanager
    def verified(self, name: ComponentName) -> Iterator[Path]:
        """Yield a private copy of the component's folder, to load from: the bytes that the manifest names, no others.

        Raises:
            HashMismatch: if a file is not what the manifest says any more.
            OSError: if a file cannot be read, or there is no room for the copy.
        """
        files = {self.path / file: entry for file, entry in self.manifest.components[name].files.items()}
        with verified_copies(files) as folder:
            yield folder

    def sources(self) -> dict[ComponentName, ComponentSource]:
        """Return its components as sources of another bundle, such as the same weights with a new calibration."""
        return {
            name: ComponentSource(self.path / name, part.kind, part.dtype, part.licence, part.files)
            for name, part in self.manifest.components.items()
        }


def open_bundle(folder: Path, keys: TrustedKeys = NO_KEYS) -> Bundle:
    """Return the bundle in a folder, after verifying every file of it.

    Raises:
        BundleError: if anything is wrong; its subclasses say what.
    """
    path = folder.resolve()
    manifest, hash_ = read_manifest(path, keys)
    check_files_present(path, manifest)
    refuse_unknown(path, manifest)
    for name, entry in (*manifest.files.items(), *report_present(path, manifest).items()):
        check_hash(path / name, hash_file(path / name), entry)
    for name, component in manifest.components.items():
        check_component(path / name, component)
    return Bundle(path, manifest, hash_, keys)


def read_manifest(folder: Path, keys: TrustedKeys = NO_KEYS) -> tuple[Manifest, str]:
    """Return the manifest and the bundle's hash, from `manifest.json` and its signature alone.

    Raises:
        BadManifest: if it breaks a rule.
        MissingFile: if there is none.
        SymlinkFound: if it is a link.
        NotSigned: if there are keys, and none of them has signed it.
    """
    path = folder / MANIFEST_NAME
    require_file(path, "a bundle's manifest", "name the folder of a bundle: it holds manifest.json")
    content = read_json_bytes(path, BadManifest)
    keys.check(path, content)
    try:
        return Manifest.model_validate_json(content), bundle_hash(content)
    except ValidationError as error:
        raise BadManifest(
            path,
            expected="a manifest of format 1",
            found=_first_problems(error),
            fix="restore the manifest that was published, or upgrade glad if a newer one wrote it",
        ) from error


def write_bundle(
    target: Path,
    parts: BundleParts,
    components: Mapping[ComponentName, ComponentSource],
    report: Iterable[Path] = (),
) -> Bundle:
    """Write a bundle in one step, and return it: files are copied and fsynced beside `target`, then renamed to it.

    At `<store>/<product>/<version>`, files that another bundle of the store has already become hard links to them.
    Writing what is there already changes nothing.

    Args:
        target: the new bundle's folder.
        parts: what its manifest says.
        components: what it is made of.
        report: the files of the report of its training, each with a name of its own.

    Raises:
        BundleExists: if another bundle has the place.
        BadManifest: if the parts break a rule.
        BundleError: if a source holds anything but `config.json` and its safetensors file.
    """
    described = {name: _describe(name, source) for name, source in components.items()}
    pages = {f"{REPORT}/{file.name}": file for file in report}
    manifest = _compose(target, parts, described, {path: hash_file(file) for path, file in sorted(pages.items())})
    files = {path: components[name].folder / Path(path).name for name in described for path in described[name].files}
    files |= pages
    return _install(target, manifest.to_bytes(), manifest, files)


def copy_bundle(source: Path, target: Path, keys: TrustedKeys = NO_KEYS) -> Bundle:
    """Verify the bundle in `source`, write it byte for byte as `target`, and return that.

    Raises:
        BundleError: as `write_bundle`.
        NotSigned: if there are keys, and none of them has signed it.
    """
    bundle = open_bundle(source, keys)
    content = (bundle.path / MANIFEST_NAME).read_bytes()
    if bundle_hash(content) != bundle.hash:
        raise HashMismatch(bundle.path / MANIFEST_NAME, expected=bundle.hash, found=bundle_hash(content), fix=REPUBLISH)
    named = (*bundle.manifest.files, *report_present(bundle.path, bundle.manifest))
    made = _install(target, content, bundle.manifest, {name: bundle.path / name for name in named})
    bring_signature(bundle.path / MANIFEST_NAME, made.path / MANIFEST_NAME)
    _bring_exports(bundle.path, made.path)
    return made


def _bring_exports(source: Path, target: Path) -> None:
    """Copy the exports of a bundle, unless the target has one for that engine already."""
    folders = sorted(path for path in (source / EXPORTS).glob("[!.]*") if path.is_dir() and not path.is_symlink())
    for folder in folders:
        place = target / EXPORTS / folder.name
        if source == target or place.exists():
            continue
        make_folder(place.parent)
        temporary = hidden_sibling(place)
        temporary.mkdir()
        try:
            for file in sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink()):
                copy_file(file, temporary / file.name)
            os.rename(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(place.parent)


def _compose(
    target: Path, parts: BundleParts, components: dict[ComponentName, Component], report: dict[str, FileEntry]
) -> Manifest:
    try:
        manifest = Manifest(
            product=parts.product,
            version=parts.version,
            title=parts.title,
            settings=parts.settings,
            components=components,
            calibration=parts.calibration,
            gate=parts.gate,
            provenance=parts.provenance,
            quality=dict(parts.quality),
            report=report,
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
        _fill(temporary, content, manifest, files, _stored(target, manifest))
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


def _stored(target: Path, manifest: Manifest) -> StoredFiles:
    """Return the files of the store that `target` lies in; none if it lies anywhere else."""
    in_store = (target.parent.name, target.name) == (manifest.product, manifest.version)
    return stored_files(target.parent.parent) if in_store else {}


def _fill(folder: Path, content: bytes, manifest: Manifest, files: Mapping[str, Path], stored: StoredFiles) -> None:
    for name in manifest.components:
        (folder / name).mkdir()
    for path, entry in manifest.files.items():
        check_hash(files[path], link_or_copy(files[path], folder / path, entry, stored), entry)
    _fill_report(folder, manifest, files)
    for name, component in manifest.components.items():
        check_component(folder / name, component)
        sync_folder(folder / name)
    write_file(folder / MANIFEST_NAME, content)
    sync_folder(folder)


def _fill_report(folder: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Copy the files of the report as far as they are given."""
    given = {path: entry for path, entry in manifest.report.items() if path in files}
    if not given:
        return
    (folder / REPORT).mkdir()
    for path, entry in given.items():
        check_hash(files[path], copy_file(files[path], folder / path), entry)
    sync_folder(folder / REPORT)


def _same_or_refuse(target: Path, hash_: str) -> Bundle:
    expected = "no bundle yet, or the same one"
    try:
        present = open_bundle(target)
    except (BundleError, OSError) as error:
        found = f"a broken one ({str(error).rstrip('.')})"
        fix = "remove that folder, then publish again"
        raise BundleExists(target, expected=expected, found=found, fix=fix) from error
    if present.hash != hash_:
        raise BundleExists(
            target,
            expected=expected,
            found=f"another bundle, hash {present.hash[:12]} (yours: {hash_[:12]})",
            fix="bundles never change: publish yours under a new version",
        )
    return present


def _describe(name: ComponentName, source: ComponentSource) -> Component:
    expected = {CONFIG_NAME, WEIGHTS_NAME[source.kind]}
    for file in sorted(expected):
        require_file(source.folder / file, f"the {file} of a {source.kind}", "save the model with save_components")
    for present in sorted(source.folder.iterdir()):
        if present.name not in expected:
            raise foreign_file(present, source.kind)
    return Component(
        kind=source.kind,
        dtype=source.dtype,
        files=_named_files(name, source)
        or {f"{name}/{file}": hash_file(source.folder / file) for file in sorted(expected)},
        licence=source.licence,
    )


def _named_files(name: ComponentName, source: ComponentSource) -> dict[str, FileEntry]:
    """Return what the source says of its files, which are compared with it as they are copied."""
    return {f"{name}/{Path(path).name}": entry for path, entry in sorted((source.files or {}).items())}


def _first_problems(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False)
    shown = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'manifest'}: {p['msg']}" for p in problems[:3])
    return shown + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")

"""Folders of bundles, one layer over the other: `<layer>/<product>/<version>`. Reads manifests only. No torch.

A broken bundle is left out of every listing, logged once, and never replaced by the one that it covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from model_store.bundle import Bundle, open_bundle, read_manifest
from model_store.errors import BadManifest, BrokenBundle, BundleError, HashMismatch, SymlinkFound
from model_store.manifest import MANIFEST_NAME, Manifest, check_name
from model_store.signing import NO_KEYS, TrustedKeys, signature_of
from model_store.verification import check_files_present


@dataclass(frozen=True)
class BundleRef:
    """A bundle as its manifest describes it; its weights are not verified yet."""

    product: str
    version: str
    hash: str
    path: Path
    manifest: Manifest
    keys: TrustedKeys = NO_KEYS
    """The keys one of which must have signed it."""

    @property
    def calibrated(self) -> bool:
        """Return whether it has thresholds, without which it gives no verdict."""
        return self.manifest.calibration is not None

    def open(self) -> Bundle:
        """Return the bundle, after verifying every file of it.

        Raises:
            BundleError: if a file is not what was published, or if the bundle is another one by now.
        """
        bundle = open_bundle(self.path, self.keys)
        if bundle.hash != self.hash:
            raise HashMismatch(
                self.path / MANIFEST_NAME,
                expected=f"bundle hash {self.hash}",
                found=bundle.hash,
                fix="resolve the version again; bundles must not be replaced in place",
            )
        return bundle


@dataclass(frozen=True)
class StoreProblem:
    """A bundle or folder of the store that is not used, and why."""

    path: Path
    reason: str


Status = tuple[int, int, int]

log = structlog.get_logger(__name__)


class Layers:
    """The bundles of several folders, the upper layers first."""

    def __init__(self, roots: tuple[Path, ...], keys: TrustedKeys = NO_KEYS) -> None:
        """Read bundles from these folders; they must be signed by one of `keys`, if there are any."""
        self._roots, self._keys = roots, keys
        self._manifests: dict[Path, tuple[tuple[Status | None, ...], Manifest, str]] = {}
        self._logged: set[StoreProblem] = set()

    def products(self) -> list[str]:
        """Return the names of all products that have a folder, sorted."""
        return sorted({folder.name for layer in self._roots for folder in _named_folders(layer)})

    def sound(self, product: str) -> list[BundleRef]:
        """Return the product's bundles that are not broken, calibrated or not, newest first."""
        # Upper layers overwrite lower ones; a broken bundle is not replaced by the one that it covers.
        visible = {entry.path.name: entry for entry in reversed(self.scan(product))}
        sound = [entry for entry in visible.values() if isinstance(entry, BundleRef)]
        return sorted(sound, key=lambda ref: (_created_at(ref), ref.version), reverse=True)

    def find(self, product: str, version: str) -> BundleRef | None:
        """Return the bundle of the first layer that has it; None if no layer has it.

        Raises:
            BrokenBundle: if that one cannot be used.
        """
        for layer in self._roots:
            if (folder := layer / product / version).exists() or folder.is_symlink():
                try:
                    return self._read(layer, folder)
                except (BundleError, OSError) as error:
                    raise BrokenBundle.from_error(product, version, error) from error
        return None

    def stray(self) -> list[StoreProblem]:
        """Return the folders whose names no product and no version can have."""
        return [problem for layer in self._roots for problem in _stray_names(layer)]

    def scan(self, product: str) -> list[BundleRef | StoreProblem]:
        """Return every version in every layer, upper layers first; log each problem once."""
        if not _is_name(product):
            return []
        entries = [self._try(layer, folder) for layer in self._roots for folder in _named_folders(layer / product)]
        for entry in entries:
            if isinstance(entry, StoreProblem) and entry not in self._logged:
                self._logged.add(entry)
                log.warning("bundle ignored", path=str(entry.path), reason=entry.reason)
        return entries

    def _try(self, layer: Path, folder: Path) -> BundleRef | StoreProblem:
        try:
            return self._read(layer, folder)
        except (BundleError, OSError) as error:
            return StoreProblem(folder, str(error))

    def _read(self, layer: Path, folder: Path) -> BundleRef:
        _refuse_outside(layer, folder)
        manifest, hash_ = self._manifest(folder)
        if (manifest.product, manifest.version) != (folder.parent.name, folder.name):
            raise BadManifest(
                folder / MANIFEST_NAME,
                expected=f"product {folder.parent.name}, version {folder.name}, as its folder is named",
                found=f"product {manifest.product}, version {manifest.version}",
                fix=f"move the bundle to {manifest.product}/{manifest.version}",
            )
        check_files_present(folder, manifest)
        return BundleRef(manifest.product, manifest.version, hash_, folder, manifest, self._keys)

    def _manifest(self, folder: Path) -> tuple[Manifest, str]:
        """Return the manifest and the bundle's hash.

        They are parsed once per change of the file or its signature: the API resolves a product for every image.
        """
        path = folder / MANIFEST_NAME
        if not path.exists():
            return read_manifest(folder, self._keys)  # raises the error that says so
        status = (_status(path), _status(signature_of(path)) if self._keys.keys else None)
        cached = self._manifests.get(path)
        if cached is None or cached[0] != status:
            cached = self._manifests[path] = (status, *read_manifest(folder, self._keys))
        return cached[1], cached[2]

    def shadowed(self, product: str) -> Iterator[StoreProblem]:
        """Yield the bundles of lower layers that an upper one covers with other content under the same version."""
        used: dict[str, BundleRef | StoreProblem] = {}
        for entry in self.scan(product):
            upper = used.setdefault(entry.path.name, entry)
            if isinstance(upper, BundleRef) and isinstance(entry, BundleRef) and entry.hash != upper.hash:
                yield StoreProblem(
                    entry.path, f"{entry.path}: covered by another bundle of the same version: {upper.path}"
                )


def _status(path: Path) -> Status | None:
    """Return times and numbers that change with a file; None if there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _created_at(ref: BundleRef) -> datetime:
    return ref.manifest.provenance.created_at


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        log.warning("store_folder_unreadable", path=str(parent), reason=str(error))
        return []


def _named_folders(parent: Path) -> list[Path]:
    return [folder for folder in _folders(parent) if _is_name(folder.name)]


def _stray_names(layer: Path) -> Iterator[StoreProblem]:
    for folder in _folders(layer):
        for path in (folder, *_folders(folder)):
            if not _is_name(path.name):
                yield StoreProblem(path, f"{path}: names of products and versions hold only a-z 0-9 . _ -: rename it")


def _refuse_outside(layer: Path, folder: Path) -> None:
    if not folder.resolve().is_relative_to(layer.resolve()):
        raise SymlinkFound(
            folder,
            expected=f"a folder inside the store {layer}",
            found=f"a link to {folder.resolve()}",
            fix="publish the bundle instead of linking it",
        )

"""A store: bundles under `<root>/<product>/<version>`, over a read-only layer of shipped ones. No torch.

The store reads manifests only, so that listing is quick; whoever loads weights verifies them first: `ref.open()`.
A broken bundle is left out of every listing, logged once, and named by `problems()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog

from model_store.bundle import Bundle, copy_bundle, open_bundle, read_manifest
from model_store.checks import check_files_present
from model_store.errors import (
    BadManifest,
    BadProductState,
    BrokenBundle,
    BundleError,
    BundleExists,
    HashMismatch,
    NotCalibrated,
    NothingToRollBack,
    StoreError,
    SymlinkFound,
    UnknownProduct,
    UnknownVersion,
    UnsupportedStore,
)
from model_store.manifest import MANIFEST_NAME, Manifest, check_name
from model_store.product import ProductState, ThresholdOverrides, read_state, write_state
from model_store.thresholds import Thresholds

SHIPPED_BUNDLES = Path(__file__).parent / "bundles"
"""The bundles that come with the package; the folder may be absent."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BundleRef:
    """A bundle as its manifest describes it; its weights are not verified yet."""

    product: str
    version: str
    hash: str
    path: Path
    manifest: Manifest

    @property
    def calibrated(self) -> bool:
        """Whether it has thresholds, without which it gives no verdict."""
        return self.manifest.calibration is not None

    def open(self) -> Bundle:
        """Verifies every file; BundleError if one is not what was published, or the bundle is another one by now."""
        bundle = open_bundle(self.path)
        if bundle.hash != self.hash:
            raise HashMismatch(
                self.path / MANIFEST_NAME,
                expected=f"bundle hash {self.hash}",
                found=bundle.hash,
                fix="resolve the version again; bundles must not be replaced in place",
            )
        return bundle


@dataclass(frozen=True)
class Problem:
    """Something in the store that is not used, and why."""

    path: Path
    reason: str


class Store:
    """The bundles and product states of one root, over the shipped ones."""

    def __init__(self, root: Path | str, shipped: Path | None = None) -> None:
        self.root = _local_folder(root)
        self._layers = (self.root,) if shipped is None else (self.root, shipped)
        self._manifests: dict[Path, tuple[tuple[int, int, int], Manifest, str]] = {}
        self._logged: set[Problem] = set()

    def products(self) -> tuple[str, ...]:
        """Names of the products that have a usable bundle, sorted."""
        return tuple(product for product in self._product_names() if self.versions(product))

    def versions(self, product: str) -> tuple[BundleRef, ...]:
        """The product's usable bundles, newest first; empty for an unknown product."""
        return tuple(ref for ref in self._sound(product) if ref.calibrated)

    def drafts(self) -> tuple[BundleRef, ...]:
        """Every product's bundles that wait for their calibration: sound, but without thresholds of no use yet."""
        return tuple(ref for product in self._product_names() for ref in self._sound(product) if not ref.calibrated)

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is left out of the listings."""
        found = [problem for layer in self._layers for problem in _stray_names(layer)]
        for product in self._product_names():
            found.extend(entry for entry in self._scan(product) if isinstance(entry, Problem))
            found.extend(self._shadowed(product))
            try:
                self.state(product)
            except BadProductState as error:
                found.append(Problem(self._folder(product), str(error)))
        return tuple(found)

    def resolve(self, product: str, version: str | None = None) -> BundleRef:
        """One bundle: of this version, or the active one, which is the newest where nobody has chosen.

        UnknownProduct, UnknownVersion, BrokenBundle, BadProductState, or NotCalibrated where the product has nothing
        else. A chosen version that broke is never replaced by another one silently; a version that is asked for by name
        may be one that is not calibrated yet.
        """
        wanted = version if version is not None else self.state(_checked(product, UnknownProduct)).active
        if wanted is not None:
            return self._exactly(_checked(product, UnknownProduct), _checked(wanted, UnknownVersion))
        if refs := self.versions(product):
            return refs[0]
        raise self._unknown(product)

    def thresholds(self, ref: BundleRef) -> Thresholds:
        """The thresholds in force for a bundle: its calibration's, unless overridden; NotCalibrated without."""
        return self.state(ref.product).thresholds(ref.version, ref.manifest.thresholds)

    def gated(self, ref: BundleRef) -> bool:
        """Whether the bundle's quality gate is asked: it has one, and nobody has switched the product's off."""
        return ref.manifest.gate is not None and self.state(ref.product).gate_on

    def publish(self, folder: Path) -> BundleRef:
        """Verifies a bundle and adds it, in one step; what is there already is left as it is.

        BundleError if the bundle is unsound, BundleExists if its version is taken by another one.
        """
        manifest, hash_ = read_manifest(folder)
        for layer in self._layers[1:]:
            shipped = layer / manifest.product / manifest.version
            if shipped.exists() and read_manifest(shipped)[1] != hash_:
                raise BundleExists(
                    shipped,
                    expected="a version that does not ship with the package",
                    found=f"version {manifest.version} with other content",
                    fix="publish yours under a new version",
                )
        bundle = copy_bundle(folder, self._folder(manifest.product) / manifest.version)
        return BundleRef(manifest.product, manifest.version, bundle.hash, bundle.path, bundle.manifest)

    def state(self, product: str) -> ProductState:
        """What was chosen for the product; revision 0 where nothing was."""
        return read_state(self._folder(product), product)

    def activate(
        self,
        product: str,
        version: str,
        *,
        by: str,
        note: str = "",
        at: datetime | None = None,
        revision: int | None = None,
    ) -> ProductState:
        """Makes a version active after verifying every file; errors as in `resolve`, NotCalibrated, StateConflict.

        `revision`: here and below, change the product only if it is at this one; else StateConflict.
        """
        ref = self.resolve(product, version)
        self.thresholds(ref)
        self._verified(ref)
        state = self._state_at(product, revision)
        newest = next((newest.version for newest in self.versions(product)), None)
        return self._written(state.activate(version, by=by, at=at or datetime.now(UTC), note=note, instead_of=newest))

    def roll_back(
        self, product: str, *, by: str, note: str = "", at: datetime | None = None, revision: int | None = None
    ) -> ProductState:
        """Makes the version before the active one active again; NothingToRollBack if there was none."""
        if not self.versions(product):
            raise self._unknown(product)
        state = self._state_at(product, revision).roll_back(by=by, at=at or datetime.now(UTC), note=note)
        if state.active is None:
            raise NothingToRollBack(f"product {product}: no version was active before")
        self._verified(self.resolve(product, state.active))
        return self._written(state)

    def override(
        self,
        product: str,
        version: str,
        overrides: ThresholdOverrides,
        *,
        by: str,
        at: datetime | None = None,
        revision: int | None = None,
    ) -> ProductState:
        """Replaces a version's threshold overrides; BadProductState if review would lie above fail."""
        ref = self.resolve(product, version)
        try:
            overrides.over(ref.manifest.thresholds)
        except ValueError as error:
            raise BadProductState(f"product {product}, version {version}: {error}") from error
        state = self._state_at(product, revision)
        return self._written(state.override(version, overrides, by=by, at=at or datetime.now(UTC)))

    def _state_at(self, product: str, revision: int | None) -> ProductState:
        state = self.state(product)
        if revision is not None:
            state.refuse_other_than(revision)
        return state

    def switch_gate(
        self,
        product: str,
        *,
        on: bool,
        by: str,
        note: str = "",
        at: datetime | None = None,
        revision: int | None = None,
    ) -> ProductState:
        """Switches the product's quality gate; UnknownProduct, BadProductState, StateConflict."""
        if not self.versions(product):
            raise self._unknown(product)
        state = self._state_at(product, revision)
        return self._written(state.switch_gate(on=on, by=by, at=at or datetime.now(UTC), note=note))

    def _written(self, state: ProductState) -> ProductState:
        write_state(self._folder(state.product), state)
        return state

    def _folder(self, product: str) -> Path:
        return self.root / _checked(product, UnknownProduct)

    def _product_names(self) -> list[str]:
        return sorted({folder.name for layer in self._layers for folder in _named_folders(layer)})

    def _exactly(self, product: str, version: str) -> BundleRef:
        """From the first layer that has it: a broken bundle is not replaced by the one that it covers."""
        for layer in self._layers:
            if (folder := layer / product / version).exists() or folder.is_symlink():
                try:
                    return self._read(layer, folder)
                except (BundleError, OSError) as error:
                    raise _broken(product, version, error) from error
        known = [ref.version for ref in self._sound(product)]
        if not known:
            raise self._unknown(product)
        raise UnknownVersion(f"product {product!r} has no version {version!r}: use one of {', '.join(known)}")

    def _scan(self, product: str) -> list[BundleRef | Problem]:
        """Every version in every layer, upper layers first."""
        if not _is_name(product):
            return []
        found = [self._try(layer, folder) for layer in self._layers for folder in _named_folders(layer / product)]
        for entry in found:
            if isinstance(entry, Problem) and entry not in self._logged:
                self._logged.add(entry)
                log.warning("bundle_ignored", path=str(entry.path), reason=entry.reason)
        return found

    def _try(self, layer: Path, folder: Path) -> BundleRef | Problem:
        try:
            return self._read(layer, folder)
        except (BundleError, OSError) as error:
            return Problem(folder, str(error))

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
        return BundleRef(manifest.product, manifest.version, hash_, folder, manifest)

    def _manifest(self, folder: Path) -> tuple[Manifest, str]:
        """Parsed once per change of the file: the API resolves a product for every image."""
        path = folder / MANIFEST_NAME
        if not path.exists():
            return read_manifest(folder)  # raises the error that says so
        status = path.lstat()
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        cached = self._manifests.get(path)
        if cached is None or cached[0] != signature:
            cached = self._manifests[path] = (signature, *read_manifest(folder))
        return cached[1], cached[2]

    def _shadowed(self, product: str) -> Iterator[Problem]:
        used: dict[str, BundleRef | Problem] = {}
        for entry in self._scan(product):
            upper = used.setdefault(entry.path.name, entry)
            if isinstance(upper, BundleRef) and isinstance(entry, BundleRef) and entry.hash != upper.hash:
                yield Problem(entry.path, f"{entry.path}: covered by another bundle of the same version: {upper.path}")

    def _verified(self, ref: BundleRef) -> None:
        try:
            ref.open()
        except (BundleError, OSError) as error:
            raise _broken(ref.product, ref.version, error) from error

    def _sound(self, product: str) -> list[BundleRef]:
        """Whatever is whole, calibrated or not, newest first."""
        # Upper layers overwrite lower ones; a broken bundle is not replaced by the one that it covers.
        found = {entry.path.name: entry for entry in reversed(self._scan(product))}
        whole = [entry for entry in found.values() if isinstance(entry, BundleRef)]
        return sorted(whole, key=lambda ref: (_created_at(ref), ref.version), reverse=True)

    def _unknown(self, product: str) -> StoreError:
        if drafts := self._sound(product):
            return NotCalibrated.of(product, drafts[0].version)
        broken = [entry for entry in self._scan(product) if isinstance(entry, Problem)]
        if broken:
            return BrokenBundle(f"product {product!r} has no usable bundle: {broken[0].reason}")
        known = ", ".join(self.products()) or "none yet: publish a bundle with `glad bundle publish FOLDER`"
        return UnknownProduct(f"no product {product!r} in {self.root}; known: {known}")


def _created_at(ref: BundleRef) -> datetime:
    return ref.manifest.provenance.created_at


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _checked(name: str, refusal: type[StoreError]) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise refusal(str(error)) from error


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


def _stray_names(layer: Path) -> Iterator[Problem]:
    for folder in _folders(layer):
        for path in (folder, *_folders(folder)):
            if not _is_name(path.name):
                yield Problem(path, f"{path}: names of products and versions hold only a-z 0-9 . _ -: rename it")


def _refuse_outside(layer: Path, folder: Path) -> None:
    if not folder.resolve().is_relative_to(layer.resolve()):
        raise SymlinkFound(
            folder,
            expected=f"a folder inside the store {layer}",
            found=f"a link to {folder.resolve()}",
            fix="publish the bundle instead of linking it",
        )


def _broken(product: str, version: str, error: Exception) -> BrokenBundle:
    return BrokenBundle(f"product {product!r}, version {version!r} cannot be used: {error}")


def _local_folder(root: Path | str) -> Path:
    if isinstance(root, Path):
        return root
    address = urlsplit(root)
    if address.scheme == "file" and address.netloc in {"", "localhost"}:
        return Path(unquote(address.path))
    if "://" in root:
        raise UnsupportedStore(
            f"store is {root!r}; a store is a local folder or file:// URL: mount it and give its path"
        )
    return Path(root).expanduser()

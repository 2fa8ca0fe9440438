"""What a store holds: its bundles, which of them is active, and the thresholds and gates in force. No torch.

The store reads manifests only, so that listing is quick; weights are verified when they are loaded: `ref.open()`.
A broken bundle is left out of every listing and named by `problems()`: see `model_store.store_layers`.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog

from glad.quality_gate.limits import QualityGate
from model_store.bundle import copy_bundle
from model_store.errors import (
    BadProductState,
    BrokenBundle,
    BundleError,
    NotCalibrated,
    ProductNotInStore,
    StoreError,
    UnsupportedStore,
    VersionNotInStore,
    nearest,
)
from model_store.evaluations import RecordedEvaluation, carry_evaluations, evaluations_of, last_recorded
from model_store.manifest import VerdictThresholds, check_name
from model_store.product_changes import StateChange, read_changes
from model_store.product_state import ProductState, read_state, write_default
from model_store.signing import NO_KEYS, TrustedKeys
from model_store.store_layers import BundleRef, Layers, StoreProblem

log = structlog.get_logger(__name__)


class StoreContents:
    """The bundles and product states of one root, over the shipped ones, as `Store` changes them."""

    def __init__(
        self, root: Path | str, shipped: Path | None = None, *, keys: TrustedKeys = NO_KEYS, records: bool = True
    ) -> None:
        """Open the store of a root.

        Args:
            root: a folder, or its file:// URL.
            shipped: the folder of bundles that come with the package.
            keys: every bundle, shipped or not, must be signed by one of them; without keys none needs a signature.
            records: `resolve` records what is active where nobody has chosen. False for who only reads: a command may
                run as another user than the service, or without its keys.

        Raises:
            UnsupportedStore: if the root is not a local folder.
        """
        self.root = store_folder(root)
        self._shipped, self.keys = shipped, keys
        self._layers = Layers((self.root,) if shipped is None else (self.root, shipped), keys)
        self._was_there = self.root.is_dir()
        self._records, self._recording = records, dict[str, threading.Lock]()
        self._unrecorded: set[str] = set()
        """Products whose active version could not be recorded: it is said once, not at each image."""

    def check_readable(self) -> None:
        """Read the root's own listing: a share that is not mounted, or a server that is away, is no empty store.

        Raises:
            OSError: if there is no such folder, or it cannot be read now.
        """
        with os.scandir(self.root) as entries:
            next(entries, None)

    def products(self) -> tuple[str, ...]:
        """Return the names of the products that have a usable bundle, sorted."""
        return tuple(product for product in self._layers.products() if self.versions(product))

    def versions(self, product: str) -> tuple[BundleRef, ...]:
        """Return the product's usable bundles, newest first; empty for an unknown product."""
        return tuple(ref for ref in self._layers.sound(product) if ref.calibrated)

    def drafts(self) -> tuple[BundleRef, ...]:
        """Return every product's bundles that are not calibrated yet: without thresholds they give no verdict."""
        products = self._layers.products()
        return tuple(ref for product in products for ref in self._layers.sound(product) if not ref.calibrated)

    def problems(self) -> tuple[StoreProblem, ...]:
        """Return everything that is left out of the listings, and why."""
        problems = self._layers.stray()
        for product in self._layers.products():
            problems.extend(entry for entry in self._layers.scan(product) if isinstance(entry, StoreProblem))
            problems.extend(self._layers.shadowed(product))
            try:
                self.state(product)
            except BadProductState as error:
                problems.append(StoreProblem(self._folder(product), str(error)))
        return tuple(problems)

    def resolve(self, product: str, version: str | None = None) -> BundleRef:
        """Return one bundle: of this version, or the active one.

        Nothing becomes active unasked after a product's first version. What is active where nobody has chosen is
        recorded, with a copy of its bundle if it is a shipped one: neither a version that is added later nor an upgrade
        of the package changes it. Before there is a record the newest is active, as it was in versions that kept none.

        A chosen version that broke is never replaced by another one silently; a version that is asked for by name may
        be one that is not calibrated yet.

        Raises:
            ProductNotInStore: if no layer of the store has the product.
            VersionNotInStore: if the product has no such version.
            BrokenBundle: if the version cannot be used.
            BadProductState: if the product's state cannot be read.
            NotCalibrated: if the product has nothing but bundles without thresholds.
        """
        if version is not None:
            return self._find(_checked(product, ProductNotInStore), _checked(version, VersionNotInStore))
        state = self.state(product)
        ref = self._active(state)
        if not self._records or product in self._unrecorded or (state.active is not None and not self._is_shipped(ref)):
            return ref
        with self._recording.setdefault(product, threading.Lock()):
            try:
                return self._active(self.settle(product))
            except (BundleError, OSError) as error:
                self._unrecorded.add(product)
                log.warning("active_version_not_recorded", product=product, version=ref.version, reason=str(error))
        return ref

    def settle(self, product: str) -> ProductState:
        """Record which version is active, if nobody has chosen one, and keep its bundle in the root; return the state.

        Raises:
            BadProductState: if the state cannot be read.
            BundleError: if the bundle is broken.
            OSError: if the root cannot be written.
        """
        state = self.state(product)
        if state.active is None and not self.versions(product):
            return state
        ref = self._active(state)
        self._keep(ref)
        if state.active is not None:
            return state
        return write_default(self._folder(product), product, ref.version, at=datetime.now(UTC))

    def thresholds(self, ref: BundleRef) -> VerdictThresholds:
        """Return the thresholds in force for a bundle: its calibration's, unless overridden.

        Raises:
            NotCalibrated: if it has none.
            BadProductState: if the product's state cannot be read.
        """
        return self.state(ref.product).thresholds(ref.version, ref.manifest.thresholds)

    def gate(self, ref: BundleRef) -> QualityGate | None:
        """Return the quality gate in force for a bundle: its own limits, unless overridden; None: no image is stopped.

        Raises:
            BadProductState: if the product's state cannot be read.
        """
        state, learnt = self.state(ref.product), ref.manifest.gate
        return None if learnt is None or not state.gate_on else state.gate_in_force(ref.version, learnt)

    def changes(self, product: str) -> tuple[StateChange, ...]:
        """Return who changed what of a product and when, the latest first; evaluations of its versions too.

        Raises:
            ProductNotInStore: if the product has no usable bundle.
            BadProductState: if its state cannot be read.
        """
        if not self.versions(product):
            raise self._unknown(product)
        evaluated = last_recorded(self._folder(product))
        times = {name: (one.removed or one).at for name, one in evaluated.items()}
        return read_changes(self._folder(product), self.state(product), times)

    def removed_evaluations(self, product: str) -> dict[str, RecordedEvaluation]:
        """Return the product's evaluations that were removed and not recorded again since, by id.

        Raises:
            OSError: if they cannot be read.
        """
        evaluated = last_recorded(self._folder(product))
        return {name: one for name, one in evaluated.items() if one.removed is not None}

    def evaluations(self, ref: BundleRef) -> tuple[RecordedEvaluation, ...]:
        """Return what was measured of a bundle on labelled images, the latest first.

        Raises:
            OSError: if it cannot be read.
        """
        layers = [self.root, *([] if self._shipped is None else [self._shipped])]
        return evaluations_of(ref.hash, [layer / ref.product for layer in layers])

    def state(self, product: str) -> ProductState:
        """Return the product's state; of revision 0 where nothing was changed yet.

        Raises:
            BadProductState: if it cannot be read. So it is if the root was there and is not: to go on with shipped
                bundles and calibrated thresholds would be another decision than the one that was made.
        """
        folder = self._folder(product)
        if self.root.is_dir():
            self._was_there = True
        elif self._was_there:
            raise BadProductState(f"{self.root} was there and is gone, with what is active: bring it back")
        return read_state(folder, product)

    def _active(self, state: ProductState) -> BundleRef:
        if state.active is not None:
            return self._find(state.product, state.active)
        if refs := self.versions(state.product):
            return refs[0]
        raise self._unknown(state.product)

    def ships(self, product: str) -> bool:
        """Return whether a product comes with the package."""
        return self._shipped is not None and (self._shipped / _checked(product, ProductNotInStore)).is_dir()

    def _is_shipped(self, ref: BundleRef) -> bool:
        return self._shipped is not None and ref.path.is_relative_to(self._shipped)

    def _keep(self, ref: BundleRef) -> None:
        """Copy a shipped bundle into the root: an upgrade of the package replaces the shipped ones."""
        if self._is_shipped(ref):
            copy_bundle(ref.path, self._folder(ref.product) / ref.version, self.keys)
            carry_evaluations(ref.path.parent, self._folder(ref.product), ref.hash)

    def _folder(self, product: str) -> Path:
        return self.root / _checked(product, ProductNotInStore)

    def _find(self, product: str, version: str) -> BundleRef:
        if (ref := self._layers.find(product, version)) is not None:
            return ref
        known = [ref.version for ref in self._layers.sound(product)]
        if not known:
            raise self._unknown(product)
        raise VersionNotInStore(f"product {product!r} has no version {version!r}: use one of {', '.join(known)}")

    def _unknown(self, product: str) -> StoreError:
        if drafts := self._layers.sound(product):
            return NotCalibrated.for_version(product, drafts[0].version)
        broken = [entry for entry in self._layers.scan(product) if isinstance(entry, StoreProblem)]
        if broken:
            return BrokenBundle(f"product {product!r} has no usable bundle: {broken[0].reason}")
        names = self._layers.products()  # not looked into: of one whose files hang, no other product's call may wait
        known = ", ".join(names) or "none yet: publish a bundle with `glad bundle publish FOLDER`"
        return ProductNotInStore(f"no product {product!r} in {self.root}; known: {known}{nearest(product, names)}")


def _checked(name: str, refusal: type[StoreError]) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise refusal(str(error)) from error


def store_folder(root: Path | str) -> Path:
    """Return the folder that a path or file:// URL of a store names.

    Raises:
        UnsupportedStore: if it is another URL.
    """
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

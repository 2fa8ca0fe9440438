"""A store of bundles over a read-only layer of shipped ones: publishing, and what changes a product. No torch."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from model_store.bundle import copy_bundle, read_manifest
from model_store.errors import (
    BadProductState,
    BrokenBundle,
    BundleError,
    BundleExists,
    EvaluationNotInStore,
    NothingToRollBack,
    StoreError,
)
from model_store.evaluations import (
    EvaluationRemoval,
    MeasuredQuality,
    RecordedEvaluation,
    carry_evaluations,
    change_of,
    recorded_for,
    write_evaluations,
)
from model_store.product_changes import add_changes, record_change
from model_store.product_state import (
    GateOverrides,
    PicturesWhen,
    ProductState,
    ThresholdOverrides,
    write_state,
)
from model_store.store_contents import StoreContents
from model_store.store_layers import BundleRef, StoreProblem

__all__ = ["SHIPPED_BUNDLES", "BundleRef", "Store", "StoreProblem"]

SHIPPED_BUNDLES = Path(__file__).parent / "bundles"
"""The bundles that come with the package; the folder may be absent."""


class Store(StoreContents):
    """The bundles and product states of one root, over the shipped ones."""

    _check: Callable[[], None] | None = None

    def checked_by(self, check: Callable[[], None]) -> Store:
        """Return this store for changes that may come too late, as those do that waited for a share that hangs.

        Args:
            check: called just before a change takes effect; what it raises leaves everything as it is.
        """
        checked = copy(self)
        checked._check = check
        return checked

    def publish(self, folder: Path) -> BundleRef:
        """Verify a bundle, add it in one step, and return it; what is there already is left as it is.

        Evaluations of the bundle that lie beside it come along.
        The first version of a product becomes active; a later one does not.

        Raises:
            BundleExists: if its version is taken by another bundle.
            BundleError: if it is broken, or not signed where signatures are needed.
        """
        manifest, hash_ = read_manifest(folder, self.keys)
        if self._shipped is not None:
            shipped = self._shipped / manifest.product / manifest.version
            if shipped.exists() and read_manifest(shipped)[1] != hash_:
                raise BundleExists(
                    shipped,
                    expected="a version that does not ship with the package",
                    found=f"version {manifest.version} with other content",
                    fix="publish yours under a new version",
                )
        self._settle_if_used(manifest.product)
        bundle = copy_bundle(folder, self._folder(manifest.product) / manifest.version, self.keys)
        carry_evaluations(folder.resolve().parent, self._folder(manifest.product), bundle.hash)
        self._settle_if_used(manifest.product)
        return BundleRef(manifest.product, manifest.version, bundle.hash, bundle.path, bundle.manifest, self.keys)

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
        """Make a version active, after verifying every file of it; return the product's new state.

        Args:
            product: its name.
            version: to use from now on.
            by: who changes it, for the history.
            note: why, for the history.
            at: the time of the change; None: now.
            revision: change the product only if its state is at this one. So it is below, too.

        Raises:
            StateConflict: if the state is at another revision.
            NotCalibrated: if the version has no thresholds.
            StoreError: as `resolve`.
        """
        ref = self.resolve(product, version)
        self.thresholds(ref)
        self._verified(ref)
        state = self._state_at(product, revision)
        self._keep(ref)
        return self._written(state.activate(version, by=by, at=at or datetime.now(UTC), note=note), note)

    def roll_back(
        self, product: str, *, by: str, note: str = "", at: datetime | None = None, revision: int | None = None
    ) -> ProductState:
        """Make the version before the active one active again; return the product's new state.

        Raises:
            NothingToRollBack: if no version was active before.
            StoreError: as `activate`.
        """
        if not self.versions(product):
            raise self._unknown(product)
        state = self._state_at(product, revision).roll_back(by=by, at=at or datetime.now(UTC), note=note)
        if state.active is None:
            raise NothingToRollBack(f"product {product}: no version was active before")
        ref = self.resolve(product, state.active)
        self._verified(ref)
        self._keep(ref)
        return self._written(state, note)

    def override(
        self,
        product: str,
        version: str,
        overrides: ThresholdOverrides,
        *,
        by: str,
        note: str = "",
        at: datetime | None = None,
        revision: int | None = None,
    ) -> ProductState:
        """Replace a version's threshold overrides; return the product's new state.

        Raises:
            BadProductState: if review would lie above fail.
            StoreError: as `activate`.
        """
        ref = self.resolve(product, version)
        try:
            overrides.over(ref.manifest.thresholds)
        except ValueError as error:
            raise BadProductState(f"product {product}, version {version}: {error}") from error
        state = self._state_at(product, revision)
        return self._written(state.override(version, overrides, by=by, at=at or datetime.now(UTC)), note)

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
        """Switch the product's quality gate on or off; return the product's new state.

        Raises:
            ProductNotInStore: if the product has no usable bundle.
            BadProductState: if its state cannot be read.
            StateConflict: if the state is at another revision.
        """
        if not self.versions(product):
            raise self._unknown(product)
        state = self._state_at(product, revision)
        return self._written(state.switch_gate(on=on, by=by, at=at or datetime.now(UTC), note=note), note)

    def limit_gate(
        self,
        product: str,
        version: str,
        limits: GateOverrides,
        *,
        by: str,
        note: str = "",
        at: datetime | None = None,
        revision: int | None = None,
    ) -> ProductState:
        """Replace the overrides of a version's gate limits; return the product's new state.

        Raises:
            BadProductState: if the version has no gate, or no image would keep these limits.
            StoreError: as `activate`.
        """
        ref = self.resolve(product, version)
        if ref.manifest.gate is None:
            raise BadProductState(
                f"product {product}, version {version}: has no quality gate whose limits could change"
            )
        try:
            limits.over(ref.manifest.gate)
        except ValueError as error:
            raise BadProductState(f"product {product}, version {version}: {error}") from error
        state = self._state_at(product, revision)
        return self._written(state.limit_gate(version, limits, by=by, at=at or datetime.now(UTC)), note)

    def choose_pictures(
        self, product: str, when: PicturesWhen, *, by: str, note: str = "", at: datetime | None = None
    ) -> ProductState:
        """Choose when pictures are drawn of the product's parts that pass; return the product's new state.

        Raises:
            ProductNotInStore: if the product has no usable bundle.
            BadProductState: if its state cannot be read.
            StateConflict: if it is changed by another at this moment.
        """
        if not self.versions(product):
            raise self._unknown(product)
        state = self._state_at(product, None)
        return self._written(state.choose_pictures(when, by=by, at=at or datetime.now(UTC), note=note), note)

    def record_evaluation(
        self, ref: BundleRef, measured: MeasuredQuality, *, by: str, note: str = "", at: datetime | None = None
    ) -> RecordedEvaluation:
        """Record what was measured of a bundle, in place of what an earlier evaluation found on the same images.

        The product's changes tell of it; no verdict depends on it, and the revision stays.

        Raises:
            EvaluationOfAnother: if it was measured of another bundle.
            OSError: if it cannot be written.
        """
        recorded = recorded_for(ref.hash, measured, by=by, note=note, at=at or datetime.now(UTC))
        self._write_evaluation(ref, recorded)
        return recorded

    def remove_evaluation(self, ref: BundleRef, evaluation: str, *, by: str, at: datetime | None = None) -> None:
        """Remove an evaluation from what is known of a bundle; recording it again brings it back.

        Raises:
            EvaluationNotInStore: if the bundle has none of this id.
            OSError: if it cannot be written.
        """
        known = {one.id: one for one in self.evaluations(ref)}
        if evaluation not in known:
            has = f"its evaluations are {', '.join(known)}" if known else "nothing was measured of it"
            raise EvaluationNotInStore(
                f"version {ref.version} of product {ref.product!r} has no evaluation {evaluation!r}: {has}"
            )
        removal = EvaluationRemoval(by=by, at=at or datetime.now(UTC))
        self._write_evaluation(ref, known[evaluation].model_copy(update={"removed": removal}))

    def own_copy(self, ref: BundleRef) -> BundleRef:
        """Return the bundle in the root, where it may be added to; a shipped one is copied there first."""
        self._keep(ref)
        return self._find(ref.product, ref.version)

    def _write_evaluation(self, ref: BundleRef, new: RecordedEvaluation) -> None:
        folder = self._folder(ref.product)

        def record() -> None:
            shown = {one.id: one for one in self.evaluations(ref)}
            add_changes(folder, [change_of(shown.get(new.id), new, ref.version)])

        write_evaluations(folder, [new], record=record, check=self._check)

    def _state_at(self, product: str, revision: int | None) -> ProductState:
        state = self._settle_if_used(product)  # before the change, whose record would leave open what was active
        if revision is not None:
            state.refuse_other_than(revision)
        return state

    def _settle_if_used(self, product: str) -> ProductState:
        """Settle, unless what is active cannot be used: another can be activated then all the same."""
        try:
            return self.settle(product)
        except (StoreError, BundleError):
            return self.state(product)

    def _written(self, state: ProductState, note: str) -> ProductState:
        folder = self._folder(state.product)
        write_state(folder, state, partial(record_change, folder, note=note), self._check)
        return state

    def _verified(self, ref: BundleRef) -> None:
        try:
            ref.open()
        except (BundleError, OSError) as error:
            raise BrokenBundle.from_error(ref.product, ref.version, error) from error

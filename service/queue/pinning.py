"""What decides an inspection, pinned when its image is accepted: bundle, thresholds, and whether the gate is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_store.store import BundleRef, Store
from service.contract import Thresholds


@dataclass(frozen=True)
class Pinned:
    """In force for one product at one moment."""

    bundle: BundleRef
    thresholds: Thresholds
    gate: bool
    """Its bundle has a quality gate, and nobody has switched the product's off."""

    @property
    def job_fields(self) -> dict[str, Any]:
        """The same as fields of a `Job`."""
        return {
            "bundle_version": self.bundle.version,
            "bundle_hash": self.bundle.hash,
            "thresholds": self.thresholds,
            "gate": self.gate,
        }


def pin_now(store: Store, product: str) -> Pinned:
    """What is in force now; StoreError, or ValueError for overrides that do not fit."""
    bundle = store.resolve(product)
    limits = store.thresholds(bundle)
    thresholds = Thresholds(review=limits.review, fail=limits.fail, pixel=limits.pixel)
    return Pinned(bundle, thresholds, store.gated(bundle))

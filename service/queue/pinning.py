"""Pinning: bundle, thresholds and quality gate of an inspection are fixed when its image is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_store.store import BundleRef, Store
from service.contract import Thresholds


@dataclass(frozen=True)
class Pinned:
    """Bundle, thresholds and gate that are in force for a product at one moment."""

    bundle: BundleRef
    thresholds: Thresholds
    gate: bool
    """Whether the quality gate is asked: the bundle has one, and the product's is not switched off."""

    @property
    def job_fields(self) -> dict[str, Any]:
        """The same values as fields of a `Job`."""
        return {
            "bundle_version": self.bundle.version,
            "bundle_hash": self.bundle.hash,
            "thresholds": self.thresholds,
            "gate": self.gate,
        }


def pin_now(store: Store, product: str) -> Pinned:
    """Return what is in force for the product now.

    Raises:
        StoreError: if the product has no usable bundle.
        ValueError: if its overridden thresholds do not fit together.
    """
    bundle = store.resolve(product)
    thresholds = Thresholds.from_limits(store.thresholds(bundle))
    return Pinned(bundle, thresholds, store.gated(bundle))

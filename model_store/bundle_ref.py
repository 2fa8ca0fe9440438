"""What a store shows: a bundle by its manifest, or why something in it is not used. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_store.bundle import Bundle, open_bundle
from model_store.errors import HashMismatch
from model_store.manifest import MANIFEST_NAME, Manifest
from model_store.signing import NOBODY, TrustedKeys


@dataclass(frozen=True)
class BundleRef:
    """A bundle as its manifest describes it; its weights are not verified yet."""

    product: str
    version: str
    hash: str
    path: Path
    manifest: Manifest
    keys: TrustedKeys = NOBODY
    """Whose signature it needs."""

    @property
    def calibrated(self) -> bool:
        """Whether it has thresholds, without which it gives no verdict."""
        return self.manifest.calibration is not None

    def open(self) -> Bundle:
        """Verifies every file; BundleError if one is not what was published, or the bundle is another one by now."""
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
    """Something in the store that is not used, and why."""

    path: Path
    reason: str

"""What can go wrong with a store. For what can be wrong with one bundle, see BundleError in bundle.py.

StoreError
 ├── UnknownProduct      no layer of the store holds a bundle of this product
 ├── UnknownVersion      the product has no such version
 ├── BrokenBundle        the version is there but must not be used; its cause says why
 ├── BadProductState     a product's state file cannot be read, or a change of it breaks a rule
 ├── StateConflict       somebody else changed the product's state in the meantime
 ├── NothingToRollBack   no version was active before this one
 ├── NotCalibrated       the bundle was imported and has no thresholds yet
 └── UnsupportedStore    the store's address is not a local folder
"""

from __future__ import annotations

from typing import Self


class StoreError(Exception):
    """Base of everything that a store refuses; the message says what was given, what is allowed and what to do."""


class UnknownProduct(StoreError):
    """No layer of the store holds a bundle of this product."""


class UnknownVersion(StoreError):
    """The product has no such version."""


class BrokenBundle(StoreError):
    """The version is there but must not be used; `__cause__` says why."""


class BadProductState(StoreError):
    """A product's state file cannot be read, or a change of it breaks a rule."""


class StateConflict(StoreError):
    """Somebody else changed the product's state in the meantime."""


class NothingToRollBack(StoreError):
    """No version was active before this one."""


class NotCalibrated(StoreError):
    """The bundle was imported and has no thresholds yet."""

    @classmethod
    def of(cls, product: str, version: str) -> Self:
        """What to tell whoever wanted a verdict of this bundle."""
        return cls(
            f"product {product!r}, version {version!r} has no thresholds yet, so it gives no verdict: run "
            "`glad calibrate BUNDLE --data DIR` with good images, and use the version that it makes"
        )


class UnsupportedStore(StoreError):
    """The store's address is not a local folder."""

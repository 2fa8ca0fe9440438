"""The errors of a store, and of one bundle of it.

StoreError
 ├── ProductNotInStore      no layer of the store holds a bundle of this product
 ├── VersionNotInStore      the product has no such version
 ├── NoSuchBundle        neither a bundle's folder nor a product of the store has this name
 ├── BrokenBundle        the version is there but must not be used; its cause says why
 ├── BadProductState     a product's state file cannot be read, or a change of it breaks a rule
 ├── StateConflict       the product's state was changed in the meantime
 ├── NothingToRollBack   no version was active before this one
 ├── NotCalibrated       the bundle was imported and has no thresholds yet
 ├── EvaluationNotInStore   the version has no such evaluation
 ├── EvaluationOfAnother    an evaluation was measured of another bundle
 └── UnsupportedStore    the store's address is not a local folder

BundleError
 ├── BadManifest     manifest.json is absent, not JSON, of another format, or breaks a rule
 ├── MissingFile     the manifest names a file that is not there
 ├── UnknownFile     a file or folder is there that the manifest does not name
 ├── SymlinkFound    a link stands where a file or folder should
 ├── HashMismatch    a file's bytes are not the ones that were published
 ├── NotSigned       no trusted key has signed it, where some are named
 ├── ForeignFormat   a file is neither a JSON configuration nor safetensors of the declared kind
 └── BundleExists    another bundle already has this product and version

ModelLoadError      a component's weights do not load
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that names what was probably meant; empty if no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f". Did you mean {near[0]}?" if near else ""


class StoreError(Exception):
    """Base of the errors of a store; the message says what was given, what is allowed and what to do."""


class ProductNotInStore(StoreError):
    """No layer of the store holds a bundle of this product."""


class VersionNotInStore(StoreError):
    """The product has no such version."""


class NoSuchBundle(StoreError):
    """What was given is neither a bundle's folder nor a product of the store."""


class BrokenBundle(StoreError):
    """The version is there but must not be used; `__cause__` says why."""

    @classmethod
    def from_error(cls, product: str, version: str, error: Exception) -> Self:
        """Return the error for a version whose bundle raised `error`."""
        return cls(f"product {product!r}, version {version!r} cannot be used: {error}")


class BadProductState(StoreError):
    """A product's state file cannot be read, or a change of it breaks a rule."""


class StateConflict(StoreError):
    """The product's state was changed in the meantime."""


class NothingToRollBack(StoreError):
    """No version was active before this one."""


class NotCalibrated(StoreError):
    """The bundle was imported and has no thresholds yet."""

    @classmethod
    def for_version(cls, product: str, version: str) -> Self:
        """Return the error for a version that has no thresholds."""
        return cls(
            f"product {product!r}, version {version!r} has no thresholds yet, so it gives no verdict: run "
            "`glad calibrate BUNDLE --data DIR` with good images, and use the version that it makes"
        )


class EvaluationNotInStore(StoreError):
    """The version has no such evaluation."""


class EvaluationOfAnother(StoreError):
    """An evaluation was measured of another bundle than the one that it is to be recorded for."""


class UnsupportedStore(StoreError):
    """The store's address is not a local folder."""


class BundleError(Exception):
    """Base of the errors of a bundle that must not be used.

    The message says which file, what was expected, what was found, and what to do.
    """

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


class NotSigned(BundleError):
    """No trusted key has signed it, where GLAD_BUNDLE_KEYS names some."""


class ForeignFormat(BundleError):
    """A file is neither a JSON configuration nor safetensors of the declared kind."""


class BundleExists(BundleError):
    """Another bundle already has this product and version."""


class ModelLoadError(Exception):
    """The folder holds no model that this engine can load."""

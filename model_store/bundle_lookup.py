"""Which bundle is meant: by a product's name, by `product/version`, or by a bundle's folder. No torch.

Every command and `glad_inspect.load` find their bundle here, so that all of them take the same words, and refuse a
wrong one with the same sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_store.bundle import read_manifest
from model_store.errors import NoSuchBundle, ProductNotInStore, nearest
from model_store.manifest import MANIFEST_NAME, check_name
from model_store.store import BundleRef, Store


@dataclass(frozen=True)
class FoundBundle:
    """The bundle that is meant; its weights are not verified yet."""

    ref: BundleRef
    in_store: bool
    """Whether it was named as a product of the store, not by its folder: the store's thresholds are in force."""


def find_bundle(given: str | Path, store: Store, version: str | None = None) -> FoundBundle:
    """Return the bundle that a person means.

    Args:
        given: a product's name, which means its active version; `product/version`; or a bundle's folder, which comes
            first where a product has the same name. A `Path` is always a folder.
        store: where products are looked for.
        version: of the product; None: as `given` says, or the active one.

    Raises:
        NoSuchBundle: if it is neither; the message lists what the store has.
        StoreError: if the product is there, but not this version, or it cannot be used.
        BundleError: if the folder's manifest cannot be used.
        ValueError: if a version is named twice, or beside a folder, which has one version.
    """
    folder = Path(given).expanduser()
    if (folder / MANIFEST_NAME).is_file():
        if version is not None:
            raise ValueError(f"{folder} is a bundle's folder, which has one version: leave version out")
        return FoundBundle(_ref_of_folder(folder), in_store=False)
    product, named_version = split_version(str(given))
    if isinstance(given, Path) or not _may_be_names(product, named_version):
        raise _no_bundle(str(given), folder, store)
    if version is not None and named_version is not None:
        raise ValueError(f"{given} names a version already: leave {version} out")
    try:
        return FoundBundle(store.resolve(product, version or named_version), in_store=True)
    except ProductNotInStore as error:
        raise _no_bundle(given, folder, store) from error


def split_version(given: str) -> tuple[str, str | None]:
    """Return product and version of a text such as `bracket/7`; None as the version of `bracket`."""
    product, _, version = given.rstrip("/").partition("/")
    return product, version or None


def _may_be_names(*words: str | None) -> bool:
    try:
        return all(check_name(word) for word in words if word is not None)
    except ValueError:
        return False


def _ref_of_folder(folder: Path) -> BundleRef:
    manifest, hash_ = read_manifest(folder)
    return BundleRef(manifest.product, manifest.version, hash_, folder.resolve(), manifest)


def _no_bundle(given: str, folder: Path, store: Store) -> NoSuchBundle:
    if folder.is_dir():
        why = f"the folder has no {MANIFEST_NAME}"
        inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}"))
        if inside:
            why += f", those in it do: {', '.join(map(str, inside))}"
    else:
        why = "it is a file" if folder.exists() else "there is no such folder and no such product"
    products = store.products()
    has = ", ".join(f"{one} ({', '.join(ref.version for ref in store.versions(one))})" for one in products)
    listed = has or "none yet: publish a bundle with `glad bundle publish FOLDER`"
    return NoSuchBundle(
        f"{given!r} is no bundle: {why}; give a bundle's folder, or a product of the store {store.root}: "
        f"{listed}{nearest(split_version(given)[0], products)}"
    )

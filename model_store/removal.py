"""A version, or a whole product, out of a store's own folder, in one step for all who read the store. No torch.

A worker that has the version in memory goes on with it. Bundles of one store share equal files as hard links
(`model_store.files`): what another one has, too, stays.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model_store.errors import ProductNotInStore, StoreError, VersionNotInStore
from model_store.files import hidden_sibling, sync_folder
from model_store.manifest import check_name
from model_store.product_changes import record_change
from model_store.product_state import locked_state, rewrite_state
from model_store.store import Store


class RemovalRefused(StoreError):
    """What is to be removed is in use, or ships with the package."""


@dataclass(frozen=True)
class Removal:
    """What would be removed, or was."""

    product: str
    version: str | None
    """None: the whole product, with its state."""
    folder: Path
    versions: tuple[str, ...]
    """That are gone then."""
    freed_bytes: int
    """Of files that no bundle elsewhere in the store has."""


def plan_removal(store: Store, product: str, version: str | None = None) -> Removal:
    """Return what the removal of a version, or of a whole product, takes out of the store.

    Args:
        store: whose root's own bundles can be removed.
        product: its name.
        version: None: the product with all versions, also the active one.

    Raises:
        ProductNotInStore, VersionNotInStore: if it does not lie in the store's root.
        RemovalRefused: if it is the active version, or a product that ships with the package.
        BadProductState: if the product's state cannot be read.
    """
    folder = store.root / _checked(product)
    there = sorted(path.name for path in _visible_folders(folder))
    if not there:
        why = "ships with the package" if store.ships(product) else "does not lie there"
        raise ProductNotInStore(f"product {product!r} {why}: only what is published to {store.root} can be removed")
    if version is None:
        _refuse_shipped(store, product)
        return Removal(product, None, folder, tuple(there), _freed_by(folder))
    if version not in there:
        raise VersionNotInStore(f"{store.root} has no version {version!r} of {product}: use one of {', '.join(there)}")
    store.settle(product)
    if store.state(product).active == version:
        raise RemovalRefused(
            f"{product} {version} is active: activate another version first (`glad bundle activate {product} "
            f"VERSION`), or remove the whole product (`glad bundle remove {product}`)"
        )
    return Removal(product, version, folder / version, (version,), _freed_by(folder / version))


def remove(store: Store, planned: Removal, *, by: str) -> None:
    """Take what was planned out of the store; threshold overrides of a version go with it.

    Args:
        store: of the plan.
        planned: by `plan_removal`.
        by: who removes it, for the product's state.

    Raises:
        RemovalRefused: if the version was activated meanwhile.
        OSError: if a file cannot be removed. What is left is hidden, and in no listing.
    """
    product = store.root / planned.product
    aside = hidden_sibling(planned.folder)
    with locked_state(product, planned.product) as state:
        if planned.version is not None:
            if state.active == planned.version:
                raise RemovalRefused(
                    f"{planned.product} {planned.version} was activated meanwhile: nothing was removed"
                )
            after = state.forget(planned.version, by=by, at=datetime.now(UTC))
            record_change(product, state, after, note=f"version {planned.version} removed")
            rewrite_state(product, after)  # of a new revision: who is about to activate the version is refused
        planned.folder.rename(aside)
    sync_folder(planned.folder.parent)
    shutil.rmtree(aside)


def _refuse_shipped(store: Store, product: str) -> None:
    if store.ships(product):
        raise RemovalRefused(
            f"product {product} ships with the package, and so cannot be removed: remove versions of it that were "
            "published, one by one"
        )


def _freed_by(folder: Path) -> int:
    """Return the bytes of the files below a folder whose every name lies there."""
    names: dict[tuple[int, int], list[int]] = {}
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            status = file.stat()
            names.setdefault((status.st_ino, status.st_nlink), []).append(status.st_size)
    return sum(sizes[0] for (_, links), sizes in names.items() if len(sizes) == links)


def _visible_folders(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[!.]*") if path.is_dir()] if folder.is_dir() else []


def _checked(product: str) -> str:
    try:
        return check_name(product)
    except ValueError as error:
        raise ProductNotInStore(str(error)) from error

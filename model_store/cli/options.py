"""Which store a command works on: `--store`, or the data folder's. No torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from model_store.signing import TrustedKeys
from model_store.store import SHIPPED_BUNDLES, Store

StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", envvar="GLAD_STORE", help="The store's folder. Default: the data folder's `store`."),
]
DataFolder = Annotated[
    Path, typer.Option("--data-dir", envvar="GLAD_DATA_DIR", help="Holds the store unless --store is given.")
]

DEFAULT_DATA_FOLDER = Path("~/.local/state/glad")


def chosen_store(store: Path | None, data_dir: Path) -> Store:
    """The store of these two options, over the shipped bundles; signed ones only where GLAD_BUNDLE_KEYS names keys."""
    return Store((store or data_dir / "store").expanduser(), shipped=SHIPPED_BUNDLES, keys=keys_of_environment())


def keys_of_environment() -> TrustedKeys:
    """Those that the service on this machine would trust."""
    try:
        return TrustedKeys.from_text(os.environ.get("GLAD_BUNDLE_KEYS", ""))
    except ValueError as error:
        raise typer.BadParameter(f"GLAD_BUNDLE_KEYS: {error}") from error

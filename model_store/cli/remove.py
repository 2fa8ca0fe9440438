"""`glad bundle remove`: a version or a product out of the store, after a question."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from model_store.bundle_lookup import split_version
from model_store.cli.common import (
    DEFAULT_DATA_FOLDER,
    DataFolder,
    StoreFolder,
    chosen_store,
    explained,
    give_up,
    user_name,
)
from model_store.removal import Removal, plan_removal, remove


def remove_command(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="The product's name, or PRODUCT/VERSION.")],
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="The version. Default: the product with all versions.")
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Annotated[str, typer.Option(help="Who removes it. Default: the user that runs this command.")] = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Remove a version that is not active, or a whole product; images that wait for it can no longer be inspected.

    Example: glad bundle remove my-product 3
    """
    name, named_version = split_version(product)
    if version and named_version:
        raise typer.BadParameter(f"name one version to remove, such as: glad bundle remove {name} 2")
    opened = chosen_store(store, data_dir)
    with explained():
        planned = plan_removal(opened, name, version or named_version)
        _confirm(_in_words(planned), yes)
        remove(opened, planned, by=by or user_name())
    typer.echo(f"removed: {planned.folder}, {_megabytes(planned.freed_bytes)} freed")


def _in_words(planned: Removal) -> str:
    freed = f"{_megabytes(planned.freed_bytes)} are freed, and what other bundles have too stays"
    if planned.version is None:
        versions = f"version{'s' if len(planned.versions) > 1 else ''} {', '.join(planned.versions)}"
        what = f"product {planned.product} with {versions}, its thresholds and its history"
    else:
        what = f"{planned.product} {planned.version} with its thresholds"
    return (
        f"Remove {what}? Images that were accepted under it and wait can no longer be inspected, and nothing brings it "
        f"back. {freed}."
    )


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        give_up(f"nothing was removed: {question} Add --yes where nobody can be asked")
    if not typer.confirm(question):
        give_up("nothing was removed")


def _megabytes(amount: int) -> str:
    return f"{amount / 1e6:.1f} MB"

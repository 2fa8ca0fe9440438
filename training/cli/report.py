"""`glad report`: the report of a training, written again. Imports its needs when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import StoreFolder, explained, find_store

if TYPE_CHECKING:
    from model_store.bundle import Bundle


def report(
    given: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE", help="A run's folder; or a product's name, PRODUCT/VERSION, or a bundle's folder."
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The page; the JSON lies beside it. Default: RUN/report.html, report.html."),
    ] = None,
    store: StoreFolder = None,
) -> None:
    """Write the report of a training again: of a run as far as it has come, or of a bundle with its exports.

    A bundle never changes: the page of one is written to this folder, or to OUT.

    Example: glad report bundles/my-product/1 --out my-product.html
    """
    from training.report.writing import report_of_bundle, report_of_run

    with explained(ValueError):
        run = Path(given)
        if (run / "run.json").is_file():
            html, as_json = report_of_run(run, _page(out, run / "report.html"))
        else:
            html, as_json = report_of_bundle(_bundle(given, store), _page(out, Path("report.html")))
    typer.echo(f"{html}, and the same for programs: {as_json}")


def _page(out: Path | None, default: Path) -> Path:
    """Return the page's file.

    Raises:
        ValueError: if it has another ending.
    """
    if out is not None and out.suffix != ".html":
        raise ValueError(f"--out is {out}: give a name that ends in .html; the .json lies beside it")
    return out or default


def _bundle(given: str, store: Path | None) -> Bundle:
    from model_store.bundle import open_bundle
    from model_store.bundle_lookup import find_bundle

    return open_bundle(find_bundle(given, find_store(store)).ref.path)


def tell_report(run: Path, bundle: Path) -> None:
    """Write the report of a run again, with the export that its bundle may have by now, and say where it lies."""
    from model_store.bundle import open_bundle
    from training.report.writing import renew_report

    with explained(ValueError):
        if page := renew_report(run, open_bundle(bundle)):
            typer.echo(f"the report: {page}")

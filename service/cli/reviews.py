"""`glad reviews`: what waits for people, and reviewed images as a data folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import explained
from service.cli.common import AsJson, ServiceUrl, connected_client

if TYPE_CHECKING:
    from glad_client.reviews import DecisionCounts

app = typer.Typer(
    name="reviews",
    help="Show what waits for people and how they agree with a running service; copy reviewed images into a data "
    "folder.\n\n"
    "Example: glad reviews export labelled --product bracket",
    no_args_is_help=True,
    add_completion=False,
)

ReadKey = Annotated[
    str | None, typer.Option("--key", help="API key with the scope read.", envvar="GLAD_API_KEY", show_default=False)
]
Product = Annotated[str | None, typer.Option(help="Only of this product.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"],
        help="Only of inspections that ended at this time or later, in UTC unless it has a zone.",
    ),
]


@app.command()
def export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", file_okay=False, help="Gets a data folder for each product: DIR/PRODUCT."),
    ],
    *,
    product: Product = None,
    since: Since = None,
    audit_only: Annotated[
        bool, typer.Option("--audit-only", help="Only images that were drawn for the random audit and judged blind.")
    ] = False,
    url: ServiceUrl,
    key: ReadKey = None,
) -> None:
    """Copy reviewed images into data folders that training and evaluation read, with masks of the regions drawn.

    Called again, it copies what is new, and moves what got another label. What the service no longer keeps stays.

    Example: glad reviews export labelled --product bracket --url http://line-server:8000
    """
    from service.cli.review_export import ExportFilter, export_reviews

    chosen = ExportFilter(product, None if since is None else _in_utc(since), audit_only)
    with connected_client(url, key) as client, explained(ValueError):
        done = export_reviews(client, folder, chosen, lambda text: typer.echo(f"note: {text}", err=True))
    if not done:
        typer.echo("no image has a review that counts: nothing is written")
    for one in done:
        labels = [image.label for image in one.images.values()]
        for label in sorted(set(labels)):
            typer.echo(f"{labels.count(label):>6}  {one.root / 'test' / label}")
        typer.echo(f"{one.copied:>6}  copied now, {one.removed} withdrawn, {len(one.missing)} missing")
        if one.missing:
            typer.echo(f"{'':>6}  {one.root / 'missing.csv'} names what is missing, and says why")
        audited = sum(image.audit is not None for image in one.images.values())
        typer.echo(f"{audited:>6}  answer the random audit: glad calibrate {one.root.name} --from-reviews {one.root}")


@app.command()
def summary(
    *,
    product: Product = None,
    since: Since = None,
    url: ServiceUrl,
    key: ReadKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what waits for people, how they decided by the service's verdict, and how far two people agree.

    Example: glad reviews summary --product bracket
    """
    with connected_client(url, key) as client:
        found = client.reviews.summary(product=product, since=None if since is None else _in_utc(since))
    if as_json:
        typer.echo(found.model_dump_json(by_alias=True, indent=2))
        return
    waits = found.waiting
    typer.echo(
        f"waiting: {waits.fail} fail, {waits.no_result} without a result, {waits.review} review, "
        f"{waits.audit} audit, {waits.double_read} double read, "
        f"{waits.disputed} disputed"
    )
    typer.echo(f"reviewed: {found.reviewed} images; {found.withdrawn} reviews were withdrawn")
    table = found.agreement
    for verdict, counts in (("pass", table.passed), ("review", table.review), ("fail", table.fail)):
        typer.echo(_in_words(verdict, counts))
    read = found.double_read
    kappa = "not defined" if read.kappa is None else f"{read.kappa:.2f}"
    typer.echo(f"judged twice: {read.pairs}, of which {read.agreed} alike; Cohen's kappa {kappa}")


def _in_words(verdict: str, counts: DecisionCounts) -> str:
    return f"  {verdict:<8} {counts.ok:>6} ok {counts.defect:>6} defect"


def _in_utc(given: datetime) -> datetime:
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given

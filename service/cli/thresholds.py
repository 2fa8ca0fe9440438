"""`glad thresholds`: shows and changes the thresholds of a running service, with the effect of a change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.common import LOCAL_SERVICE, AdminKey, AsJson, By, ServiceUrl, Yes, confirm, connected_client

if TYPE_CHECKING:
    from glad_client.answers import BundleView, ThresholdsView
    from glad_client.client import Client

app = typer.Typer(
    name="thresholds",
    help="Show and change the thresholds of a running service, with the effect on what it has inspected.\n\n"
    "Example: glad thresholds show bracket",
    no_args_is_help=True,
    add_completion=False,
)

Product = Annotated[str, typer.Argument(metavar="PRODUCT", help="The product's name, or PRODUCT/VERSION.")]
Last = Annotated[int, typer.Option(min=0, max=5000, help="So many of its last inspections show the effect.")]
Preview = Annotated[bool, typer.Option("--preview", help="Only show the effect.")]
NAMES = ("review", "fail", "pixel")


@app.command()
def show(product: Product, *, url: ServiceUrl = LOCAL_SERVICE, key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show the thresholds in force of a product's versions, the active one marked.

    Example: glad thresholds show bracket --url http://line-server:8000
    """
    name, version = _named(product)
    with connected_client(url, key) as client:
        found = client.product(name)
    versions = [one for one in found.versions if version in (None, one.version)]
    if as_json:
        typer.echo(json.dumps([_as_json(one, found.active.version) for one in versions], indent=2))
        return
    typer.echo("  version                    review      fail     pixel")
    for one in versions:
        values = "".join(f"{getattr(one.thresholds, limit):10.4f}" for limit in NAMES)
        typer.echo(f"{'*' if one.version == found.active.version else ' '} {one.version:<22}{values}")


@app.command("set")
def set_thresholds(
    product: Product,
    *,
    review: Annotated[float | None, typer.Option(help="Scores from here on are for review.")] = None,
    fail: Annotated[float | None, typer.Option(help="Scores from here on fail.")] = None,
    pixel: Annotated[float | None, typer.Option(help="Map values from here on are a region.")] = None,
    preview: Preview = False,
    last: Last = 1000,
    by: By = None,
    yes: Yes = False,
    url: ServiceUrl = LOCAL_SERVICE,
    key: AdminKey = None,
) -> None:
    """Set thresholds for images that come from now on, after showing what they change; those left out stay.

    Results that are stored stay as they are.

    Example: glad thresholds set bracket --fail 1.9 --preview
    """
    given = {name: value for name, value in (("review", review), ("fail", fail), ("pixel", pixel)) if value is not None}
    if not given:
        raise typer.BadParameter("nothing to set: give --review, --fail or --pixel")
    with connected_client(url, key) as client:
        _change(client, product, given, preview=preview, last=last, by=by, yes=yes)


@app.command()
def reset(
    product: Product,
    *,
    preview: Preview = False,
    last: Last = 1000,
    by: By = None,
    yes: Yes = False,
    url: ServiceUrl = LOCAL_SERVICE,
    key: AdminKey = None,
) -> None:
    """Go back to the thresholds of the calibration for images that come from now on, after showing what they change.

    Example: glad thresholds reset bracket
    """
    with connected_client(url, key) as client:
        _change(client, product, dict.fromkeys(NAMES), preview=preview, last=last, by=by, yes=yes)


def _change(
    client: Client,
    product: str,
    changes: Mapping[str, float | None],
    *,
    preview: bool,
    last: int,
    by: str | None,
    yes: bool,
) -> None:
    """Show the effect of a change; unless that is all, ask, and make it."""
    name, version = _named(product)
    shown = client.change_thresholds(name, changes, version=version, preview=True, last=last)
    _print_effect(shown)
    if preview:
        return
    if shown.before == shown.after:
        typer.echo("nothing to change")
        return
    confirm(f"Use these thresholds for {name} {shown.version} from now on?", yes)
    # What was shown is what is changed: another change in between makes this one a refusal.
    made = client.change_thresholds(name, changes, version=shown.version, by=by, last=0, revision=shown.revision)
    typer.echo(f"{name} {made.version}: in force for images that come from now on (revision {made.revision})")


def _print_effect(shown: ThresholdsView) -> None:
    typer.echo(f"{shown.product} {shown.version:<18}  review      fail     pixel")
    for title, limits in (("calibrated", shown.calibrated), ("before", shown.before), ("after", shown.after)):
        values = "".join(f"{getattr(limits, limit):10.4f}" for limit in NAMES)
        typer.echo(f"  {title:<22}{values}")
    effect = shown.effect
    if not effect.compared:
        typer.echo("no inspection of this version with a score is kept: the effect is not known")
        return
    typer.echo(f"of the last {effect.compared} inspections, {effect.changed} would have another verdict")
    for one in effect.changes:
        typer.echo(f"  {one.before} -> {one.after}: {one.count}")


def _named(product: str) -> tuple[str, str | None]:
    from model_store.bundle_lookup import split_version

    return split_version(product)


def _as_json(bundle: BundleView, active: str) -> dict[str, object]:
    limits = bundle.thresholds.model_dump(include=set(NAMES))
    return {"version": bundle.version, "active": bundle.version == active, **limits}

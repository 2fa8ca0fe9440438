"""`glad thresholds`: shows and changes the thresholds of a running service, with the effect of a change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from glad_client.fields import rfc3339
from service.cli.common import AdminKey, AsJson, By, ServiceUrl, Yes, confirm, connected_client

if TYPE_CHECKING:
    from glad_client.answers import BundleView, Effect, ThresholdsView
    from glad_client.client import Client
    from glad_client.product_answers import GateEffect, GateLimitsView, ProductChange

app = typer.Typer(
    name="thresholds",
    help="Show and change the thresholds of a running service, with the effect on what it has inspected; limits of the "
    "quality gate, and who changed what.\n\n"
    "Example: glad thresholds show bracket",
    no_args_is_help=True,
    add_completion=False,
)

Product = Annotated[str, typer.Argument(metavar="PRODUCT", help="The product's name, or PRODUCT/VERSION.")]
Last = Annotated[int, typer.Option(min=0, max=5000, help="So many of its last inspections show the effect.")]
Preview = Annotated[bool, typer.Option("--preview", help="Only show the effect.")]
NAMES = ("review", "fail", "pixel")
LIMITS = ("darkest", "brightest", "black_share", "white_share", "sharpness", "likeness")


@app.command()
def show(product: Product, *, url: ServiceUrl, key: AdminKey = None, as_json: AsJson = False) -> None:
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
    note: Annotated[str | None, typer.Option(help="Why, for the product's record of changes.")] = None,
    yes: Yes = False,
    url: ServiceUrl,
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
        _change(client, product, given, preview=preview, last=last, by=by, note=note, yes=yes)


@app.command()
def reset(
    product: Product,
    *,
    preview: Preview = False,
    last: Last = 1000,
    by: By = None,
    yes: Yes = False,
    url: ServiceUrl,
    key: AdminKey = None,
) -> None:
    """Go back to the thresholds of the calibration for images that come from now on, after showing what they change.

    Example: glad thresholds reset bracket
    """
    with connected_client(url, key) as client:
        _change(client, product, dict.fromkeys(NAMES), preview=preview, last=last, by=by, yes=yes)


@app.command()
def gate(
    product: Product,
    *,
    darkest: Annotated[float | None, typer.Option(help="Least mean grey, 0 to 255.")] = None,
    brightest: Annotated[float | None, typer.Option(help="Largest mean grey.")] = None,
    black_share: Annotated[float | None, typer.Option(help="Largest share of the image in black, 0 to 1.")] = None,
    white_share: Annotated[float | None, typer.Option(help="Largest share of the image in white.")] = None,
    sharpness: Annotated[float | None, typer.Option(help="Least sharpness, in cycles per pixel.")] = None,
    likeness: Annotated[float | None, typer.Option(help="Least likeness to good images; 0: not asked.")] = None,
    learned: Annotated[bool, typer.Option("--learned", help="Go back to all limits that good images set.")] = False,
    preview: Preview = False,
    last: Last = 1000,
    by: By = None,
    yes: Yes = False,
    url: ServiceUrl,
    key: AdminKey = None,
) -> None:
    """Set limits of the quality gate for images that come from now on, after showing what they change.

    Those left out stay. Without any limit the present ones are shown.

    Example: glad thresholds gate bracket --darkest 60 --preview
    """
    values = (darkest, brightest, black_share, white_share, sharpness, likeness)
    given = {name: value for name, value in zip(LIMITS, values, strict=True) if value is not None}
    limits = {**dict.fromkeys(LIMITS), **given} if learned else given
    name, version = _named(product)
    with connected_client(url, key) as client:
        shown = client.change_gate_limits(name, limits, version=version, preview=True, last=last)
        _print_gate_effect(shown)
        if preview or not limits:
            return
        if shown.before == shown.after:
            typer.echo("nothing to change")
            return
        confirm(f"Use these limits for {name} {shown.version} from now on?", yes)
        made = client.change_gate_limits(name, limits, version=shown.version, by=by, last=0, revision=shown.revision)
    typer.echo(f"{name} {made.version}: in force for images that come from now on (revision {made.revision})")


@app.command()
def changes(product: Product, *, url: ServiceUrl, key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show who changed a product's active version, thresholds, quality gate or figures, and when; the latest first.

    Example: glad thresholds changes bracket
    """
    with connected_client(url, key) as client:
        found = client.product_changes(_named(product)[0])
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for one in found.changes:
        typer.echo(f"{rfc3339(one.at)}  {_in_words(one)}  by {one.by}  {one.note}".rstrip())
    if not found.changes:
        typer.echo(f"{found.product}: nobody has changed anything")


def _in_words(change: ProductChange) -> str:
    """Return what a change made of what, such as `thresholds 7: fail calibrated -> 1.9`."""
    unset = {"thresholds": "calibrated", "gate_limits": "learned"}.get(change.kind, "none")
    moved = [
        f"{name} {unset if old is None else old} -> {unset if new is None else new}"
        for name, old in change.before.items()
        if (new := change.after.get(name)) != old
    ]
    concerned = f" {change.version}" if change.version and change.kind != "active" else ""
    return f"{change.kind}{concerned}: {', '.join(moved) or 'as it was'}"


def _print_gate_effect(shown: GateLimitsView) -> None:
    typer.echo(f"{shown.product} {shown.version:<14} {'learned':>9} {'before':>9} {'after':>9}")
    for name in LIMITS:
        values = (getattr(one, name) for one in (shown.learned, shown.before, shown.after))
        typer.echo(f"  {name:<20}" + "".join("       off" if value is None else f"{value:10.4f}" for value in values))
    effect = shown.effect
    if not effect.compared:
        typer.echo("of no image of this version the measures are kept: the effect is not known")
        return
    typer.echo(
        f"of the last {effect.compared} images, {effect.newly_stopped} more would be stopped and "
        f"{effect.newly_inspected} more inspected{_expected(effect)}"
    )


def _expected(effect: Effect | GateEffect) -> str:
    if not effect.per_day:
        return ""
    a_shift = "" if effect.per_shift is None else f", {effect.per_shift:.0f} a shift"
    return f", about {effect.per_day:.0f} a day{a_shift}"


def _change(
    client: Client,
    product: str,
    changes: Mapping[str, float | None],
    *,
    preview: bool,
    last: int,
    by: str | None,
    yes: bool,
    note: str | None = None,
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
    made = client.change_thresholds(
        name, changes, version=shown.version, by=by, note=note, last=0, revision=shown.revision
    )
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
    changed = f"{effect.changed} would have another verdict{_expected(effect)}"
    typer.echo(f"of the last {effect.compared} inspections, {changed}")
    for one in effect.changes:
        typer.echo(f"  {one.before} -> {one.after}: {one.count}")


def _named(product: str) -> tuple[str, str | None]:
    from model_store.bundle_lookup import split_version

    return split_version(product)


def _as_json(bundle: BundleView, active: str) -> dict[str, object]:
    limits = bundle.thresholds.model_dump(include=set(NAMES))
    return {"version": bundle.version, "active": bundle.version == active, **limits}

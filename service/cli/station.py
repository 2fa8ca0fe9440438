"""`glad station`: shows and changes which product each station of a running service inspects, and puts one on hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import limit_samples
from service.cli.common import AdminKey, AsJson, By, ServiceUrl, Yes, confirm, connected_client

if TYPE_CHECKING:
    from glad_client.answers import StationSettings, StationView
    from glad_client.client import Client

app = typer.Typer(
    name="station",
    help="Show and change which product each station of a running service inspects; hold one, and release it.\n\n"
    "Example: glad station list",
    no_args_is_help=True,
    add_completion=False,
)

app.add_typer(limit_samples.app)

Station = Annotated[str, typer.Argument(metavar="STATION", help="The station's name, such as line-3.")]
FIELDS = ("product", "lot", "view", "priority", "deadline_ms", "expected_views", "takt_ms", "hold")


@app.command("list")
def list_stations(*, url: ServiceUrl, key: AdminKey = None, as_json: AsJson = False) -> None:
    """List the stations, with the product that each inspects now.

    Example: glad station list --url http://line-server:8000
    """
    with connected_client(url, key) as client:
        stations = client.stations()
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in stations], indent=2))
        return
    if not stations:
        typer.echo("no station is set: glad station set STATION --product PRODUCT", err=True)
    for one in stations:
        held = f"  on hold: {one.hold}" if one.hold else ""
        typer.echo(f"{one.station:<24}  {one.product:<24}  since {one.changed_at:%Y-%m-%d %H:%M}{held}")


@app.command()
def show(station: Station, *, url: ServiceUrl, key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show a station's settings, and its last changes.

    Example: glad station show line-3
    """
    with connected_client(url, key) as client:
        found = client.station(station)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    for name, value in _shown(found).items():
        typer.echo(f"{name:<16} {value}")
    if found.check_hold is not None:
        typer.echo(f"{'check_hold':<16} {found.check_hold.reason}")
    for change in found.changes[:10]:
        what = "removed" if change.settings is None else change.settings.product
        held = f", on hold: {change.settings.hold}" if change.settings and change.settings.hold else ""
        typer.echo(f"{'changed':<16} {change.at:%Y-%m-%d %H:%M:%S} by {change.by or 'unknown'}: {what}{held}")


@app.command("set")
def set_station(
    station: Station,
    *,
    product: Annotated[str, typer.Option(help="What is inspected there from now on.")],
    lot: Annotated[str | None, typer.Option(help="Lot of images that name none.")] = None,
    view: Annotated[str | None, typer.Option(help="View of images that name none.")] = None,
    priority: Annotated[str | None, typer.Option(help="Of images that name none: high or normal.")] = None,
    deadline_ms: Annotated[int | None, typer.Option(min=1, help="Of images that name none.")] = None,
    expected_view: Annotated[
        list[str] | None, typer.Option(help="A part without this view is for review; again for more.")
    ] = None,
    takt_ms: Annotated[
        int | None, typer.Option(min=1, help="Without a verdict so many ms after acceptance a part is for review.")
    ] = None,
    by: By = None,
    yes: Yes = False,
    url: ServiceUrl,
    key: AdminKey = None,
) -> None:
    """Set which product a station inspects from now on, as at a changeover; what is left out gets its default.

    A hold stays, and a takt that is left out: `glad station release` and `glad station takt` change them. Images that
    were accepted before stay as they are.

    Example: glad station set line-3 --product bracket --lot L-42
    """
    from pydantic import ValidationError

    from glad_client.answers import StationSettings

    optional: dict[str, Any] = {"lot": lot, "view": view, "priority": priority, "deadline_ms": deadline_ms}
    optional["takt_ms"] = takt_ms
    given = {name: value for name, value in optional.items() if value is not None}
    try:
        settings = StationSettings(product=product, expected_views=tuple(expected_view or ()), **given)
    except ValidationError as error:
        first = error.errors()[0]
        option = f"--{str(first['loc'][0]).removesuffix('s').replace('_', '-')}"
        raise typer.BadParameter(f"{option} is {first['input']!r}: {first['msg']}") from error
    with connected_client(url, key) as client:
        before = _present(client, station)
        kept = {} if before is None else before.model_dump(include={"hold", "takt_ms"} - set(given))
        _print_change(before, settings.model_copy(update=kept))
        confirm(f"Set {station} from now on?", yes)
        made = client.set_station(station, settings, by=by)
    typer.echo(f"{station} inspects {made.product} from now on")


@app.command()
def hold(
    station: Station,
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who look at the results.")],
    by: By = None,
    url: ServiceUrl,
    key: AdminKey = None,
) -> None:
    """Put a station on hold at once: no image that names it passes; what would pass is for review.

    Example: glad station hold line-3 --reason "images are blurred"
    """
    with connected_client(url, key) as client:
        made = client.hold_station(station, reason, by=by)
    typer.echo(f"{station} is on hold: {made.hold}")


@app.command()
def release(station: Station, *, by: By = None, yes: Yes = False, url: ServiceUrl, key: AdminKey = None) -> None:
    """Lift a station's hold: its images pass again. A failed check that stood behind it holds the station then.

    Example: glad station release line-3
    """
    with connected_client(url, key) as client:
        present = client.station(station)
        if present.hold is None:
            typer.echo(f"{station} is not on hold")
            return
        typer.echo(f"{station} inspects {present.product}, and is on hold: {present.hold}")
        if present.check_hold is None:
            question = f"Let images of {station} pass again?"
        else:
            question = f"{station} stays on hold after that: {present.check_hold.reason}. Lift this hold?"
        confirm(question, yes)
        made = client.hold_station(station, None, by=by, lifted=present.hold)
    typer.echo(f"{station} is not on hold any more" if made.hold is None else f"{station} is on hold: {made.hold}")


@app.command()
def takt(
    station: Station,
    *,
    ms: Annotated[int | None, typer.Option("--ms", min=1, help="Time of a part, in ms after its acceptance.")] = None,
    off: Annotated[bool, typer.Option("--off", help="No limit any more.")] = False,
    by: By = None,
    yes: Yes = False,
    url: ServiceUrl,
    key: AdminKey = None,
) -> None:
    """Set a station's takt: a part that has no verdict by then is for review, and an event says so.

    Example: glad station takt line-3 --ms 800
    """
    from glad_client.answers import StationSettings

    if (ms is None) != off:
        raise typer.BadParameter("give either --ms, such as --ms 800, or --off")
    with connected_client(url, key) as client:
        present = client.station(station)
        settings = StationSettings.model_validate(present.model_dump(exclude={"hold"}) | {"takt_ms": ms})
        _print_change(present, settings.model_copy(update={"hold": present.hold}))
        confirm(f"Set the takt of {station}?", yes)
        client.set_station(station, settings, by=by)
    typer.echo(f"{station} has no takt any more" if ms is None else f"{station} has a takt of {ms} ms")


@app.command()
def remove(station: Station, *, by: By = None, yes: Yes = False, url: ServiceUrl, key: AdminKey = None) -> None:
    """Remove a station: from now on its address takes no images. Its changes are kept.

    Example: glad station remove line-3
    """
    with connected_client(url, key) as client:
        present = client.station(station)
        typer.echo(f"{station} inspects {present.product} since {present.changed_at:%Y-%m-%d %H:%M}")
        confirm(f"Remove {station}?", yes)
        client.remove_station(station, by=by)
    typer.echo(f"{station} is removed")


def _present(client: Client, station: str) -> StationView | None:
    """Return the station as it is; None: it is not set."""
    return next((one for one in client.stations() if one.station == station), None)


def _print_change(before: StationSettings | None, after: StationSettings) -> None:
    old = {} if before is None else _shown(before)
    new = _shown(after)
    for name in FIELDS:
        was, becomes = old.get(name, "-"), new.get(name, "-")
        if was != "-" or becomes != "-":
            typer.echo(f"{name:<16} {was}" + (f"  ->  {becomes}" if was != becomes else "  (stays)"))


def _shown(settings: StationSettings) -> dict[str, str]:
    """Return the settings that are not left out, as texts."""
    values = settings.model_dump(mode="json", include=set(FIELDS))
    return {
        name: ", ".join(values[name]) if isinstance(values[name], list) else str(values[name])
        for name in FIELDS
        if values[name] not in (None, [])
    }

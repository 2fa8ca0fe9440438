"""`glad station limit-samples`: the known parts that a station is checked by, and the checks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.common import AdminKey, AsJson, By, ServiceUrl, Yes, confirm, connected_client

if TYPE_CHECKING:
    from glad_client.limit_samples import LimitCheck, LimitSample, LimitSamplesView

app = typer.Typer(
    name="limit-samples",
    help="Known good and bad parts that are shown to a station's camera, and checks by them.\n\n"
    "Example: glad station limit-samples show line-3",
    no_args_is_help=True,
    add_completion=False,
)

Station = Annotated[str, typer.Argument(metavar="STATION", help="The station's name, such as line-3.")]


@app.command()
def show(station: Station, *, url: ServiceUrl, key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show a station's limit samples, the last check by them, and the outcome of those before.

    Example: glad station limit-samples show line-3
    """
    with connected_client(url, key) as client:
        found = client.limit_samples(station)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    _print_samples(station, found)
    for check in (*([found.check] if found.check else []), *found.earlier):
        typer.echo(f"{'check':<8} {check.started_at:%Y-%m-%d %H:%M:%S} by {check.by or 'unknown'}: {check.state}")


@app.command("set")
def set_samples(
    station: Station,
    *,
    good: Annotated[list[str] | None, typer.Option(help="Serial of a part known to be good; again for more.")] = None,
    bad: Annotated[list[str] | None, typer.Option(help="Serial of a part known to be bad; again for more.")] = None,
    by: By = None,
    yes: Yes = False,
    url: ServiceUrl,
    key: AdminKey = None,
) -> None:
    """Set the limit samples of a station; those that were set before are replaced.

    Example: glad station limit-samples set line-3 --good LIMIT-GOOD-1 --bad LIMIT-BAD-1
    """
    samples = _samples(good or [], bad or [])
    with connected_client(url, key) as client:
        before = client.limit_samples(station)
        typer.echo(f"{len(before.samples)} samples before, {len(samples)} from now on")
        confirm(f"Set the limit samples of {station}?", yes)
        _print_samples(station, client.set_limit_samples(station, samples, by=by))


@app.command()
def check(station: Station, *, by: By = None, url: ServiceUrl, key: AdminKey = None) -> None:
    """Start a check: show the samples to the camera, in any order. The first wrong verdict holds the station.

    Example: glad station limit-samples check line-3 --by a.meier
    """
    with connected_client(url, key) as client:
        found = client.start_limit_check(station, by=by)
    typer.echo(f"the check of {station} runs: show {len(found.samples)} samples to its camera")


@app.command()
def cancel(station: Station, *, by: By = None, url: ServiceUrl, key: AdminKey = None) -> None:
    """End the check that runs, without an outcome.

    Example: glad station limit-samples cancel line-3
    """
    with connected_client(url, key) as client:
        client.cancel_limit_check(station, by=by)
    typer.echo(f"the check of {station} is cancelled")


def _samples(good: list[str], bad: list[str]) -> list[LimitSample]:
    from pydantic import ValidationError

    from glad_client.limit_samples import LimitSample

    try:
        goods = [LimitSample(serial=serial, expected="good") for serial in good]
        return goods + [LimitSample(serial=serial, expected="bad") for serial in bad]
    except ValidationError as error:
        raise typer.BadParameter(f"serial {error.errors()[0]['input']!r}: {error.errors()[0]['msg']}") from error


def _print_samples(station: str, found: LimitSamplesView) -> None:
    if not found.samples:
        typer.echo(f"{station} has no limit samples")
    for sample in found.samples:
        shown = f"  {_verdict(found.check, sample.serial)}" if found.check else ""
        typer.echo(f"{sample.expected:<8} {sample.serial}{shown}")


def _verdict(check: LimitCheck, serial: str) -> str:
    verdict = next((one.verdict for one in check.samples if one.serial == serial), None)
    return verdict.value if verdict else "not shown"

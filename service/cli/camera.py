"""`glad camera`: posts a folder of images at a fixed rate, or watches it as a hot folder, and prints the verdicts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import give_up
from service.cli.common import ServiceUrl, open_client

if TYPE_CHECKING:
    from rich.text import Text

    from glad_client.camera.destination import Destination
    from glad_client.camera.line_camera import CameraShot


def camera(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Folder of images, with its subfolders.")
    ],
    *,
    product: Annotated[
        str | None, typer.Option(help="Product of the images; without it, the station's product.")
    ] = None,
    station: Annotated[str | None, typer.Option(help="Station that takes the images.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A field of every image, such as lot=L-42.")
    ] = None,
    name_pattern: Annotated[
        str | None, typer.Option(help="Fields from each file's name, such as '(?P<serial>SN[0-9]+)'.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Images per second.")] = 2.0,
    url: ServiceUrl,
    key: Annotated[
        str | None, typer.Option(help="API key with the scopes submit and read.", envvar="GLAD_API_KEY")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for every result.")] = True,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for one result.")] = 600.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Post only the first so many images.")] = None,
    again: Annotated[bool, typer.Option(help="Inspect images again that were posted before.")] = False,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write all results to this file.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Do not end: post the images that appear in the folder.")
    ] = False,
    move_to: Annotated[
        Path | None, typer.Option(file_okay=False, help="With --watch: move posted files to this folder.")
    ] = None,
    settle: Annotated[
        float, typer.Option(min=0, help="With --watch: seconds without change before a file is posted.")
    ] = 1.0,
) -> None:
    """Post a folder of images as a line camera would, at a fixed rate, and print the verdicts as they come.

    Example: glad camera photos/ --product bracket --rate 2
    """
    destination = _destination(product, station, field or [], name_pattern)
    wait_s = patience if wait else None
    if watch:
        if limit is not None or again or json is not None:
            give_up("--watch does not end: leave out --limit, --again and --json")
        _watch(folder, destination, url, key, wait_s, move_to=move_to, settle_s=settle)
    elif move_to is not None:
        give_up("--move-to moves the files that --watch has posted: give --watch with it")
    else:
        run = str(uuid.uuid4()) if again else ""
        _post_folder(folder, destination, url, key, wait_s, rate=rate, limit=limit, run=run, json=json)


def _destination(product: str | None, station: str | None, fields: list[str], pattern: str | None) -> Destination:
    """Return where the images go, and their fields; the command ends if the options do not fit together."""
    from glad_client.camera.destination import Destination, Labels

    if product is None and station is None:
        give_up("say what the images show: --product, or --station for the product that is set for the station")
    try:
        return Destination(product, station, Labels.parse(fields, pattern))
    except ValueError as error:
        give_up(error)


def _check_service(url: str, key: str | None, product: str | None) -> None:
    """End the command if no service answers, or it does not know the product: otherwise every image would fail."""
    from glad_client.errors import ApiError, ClientError

    try:
        with open_client(url, key, patience_s=10) as client:
            products = client.products()
    except ApiError as error:
        give_up(f"{url} refuses: {error}. Give a key with the scopes submit and read by GLAD_API_KEY or --key")
    except ClientError as error:
        give_up(f"no service at {url} ({error}): start one with `glad serve`, or name another with --url")
    if product is not None and product not in products:
        give_up(f"no product {product!r} at {url}; it has: {', '.join(products) or 'none yet'}")


def _post_folder(
    folder: Path,
    destination: Destination,
    url: str,
    key: str | None,
    wait_s: float | None,
    *,
    rate: float,
    limit: int | None,
    run: str,
    json: Path | None,
) -> None:
    """Post the images that the folder holds now; exit status 1 if one of them has no result."""
    from glad_client.camera.line_camera import LineCamera, find_images, make_report

    try:
        files = find_images(folder, limit)
    except (ValueError, OSError) as error:
        give_up(error)
    _check_service(url, key, destination.product)
    with open_client(url, key) as client:
        line_camera = LineCamera(client, destination, rate, run=run)
        began = time.monotonic()
        shots = _print_shots(line_camera.shoot(folder, files, wait_s), len(files))
        report = make_report(line_camera, shots, time.monotonic() - began)
    if json is not None:
        json.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    done = sum(shot.is_accepted for shot in shots) if wait_s is None else report.results
    ended = "accepted" if wait_s is None else "inspected"
    print(f"\n{done} of {report.images} images {ended} in {report.seconds:.1f} s")
    if done < report.images:
        raise SystemExit(1)


def _watch(
    folder: Path,
    destination: Destination,
    url: str,
    key: str | None,
    wait_s: float | None,
    *,
    move_to: Path | None,
    settle_s: float,
) -> None:
    """Post the images that appear, until SIGINT or SIGTERM; wait for a service that cannot be reached."""
    import signal
    import threading

    from rich.console import Console
    from rich.text import Text

    from glad_client.camera.hot_folder import HotFolder
    from glad_client.camera.line_camera import header

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    console = Console(highlight=False, soft_wrap=True)
    with open_client(url, key, patience_s=5) as client:
        try:
            hot_folder = HotFolder(client, destination, folder, move_to=move_to, settle_s=settle_s)
            console.print(Text(header(), style="bold"))
            for shot in hot_folder.run(stopped, wait_s):
                console.print(_row(shot))
        except OSError as error:
            give_up(f"{folder} cannot be watched: {error}")


def _print_shots(shots: Iterator[CameraShot], count: int) -> list[CameraShot]:
    """Print each outcome as it comes, above a progress bar if there is a terminal; return all of them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from glad_client.camera.line_camera import header

    console, printed = Console(highlight=False, soft_wrap=True), []
    columns = (TextColumn("inspected"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console.print(Text(header(), style="bold"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("inspected", total=count)
        for shot in shots:
            console.print(_row(shot))
            progress.advance(task)
            printed.append(shot)
    return printed


def _row(shot: CameraShot) -> Text:
    """Return a line of the table in the colour of its verdict."""
    from rich.text import Text

    from glad_client.camera.line_camera import row

    colours = {"pass": "green", "review": "yellow", "fail": "red"}
    verdict = shot.inspection.verdict if shot.inspection else None
    return Text(row(shot), style=colours.get(str(verdict), "") if verdict else "bold red")

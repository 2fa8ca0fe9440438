"""`glad camera`: posts a folder, or what appears in one. It imports what it needs when it is called."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store.command import give_up

if TYPE_CHECKING:
    from service.addressee import Addressee


def camera(  # noqa: PLR0917 - typer hands options over by name
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images; subfolders too.")],
    product: Annotated[str | None, typer.Option(help="Product to inspect them as; else the station's.")] = None,
    station: Annotated[str | None, typer.Option(help="Where they are taken; without --product, its address.")] = None,
    field: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of every image: lot=L-42.")] = None,
    name_pattern: Annotated[str | None, typer.Option(help="Fields from each name: '(?P<serial>SN[0-9]+)'.")] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Images per second.")] = 2.0,
    url: Annotated[str, typer.Option(help="The service.", envvar="GLAD_URL")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(help="API key: submit, read.", envvar="GLAD_API_KEY")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for every result.")] = True,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for one result.")] = 600.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Post only so many images.")] = None,
    again: Annotated[bool, typer.Option(help="Inspect anew what was posted before.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write all results to this file.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and post what appears in the folder.")] = False,
    move_to: Annotated[Path | None, typer.Option(help="With --watch: move posted files there.")] = None,
    settle: Annotated[float, typer.Option(min=0, help="With --watch: seconds without change.")] = 1.0,
) -> None:
    """Post a folder as a line camera would, at a fixed rate, and print the verdicts as they come."""
    from service.camera import Camera, find_images, report
    from service.client import Client

    addressee = _addressee(product, station, field or [], name_pattern)
    if watch:
        if limit is not None or again or json is not None:
            give_up("--watch goes on without end: leave out --limit, --again and --json")
        _watch(folder, addressee, url, key, patience if wait else None, move_to=move_to, settle_s=settle)
        return
    if move_to is not None:
        give_up("--move-to moves what a hot folder has posted: give --watch with it")
    try:
        files = find_images(folder, limit)
    except ValueError as error:
        give_up(error)
    _refuse_unknown(url, key, product)
    with Client(url, api_key=key) as client:
        line = Camera(client, addressee, rate, run=str(uuid.uuid4()) if again else "")
        began = time.monotonic()
        shots = _shown(line.shoot(folder, files, patience if wait else None), len(files))
        found = report(line, shots, time.monotonic() - began)
    if json is not None:
        json.write_text(found.model_dump_json(indent=2) + "\n")
    done = found.results if wait else sum(shot.is_accepted for shot in shots)
    print(f"\n{done} of {found.images} images {'inspected' if wait else 'accepted'} in {found.seconds:.1f} s")
    if done < found.images:
        raise SystemExit(1)


def _watch(
    folder: Path,
    addressee: Addressee,
    url: str,
    key: str | None,
    wait_s: float | None,
    *,
    move_to: Path | None,
    settle_s: float,
) -> None:
    """Posts what appears until SIGINT or SIGTERM. A service that is away is waited for."""
    import signal
    import threading

    from rich.console import Console
    from rich.text import Text

    from service.camera import header
    from service.client import Client
    from service.hot_folder import HotFolder

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    console = Console(highlight=False, soft_wrap=True)
    with Client(url, api_key=key, patience_s=5) as client:
        try:
            hot = HotFolder(client, addressee, folder, move_to=move_to, settle_s=settle_s)
            console.print(Text(header(), style="bold"))
            for shot in hot.run(stopped, wait_s):
                console.print(_row(shot))
        except OSError as error:
            give_up(f"{folder} cannot be watched: {error}")


def _row(shot: Any) -> Any:
    """A line of the table in the colour of its verdict."""
    from rich.text import Text

    from service.camera import row

    colours = {"pass": "green", "review": "yellow", "fail": "red"}
    verdict = shot.inspection.verdict if shot.inspection else None
    return Text(row(shot), style=colours.get(str(verdict), "") if verdict else "bold red")


def _addressee(product: str | None, station: str | None, fields: list[str], pattern: str | None) -> Addressee:
    from service.addressee import Addressee, Labels

    if product is None and station is None:
        give_up("say what the images show: --product, or --station for the product that it is set to")
    try:
        return Addressee(product, station, Labels.parse(fields, pattern))
    except ValueError as error:
        give_up(error)


def _refuse_unknown(url: str, key: str | None, product: str | None) -> None:
    """Says at once that nobody serves there, or that the product is not known: better than once per image."""
    from service.client import ApiError, Client, ClientError

    try:
        with Client(url, api_key=key, patience_s=10) as client:
            known = client.products()
    except ApiError as error:
        give_up(f"{url} refuses: {error}. Name a key with the scopes submit and read with GLAD_API_KEY or --key")
    except ClientError as error:
        give_up(f"no service at {url} ({error}): start one with `glad serve`, or name another with --url")
    if product is not None and product not in known:
        give_up(f"no product {product!r} at {url}; known: {', '.join(known) or 'none yet'}")


def _shown(shots: Any, count: int) -> list[Any]:
    """Prints each outcome as it comes, over a progress bar where there is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from service.camera import header

    console, seen = Console(highlight=False, soft_wrap=True), []
    columns = (TextColumn("inspected"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console.print(Text(header(), style="bold"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("inspected", total=count)
        for shot in shots:
            console.print(_row(shot))
            progress.advance(task)
            seen.append(shot)
    return seen

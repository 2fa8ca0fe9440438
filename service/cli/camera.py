"""What `glad camera` does, and what it shows meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_store.cli.common import give_up

if TYPE_CHECKING:
    from service.client.destination import Destination


def watch(
    folder: Path,
    addressee: Destination,
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

    from service.client.camera import header
    from service.client.client import Client
    from service.client.hot_folder import HotFolder

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

    from service.client.camera import row

    colours = {"pass": "green", "review": "yellow", "fail": "red"}
    verdict = shot.inspection.verdict if shot.inspection else None
    return Text(row(shot), style=colours.get(str(verdict), "") if verdict else "bold red")


def addressee_of(product: str | None, station: str | None, fields: list[str], pattern: str | None) -> Destination:
    """Whose images they are, and what is said of them; ends the command where that cannot be."""
    from service.client.destination import Destination, Labels

    if product is None and station is None:
        give_up("say what the images show: --product, or --station for the product that it is set to")
    try:
        return Destination(product, station, Labels.parse(fields, pattern))
    except ValueError as error:
        give_up(error)


def refuse_unknown(url: str, key: str | None, product: str | None) -> None:
    """Says at once that nobody serves there, or that the product is not known: better than once per image."""
    from service.client.client import ApiError, Client, ClientError

    try:
        with Client(url, api_key=key, patience_s=10) as client:
            known = client.products()
    except ApiError as error:
        give_up(f"{url} refuses: {error}. Name a key with the scopes submit and read with GLAD_API_KEY or --key")
    except ClientError as error:
        give_up(f"no service at {url} ({error}): start one with `glad serve`, or name another with --url")
    if product is not None and product not in known:
        give_up(f"no product {product!r} at {url}; known: {', '.join(known) or 'none yet'}")


def shown(shots: Any, count: int) -> list[Any]:
    """Prints each outcome as it comes, over a progress bar where there is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from service.client.camera import header

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

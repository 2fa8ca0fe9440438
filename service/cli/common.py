"""Parts that the commands of the service share: options, settings, the service's Redis, and errors as one sentence.

Imports stand inside the functions, so that reading a command's help loads neither Redis nor the service.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store.cli.common import give_up

if TYPE_CHECKING:
    import redis

    from glad_client.client import Client
    from service.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="The data folder of `glad serve`. [GLAD_DATA_DIR, ~/.local/state/glad]"),
]
RedisBin = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="The redis-server to start while `glad serve` does not run."),
]
DEFAULT_PORT = 8000


def local_address() -> str:
    """Return the address of a service on this machine: at the port that GLAD_PORT sets for `glad serve`.

    If GLAD_PORT is no port, the command ends; 0, any free one, says nothing of where the service is.
    """
    port = os.environ.get("GLAD_PORT", "").strip()
    if port and not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        give_up(f"GLAD_PORT is {port!r}, and sets where --url looks: give 1 to 65535, or the whole address as --url")
    return f"http://127.0.0.1:{int(port or 0) or DEFAULT_PORT}"


ServiceUrl = Annotated[
    str,
    typer.Option(
        "--url",
        help="Address of the service.",
        envvar="GLAD_URL",
        default_factory=local_address,
        show_default=f"http://127.0.0.1 at GLAD_PORT, else {DEFAULT_PORT}",
    ),
]
AdminKey = Annotated[
    str | None,
    typer.Option("--key", help="API key with the scope admin; read is enough to look.", envvar="GLAD_API_KEY"),
]
By = Annotated[str | None, typer.Option("--by", help="Who changes it. Default: the name of the API key.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before changing what is inspected by.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def load_settings(**options: Any) -> Settings:
    """Return the service's settings: the options that were given, else the environment, else the defaults.

    The command ends with one sentence for each setting that is not valid.
    """
    from pydantic import ValidationError

    from service.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        give_up(Settings.describe_errors(error, options=given))


def misspelt_settings(environment: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that is no setting, and differs little from one: it would have no effect."""
    from difflib import get_close_matches

    from service.outbox.settings import OutboxSettings

    known = {f"GLAD_{name.upper()}" for name in OutboxSettings.model_fields}
    unknown = sorted(name for name in environment if name.startswith("GLAD_") and name not in known)
    meant = {name: get_close_matches(name, known, n=1, cutoff=0.85) for name in unknown}
    return [f"{name} is no setting: did you mean {close[0]}?" for name, close in meant.items() if close]


@contextmanager
def service_redis(settings: Settings, redis_bin: Path | None = None) -> Iterator[redis.Redis]:
    """Yield a client of the service's Redis; the command ends with the reason if there is none."""
    from service.errors import StartError
    from service.host.private_redis import connect_for_command

    try:
        with connect_for_command(settings, redis_bin) as client:
            yield client
    except StartError as error:
        give_up(error)


def open_client(url: str, key: str | None, patience_s: float = 60.0) -> Client:
    """Return a client of the service; an address or a key that cannot be one ends the command."""
    from glad_client.client import Client

    try:
        return Client(url, api_key=key, patience_s=patience_s)
    except ValueError as error:
        give_up(error)


@contextmanager
def connected_client(url: str, key: str | None) -> Iterator[Client]:
    """Yield a client of a running service; a refusal, or no answer, ends the command with one sentence."""
    from glad_client.errors import ApiError, ClientError

    try:
        with open_client(url, key, patience_s=2) as client:
            yield client
    except ApiError as error:
        hint = ". Give a key that may do this by GLAD_API_KEY or --key" if error.status in (401, 403) else ""
        give_up(f"{url} refuses: {error}{hint}")
    except ClientError as error:
        give_up(f"no service at {url} ({error}): start one with `glad serve`, or name another with --url")


def confirm(question: str, yes: bool) -> None:
    """Ask a person before a change of what lines inspect by; the command ends unless the answer is yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        give_up(f"nothing was changed: {question} Add --yes where nobody can be asked")
    if not typer.confirm(question):
        give_up("nothing was changed")

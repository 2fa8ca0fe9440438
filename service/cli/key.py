"""`glad key`: who may call the service."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import give_up

if TYPE_CHECKING:
    from service.auth.api_keys import ApiKey, KeyStore
    from service.auth.scopes import Scope

app = typer.Typer(
    name="key",
    help="Make, list and revoke API keys.",
    no_args_is_help=True,
    add_completion=False,
)

DataDir = Annotated[Path | None, typer.Option(help="The service's data folder. [GLAD_DATA_DIR, ~/.local/state/glad]")]
RedisBin = Annotated[Path | None, typer.Option(help="The redis-server to run while `glad serve` does not.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is: line-3, mes, dashboard.")],
    scope: Annotated[str, typer.Option(help="submit, read, review, admin: one, or several with commas.")],
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
) -> None:
    """Make a key and print it, once: what is kept is only its hash."""
    from service.auth.scopes import Scope

    scopes = [_scope(word.strip(), list(Scope)) for word in scope.split(",")]
    with _key_store(data_dir, redis_bin) as store:
        made = store.create(name, scopes)
    print(made)
    print(
        f"Keep it: it is not shown again. Every API process knows it in about {_refresh_s():g} s.\n"
        "Send it as `Authorization: Bearer KEY`; `glad camera` takes it from GLAD_API_KEY.",
        file=sys.stderr,
    )


@app.command("list")
def list_keys(
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Every key ever made, with its scopes; never the key itself."""
    with _key_store(data_dir, redis_bin) as store:
        found = store.list_keys()
    if as_json:
        print(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in found], indent=2))
        return
    if not found:
        print("no key has been made: glad key create NAME --scope submit,read", file=sys.stderr)
    for key in found:
        print(_row(key))


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name, or its id.")],
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
) -> None:
    """End a key for good. Every API process refuses it within seconds."""
    with _key_store(data_dir, redis_bin) as store:
        ended = store.revoke(name)
    print(f"revoked {ended.name} ({ended.id}); every API process refuses it in about {_refresh_s():g} s")


def _row(key: ApiKey) -> str:
    scopes = ",".join(sorted(key.scopes))
    ended = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "in use"
    return f"{key.id}  {key.name:<20}  {scopes:<26}  made {key.created_at:%Y-%m-%d %H:%M}  {ended}"


def _scope(word: str, known: list[Scope]) -> Scope:
    found = next((scope for scope in known if scope.value == word), None)
    if found is None:
        give_up(f"{word!r} is no scope: choose from {', '.join(known)}")
    return found


def _refresh_s() -> float:
    from service.auth.key_cache import REFRESH_S

    return REFRESH_S


@contextmanager
def _key_store(data_dir: Path | None, redis_bin: Path | None) -> Iterator[KeyStore]:
    """The keys of the service that the settings name; ends the command with the reason where that cannot be."""
    from pydantic import ValidationError

    from service.auth.api_keys import KeyStore
    from service.errors import StartError
    from service.host.private_redis import connect_for_command
    from service.settings import Settings

    try:
        settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
        with connect_for_command(settings, redis_bin) as client:
            yield KeyStore(client)
    except ValidationError as error:
        give_up(
            "; ".join(f"{'.'.join(map(str, one['loc']))} is {one['input']!r}: {one['msg']}" for one in error.errors())
        )
    except (StartError, ValueError) as error:
        give_up(error)

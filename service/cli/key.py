"""`glad key`: makes, lists and revokes API keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import give_up
from service.cli.common import AsJson, DataDir, RedisBin, load_settings, service_redis

if TYPE_CHECKING:
    from service.auth.api_keys import ApiKey, KeyStore
    from service.auth.scopes import Scope

app = typer.Typer(
    name="key",
    help="Make, list and revoke API keys.\n\nExample: glad key list",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the holder: line-3, mes, dashboard.")],
    scope: Annotated[str, typer.Option(help="What the key allows: submit, read, review, admin; several with commas.")],
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
) -> None:
    """Make a key and print it. It is shown this one time: only its hash is stored.

    Example: glad key create line-3 --scope submit,read
    """
    from service.auth.scopes import Scope

    scopes = [_scope(word.strip(), list(Scope)) for word in scope.split(",")]
    with _key_store(data_dir, redis_bin) as store:
        made = store.create(name, scopes)
    print(made)
    print(
        f"Keep it: it is not shown again. Every API process accepts it in about {_refresh_s():g} s.\n"
        "Send it as `Authorization: Bearer KEY`; `glad camera` takes it from GLAD_API_KEY.",
        file=sys.stderr,
    )


@app.command("list")
def list_keys(
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
    as_json: AsJson = False,
) -> None:
    """List all keys that were made, with their scopes, but without the keys themselves.

    Example: glad key list
    """
    with _key_store(data_dir, redis_bin) as store:
        api_keys = store.list_keys()
    if as_json:
        print(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in api_keys], indent=2))
        return
    if not api_keys:
        print("no key has been made: glad key create NAME --scope submit,read", file=sys.stderr)
    for key in api_keys:
        print(_row(key))


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name or id.")],
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
) -> None:
    """Revoke a key for good. Every API process refuses it within seconds.

    Example: glad key revoke line-3
    """
    with _key_store(data_dir, redis_bin) as store:
        revoked = store.revoke(name)
    print(f"revoked {revoked.name} ({revoked.id}); every API process refuses it in about {_refresh_s():g} s")


def _row(key: ApiKey) -> str:
    scopes = ",".join(sorted(key.scopes))
    state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "in use"
    return f"{key.id}  {key.name:<20}  {scopes:<26}  made {key.created_at:%Y-%m-%d %H:%M}  {state}"


def _scope(word: str, known: list[Scope]) -> Scope:
    scope = next((scope for scope in known if scope.value == word), None)
    if scope is None:
        give_up(f"{word!r} is not a scope: choose from {', '.join(known)}")
    return scope


def _refresh_s() -> float:
    from service.auth.api_keys import REFRESH_S

    return REFRESH_S


@contextmanager
def _key_store(data_dir: Path | None, redis_bin: Path | None) -> Iterator[KeyStore]:
    """Yield the keys of the service that the settings name; the command ends with the reason if that fails."""
    from pydantic import ValidationError

    from service.auth.api_keys import KeyStore

    try:
        with service_redis(load_settings(data_dir=data_dir), redis_bin) as client:
            yield KeyStore(client)
    except ValidationError as error:
        give_up("; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors()))
    except ValueError as error:
        give_up(error)

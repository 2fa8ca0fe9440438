"""Parts that the commands of the service share: options, settings, the service's Redis, and errors as one sentence.

Imports stand inside the functions, so that reading a command's help loads neither Redis nor the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store.cli.common import give_up

if TYPE_CHECKING:
    import redis

    from service.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="The data folder of `glad serve`. [GLAD_DATA_DIR, ~/.local/state/glad]"),
]
RedisBin = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="The redis-server to start while `glad serve` does not run."),
]
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

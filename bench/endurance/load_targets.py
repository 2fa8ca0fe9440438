"""The targets of the load: a web server, Redis, or the disk. Each sends arrival number n and returns its answer.

Run as a program it is the bare app: a web server that only reads an image and answers 202, the ceiling of accepting
over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from redis.exceptions import RedisError

from bench.support.open_loop import Send, TargetAnswer
from service.contract import IMAGE, Job, new_inspection_id
from service.queue.admission import Admission
from service.queue.connection import connect_async
from service.queue.submitter import JobSubmitter
from service.storage.artifacts import ArtifactStore

CONNECTIONS = 64
"""Of the client at most, as many as cameras that wait for an answer at a time."""
NO_LIMIT = 10**9


@asynccontextmanager
async def posting(url: str, images: Sequence[bytes]) -> AsyncIterator[Send]:
    """Yield a call that POSTs the images in turn, each under a key of its own."""
    timeout = aiohttp.ClientTimeout(total=120)
    run = new_inspection_id()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS), timeout=timeout) as session:

        async def send(number: int) -> TargetAnswer:
            headers = {"Idempotency-Key": f"{run}-{number}", "Content-Type": "image/jpeg"}
            try:
                async with session.post(url, data=images[number % len(images)], headers=headers) as answer:
                    body = await answer.read()
            except aiohttp.ClientError as error:
                raise ConnectionError(str(error)) from error
            if answer.status != 202:
                return TargetAnswer(accepted=False, refused=answer.status in {429, 503})
            return TargetAnswer(accepted=True, id=json.loads(body).get("id"))

        yield send


@asynccontextmanager
async def submitting(redis_url: str, like: Job) -> AsyncIterator[Send]:
    """Yield a call that writes to Redis what the API writes when it accepts an image: the submit script, with jobs like
    this one.
    """
    client = connect_async(redis_url)
    submitter = JobSubmitter(client, max_backlog=NO_LIMIT)

    async def send(number: int) -> TargetAnswer:
        inspection_id = new_inspection_id()
        job = like.model_copy(update={"id": inspection_id, "image_ref": ArtifactStore.ref(inspection_id, IMAGE)})
        try:
            found = await submitter.submit(job, idempotency_key=inspection_id, fingerprint=job.image_sha256)
        except RedisError as error:
            raise ConnectionError(str(error)) from error
        return TargetAnswer(accepted=found.admission is Admission.ADMITTED, id=inspection_id)

    try:
        yield send
    finally:
        await client.aclose()


@asynccontextmanager
async def storing(folder: Path, images: Sequence[bytes]) -> AsyncIterator[Send]:
    """Yield a call that writes images to the disk as the API does: fsynced, from threads."""
    store = ArtifactStore(folder)

    async def send(number: int) -> TargetAnswer:
        inspection_id = new_inspection_id()
        await asyncio.to_thread(store.put, inspection_id, IMAGE, images[number % len(images)])
        return TargetAnswer(accepted=True, id=inspection_id)

    yield send


ANSWER = b'{"state":"queued"}'


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body to its end, piece by piece, keep none of it, and answer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    status = 202 if scope["method"] == "POST" else 200  # the latter for who asks whether it lives
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    """Serve on the inherited socket until the process is killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.endurance.load_targets", description="The bare app.")
    parser.add_argument("--fd", type=int, required=True, help="an inherited, listening TCP socket")
    given = parser.parse_args()
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=given.fd)])


if __name__ == "__main__":
    main()

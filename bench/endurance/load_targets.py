"""What the load goes to: a web server, Redis, or the disk. Each sends arrival number n, and says what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from redis.exceptions import RedisError

from bench.support.open_loop import Answer, Send
from service.contract import IMAGE, Job, new_inspection_id
from service.queue.connection import connect_async
from service.queue.submitter import JobSubmitter, Outcome
from service.storage.artifacts import ArtifactStore

CONNECTIONS = 64
"""Of the client at most, as many as cameras that wait for an answer at a time."""
NO_LIMIT = 10**9


@asynccontextmanager
async def posting(url: str, images: Sequence[bytes]) -> AsyncIterator[Send]:
    """POSTs images in turn, each under a key of its own."""
    timeout = aiohttp.ClientTimeout(total=120)
    run = new_inspection_id()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS), timeout=timeout) as session:

        async def send(number: int) -> Answer:
            headers = {"Idempotency-Key": f"{run}-{number}", "Content-Type": "image/jpeg"}
            try:
                async with session.post(url, data=images[number % len(images)], headers=headers) as answer:
                    body = await answer.read()
            except aiohttp.ClientError as error:
                raise ConnectionError(str(error)) from error
            if answer.status != 202:
                return Answer(accepted=False, refused=answer.status in {429, 503})
            return Answer(accepted=True, id=json.loads(body).get("id"))

        yield send


@asynccontextmanager
async def submitting(redis_url: str, like: Job) -> AsyncIterator[Send]:
    """Writes to Redis what the API writes when it accepts an image: the submit script, with jobs like this one."""
    client = connect_async(redis_url)
    submitter = JobSubmitter(client, max_backlog=NO_LIMIT)

    async def send(number: int) -> Answer:
        inspection_id = new_inspection_id()
        job = like.model_copy(update={"id": inspection_id, "image_ref": ArtifactStore.ref(inspection_id, IMAGE)})
        try:
            found = await submitter.submit(job, idempotency_key=inspection_id, fingerprint=job.image_sha256)
        except RedisError as error:
            raise ConnectionError(str(error)) from error
        return Answer(accepted=found.outcome is Outcome.ACCEPTED, id=inspection_id)

    try:
        yield send
    finally:
        await client.aclose()


@asynccontextmanager
async def storing(folder: Path, images: Sequence[bytes]) -> AsyncIterator[Send]:
    """Writes images to the disk as the API does: fsynced, from threads."""
    store = ArtifactStore(folder)

    async def send(number: int) -> Answer:
        inspection_id = new_inspection_id()
        await asyncio.to_thread(store.put, inspection_id, IMAGE, images[number % len(images)])
        return Answer(accepted=True, id=inspection_id)

    yield send

"""A store of bundles that hangs, as on a share whose server is gone: every call ends, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import redis

from model_store.product_state import STATE_NAME
from service.api.bounded_calls import AT_ONCE, BoundedCalls
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.evaluations import measured_quality
from tests.support.gates import a_gate
from tests.support.line import picture
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

TOY, OTHER = "/v1/products/toy", "/v1/products/other"
GATE = a_gate()


@pytest.fixture
async def api(
    start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, tmp_path: Path
) -> AsyncIterator[Running]:
    """A service with two products, each with an active version, in a store that can be written."""
    for product in ("toy", "other"):
        write_toy(tmp_path / "store" / product / "1", gate=GATE)
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "store"))
    for product in (TOY, OTHER):
        assert (await running.http.post(f"{product}/inspections", content=picture())).status_code == 202
    yield running
    eventually(lambda: not threads_of_changes())


def threads_of_changes() -> list[str]:
    """The threads that still change a product."""
    return [thread.name for thread in threading.enumerate() if thread.name == "changes"]


@contextmanager
def never_answered(seconds: float = 0.5) -> Iterator[None]:
    """Calls end after less time than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.api.problems.BUNDLES_ANSWER_S", seconds)
        yield


@contextmanager
def no_writer_gets_through(product: Path) -> Iterator[None]:
    """Who writes the product's state waits, as behind another process that hangs on the share while it writes."""
    descriptor = os.open(product / "._product.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def state_that_hangs(product: Path) -> Iterator[None]:
    """Who reads the product's state waits until the block ends."""
    state, fifo = product / STATE_NAME, product / ".fifo"
    content = state.read_bytes()
    state.unlink()
    os.mkfifo(state)
    try:
        yield
    finally:
        state.rename(fifo)
        state.write_bytes(content)
        with suppress(OSError), os.fdopen(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "wb") as answering:
            answering.write(content)  # nobody may wait


def is_refused(answer: httpx.Response) -> bool:
    """Whether the answer says that the store is away, and when to come again."""
    return (answer.status_code, answer.json()["type"]) == (
        503,
        "urn:glad:problem:storage-unavailable",
    ) and "retry-after" in answer.headers


async def test_while_a_product_cannot_be_written_its_changes_are_503_and_are_not_made_later(
    api: Running, tmp_path: Path
) -> None:
    record = measured_quality(api.services.store.resolve("toy").hash).model_dump(mode="json", exclude_none=True)
    evaluations = f"{TOY}/versions/1/evaluations"
    known = (await api.http.post(evaluations, json=record)).json()["id"]
    before = (await api.http.get(TOY)).json()
    with no_writer_gets_through(tmp_path / "store" / "toy"), never_answered():
        for answer in await asyncio.gather(
            api.http.patch(f"{TOY}/thresholds", json={"fail": 0.9}),
            api.http.put(f"{TOY}/gate", json={"on": False}),
            api.http.patch(f"{TOY}/gate", json={"limits": {"darkest": 20}}),
            api.http.post(evaluations, json={**record, "note": "late"}),
        ):
            assert is_refused(answer), answer.text
            assert "most likely not made" in answer.json()["detail"]
        # All turns of the product are taken by calls that nobody waits for: the next is refused at once.
        assert len(threads_of_changes()) == AT_ONCE
        assert is_refused(await api.http.delete(f"{evaluations}/{known}"))
        assert len(threads_of_changes()) == AT_ONCE
        assert (await api.http.post(f"{TOY}/inspections", content=picture())).status_code == 202
        assert (await api.http.put(f"{OTHER}/gate", json={"on": False})).status_code == 200
    eventually(lambda: not threads_of_changes())
    assert (await api.http.get(TOY)).json() == before
    assert (await api.http.put(f"{TOY}/gate", json={"on": False})).status_code == 200
    assert (await api.http.get(TOY)).json()["revision"] == before["revision"] + 1


async def test_while_one_products_files_hang_no_other_products_call_waits(api: Running, tmp_path: Path) -> None:
    with state_that_hangs(tmp_path / "store" / "toy"):
        calls = [api.http.post(f"{TOY}/inspections", content=picture()) for _ in range(10)]
        calls += [api.http.get(TOY), api.http.patch(f"{TOY}/thresholds", json={"fail": 0.9})]
        with never_answered(3):
            hung = [asyncio.create_task(call) for call in calls]
            await asyncio.sleep(0.2)
        async with asyncio.timeout(30):
            for answer in await asyncio.gather(
                *(api.http.post(f"{OTHER}/inspections", content=picture()) for _ in range(10)),
                api.http.put(f"{OTHER}/gate", json={"on": False}),
            ):
                assert answer.status_code in (200, 202), answer.text
        assert not any(task.done() for task in hung), "they still wait for the share"
        for answer in await asyncio.gather(*hung):
            assert is_refused(answer), answer.text
    while (answer := await api.http.post(f"{TOY}/inspections", content=picture())).status_code == 503:
        await asyncio.sleep(0.1)
    assert answer.status_code == 202


async def test_a_hung_call_that_ends_makes_room_and_products_are_forgotten() -> None:
    calls, goes_on = BoundedCalls("calls"), threading.Event()
    hung = [calls.run("hung", 0.1, goes_on.wait) for _ in range(AT_ONCE + 1)]
    assert [type(end) for end in await asyncio.gather(*hung, return_exceptions=True)] == [TimeoutError] * (AT_ONCE + 1)
    with pytest.raises(TimeoutError, match="earlier calls still wait for an answer"):
        await calls.run("hung", 60, goes_on.wait)
    assert await calls.run("healthy", 60, lambda: 1) == 1
    goes_on.set()
    async with asyncio.timeout(60):
        while calls.known:
            await asyncio.sleep(0.01)
    assert await calls.run("hung", 60, lambda: 2) == 2

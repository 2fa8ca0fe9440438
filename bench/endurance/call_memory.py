"""The memory that a call leaves behind: a process's own memory before and after thousands of the same calls, in rounds.

An hour at the pace of a line shows whether memory grows, slowly. This shows in minutes which call makes it grow: the
first rounds fill caches, pools and the allocator's gaps; after that nothing more may be kept. Each call comes on a
connection of its own, several at a time, as calls of cameras do.

"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.endurance.checkout import SMALL, toy_bundle
from bench.endurance.soak_load import IMAGES, jpegs
from bench.support.process_watch import ProcessWatch
from bench.support.servers import RunningService, served

AT_A_TIME = 4
FOLLOWED_S = 0.15
PROCESSES = frozenset({"API", "worker"})
"""Those that the calls reach."""

Call = Callable[[httpx.AsyncClient, int], Awaitable[None]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class CallMemoryPlan:
    """The number of calls in a round, and the number of rounds."""

    rounds: int = 6
    calls: int = 1000
    """The number of calls of the most frequent kind; the others have their shares."""
    quiet_s: float = 1.5
    """After each batch: what was accepted ends, and what was freed goes back to the system."""


@dataclass(frozen=True)
class CallBatch:
    """Many times the same call, and one process's memory before and after."""

    round: int
    call: str
    calls: int
    process: str
    before_mib: float
    after_mib: float


@dataclass(frozen=True)
class MemoryLeft:
    """The memory that one kind of call left in one process in the later half of the rounds."""

    process: str
    call: str
    calls: int
    kib_each: float


def measure_call_memory(plan: CallMemoryPlan, folder: Path, say: Say) -> tuple[CallBatch, ...]:
    """Serve a toy product from this folder, call it, and return a batch for each round, kind of call and process.

    Raises:
        NotServed: if the service does not start.
    """
    with served(toy_bundle(folder), "torch", SMALL) as service:
        return tuple(asyncio.run(_rounds(plan, service, say)))


def memory_left(batches: Sequence[CallBatch]) -> tuple[MemoryLeft, ...]:
    """Return what each kind of call left in each process in the later half of the rounds."""
    late = [one for one in batches if one.round >= max(one.round for one in batches) // 2 + 1]
    kinds = dict.fromkeys((one.process, one.call) for one in late)
    return tuple(_left(process, call, late) for process, call in kinds)


def _left(process: str, call: str, batches: Sequence[CallBatch]) -> MemoryLeft:
    mine = [one for one in batches if (one.process, one.call) == (process, call)]
    calls = sum(one.calls for one in mine)
    return MemoryLeft(process, call, calls, sum(one.after_mib - one.before_mib for one in mine) * 1024 / calls)


async def _rounds(plan: CallMemoryPlan, service: RunningService, say: Say) -> list[CallBatch]:
    watch, found = ProcessWatch(service.pid, service.data_dir), []
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60) as client:
        kinds = _kinds(service.product)
        for number in range(plan.rounds):
            for name, (share, call) in kinds.items():
                count = max(AT_A_TIME, round(plan.calls * share))
                before = _memory(watch)
                for at in range(0, count, AT_A_TIME):
                    await asyncio.gather(*(call(client, number * count + at + one) for one in range(AT_A_TIME)))
                await asyncio.sleep(plan.quiet_s)
                after = _memory(watch)
                found += [CallBatch(number, name, count, one, before[one], after[one]) for one in after]
            levels = ", ".join(f"{process} {mib:.2f} MiB" for process, mib in after.items())
            say(f"round {number + 1} of {plan.rounds}: {levels}")
    watch.close()
    return found


def _memory(watch: ProcessWatch) -> dict[str, float]:
    """Return process -> MiB."""
    return {one.process: one.memory_mib for one in watch.sample(0) if one.process in PROCESSES}


def _kinds(product: str) -> dict[str, tuple[float, Call]]:
    """Return name -> its share of a round, and the call."""
    images, url, ids = jpegs(IMAGES, 0), f"/v1/products/{product}/inspections", [""]

    async def accept(client: httpx.AsyncClient, number: int) -> None:
        headers = {"Idempotency-Key": f"call-{number}", "Prefer": "wait=30"}
        fields = {"station": f"line-{number % 4}", "serial": f"SN-{number}"}
        answer = await client.post(url, params=fields, content=images[number % IMAGES], headers=headers)
        ids[0] = answer.raise_for_status().json()["id"]

    async def refuse(client: httpx.AsyncClient, number: int) -> None:
        image = images[number % IMAGES]
        await client.post(url, content=image[: len(image) // 2])

    async def live(client: httpx.AsyncClient, number: int) -> None:
        await client.get("/health/live")

    async def ready(client: httpx.AsyncClient, number: int) -> None:
        await client.get("/health/ready")

    async def scrape(client: httpx.AsyncClient, number: int) -> None:
        await client.get("/metrics")

    async def history(client: httpx.AsyncClient, number: int) -> None:
        await client.get("/v1/inspections", params={"limit": 50, "order": "newest"})

    async def picture(client: httpx.AsyncClient, number: int) -> None:
        await client.get(f"/v1/inspections/{ids[0]}/heatmap.png")

    async def follow(client: httpx.AsyncClient, number: int) -> None:
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(FOLLOWED_S),
                client.stream("GET", "/v1/events", headers={"Last-Event-ID": "0"}) as answer,
            ):
                async for _ in answer.aiter_raw():
                    pass

    return {
        "image accepted, result awaited": (0.2, accept),
        "broken image refused": (0.1, refuse),
        "liveness": (1.0, live),
        "readiness": (0.1, ready),
        "metrics": (0.05, scrape),
        "history of 50": (0.2, history),
        "picture": (0.2, picture),
        "events followed and left": (0.06, follow),
    }

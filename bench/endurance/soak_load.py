"""The work of a line at a steady rate: images, repeats, broken images, a page that follows events, a history.

Arrivals are a Poisson process: a camera does not wait for the answer to the image before. The client is the product's
own. Of what it keeps, only the numbers of accepted and ended inspections grow.

"""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from glad_client.async_client import AsyncClient
from glad_client.errors import ApiError, ClientError
from service.cancelling import cancel_and_wait

IMAGES = 24
FOLLOW_S = 60.0
"""After so long the follower hangs up and goes on where it was, as a page does that is loaded again."""
LOOK_S = 3.0
"""Between two looks into the history."""
BROKEN, REPEATED = 0.05, 0.05
"""Shares of all shots."""
SETTLE_S = 120.0
BURST, BETWEEN_BURSTS = 8, 20
"""While all warms up, each twentieth arrival is eight images at once: pools of connections and threads get as large as
chance would make them in some later minute."""


@dataclass
class SoakTally:
    """What was sent, and what was reported."""

    accepted: set[str] = field(default_factory=set)
    ended: Counter[str] = field(default_factory=Counter)
    """Inspection -> how often its end was told, over all connections."""
    counts: Counter[str] = field(default_factory=Counter)
    """Repeats that were recognised, refusals, failures by kind."""

    @property
    def lost(self) -> int:
        """Inspections that were accepted and whose end was never reported."""
        return len(self.accepted - self.ended.keys())

    @property
    def told_twice(self) -> int:
        """Inspections whose end was reported more than once."""
        return sum(times > 1 for times in self.ended.values())


class SoakLine:
    """Cameras, a page and an MES at one service."""

    def __init__(self, url: str, product: str, rate: float, seed: int = 0, *, bursts_s: float = 0.0) -> None:
        """Set up a line.

        Args:
            rate: arrivals per second.
            bursts_s: for how long some of the arrivals are bursts.
        """
        self._url, self._product, self._rate = url, product, rate
        self._bursts_s = bursts_s
        self._rng = random.Random(seed)
        self._images = jpegs(IMAGES, seed)
        self.seen = SoakTally()

    async def run(self, seconds: float) -> None:
        """Post for so long, then wait until everything that was accepted has ended."""
        async with AsyncClient(self._url) as client:
            following = asyncio.create_task(self._follow(client))
            looking = asyncio.create_task(self._look(client))
            await self._shoot(client, seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled(), SETTLE_S)
            for task in (following, looking):
                await cancel_and_wait(task)

    async def _shoot(self, client: AsyncClient, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began, due, arrival, number = loop.time(), 0.0, 0, 0
        async with asyncio.TaskGroup() as shots:
            while (due := due + self._rng.expovariate(self._rate)) < seconds:
                await asyncio.sleep(began + due - loop.time())
                arrival += 1
                for _ in range(BURST if due < self._bursts_s and arrival % BETWEEN_BURSTS == 0 else 1):
                    number += 1
                    shots.create_task(self._shot(client, number))

    async def _shot(self, client: AsyncClient, number: int) -> None:
        image, chance = self._images[number % len(self._images)], self._rng.random()
        if chance < BROKEN:
            image = image[: len(image) // 2]
        fields = {"station": f"line-{number % 4}", "serial": f"SN-{number // 2}", "view": f"v{number % 2}"}
        try:
            first = await client.submit(self._product, image, idempotency_key=f"shot-{number}", fields=fields)
            self.seen.accepted.add(first.id)
            if chance > 1 - REPEATED:
                again = await client.submit(self._product, image, idempotency_key=f"shot-{number}", fields=fields)
                self.seen.counts["repeat recognised" if again.id == first.id else "repeat accepted twice"] += 1
        except ApiError as error:
            self.seen.counts[f"refused {error.status}"] += 1
        except ClientError as error:
            self.seen.counts[type(error).__name__] += 1

    async def _follow(self, client: AsyncClient) -> None:
        last: str | None = "0"
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLLOW_S):
                    async for event in client.events(last_event_id=last):
                        last = event.id
                        if event.type.startswith("inspection."):
                            self.seen.ended[event.data["inspection_id"]] += 1

    async def _look(self, client: AsyncClient) -> None:
        while True:
            page = await client.history_page(limit=50, filters={"order": "newest"})
            for result in page.inspections[:1]:
                for name in ("heatmap.png", "image"):
                    with suppress(ClientError):
                        await client.artifact(result.id, name)
            await asyncio.sleep(LOOK_S)

    async def _settled(self) -> None:
        while self.seen.lost:
            await asyncio.sleep(0.2)


def jpegs(count: int, seed: int) -> Sequence[bytes]:
    """Return JPEGs of about 200 KB, 640x480, all different: a shaded part with grain."""
    rng = np.random.default_rng(seed)
    return [_jpeg(rng) for _ in range(count)]


def _jpeg(rng: np.random.Generator) -> bytes:
    shade = np.linspace(60, 190, 640)[None, :, None] + rng.normal(0, 17, (480, 640, 3))
    target = io.BytesIO()
    Image.fromarray(shade.clip(0, 255).astype(np.uint8)).save(target, "JPEG", quality=93)
    return target.getvalue()

"""Whose image is decoded next: one key's images, however many and slow, hold up no other key's."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from service.api.uploads.decode_turns import DecodeTurn, DecodeTurns
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from tests.support import costly_images as costly
from tests.support.api_process import running_api
from tests.support.line import picture
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer


@dataclass
class Clock:
    """A clock that a test puts on: how long a turn takes depends on no machine."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def turns_of(places: int, clock: Clock) -> DecodeTurns:
    """A turn of more than a second is slow, and remembered for a minute."""
    return DecodeTurns(places, slow_s=1.0, remembered_s=60.0, clock=clock)


def has_begun(turn: DecodeTurn) -> bool:
    return turn.began_at < float("inf")


def begun(*turns: DecodeTurn) -> list[bool]:
    """Which of them have a place."""
    return [has_begun(turn) for turn in turns]


def end(turn: DecodeTurn) -> None:
    with turn:
        pass


def end_slowly(turn: DecodeTurn, clock: Clock) -> None:
    with turn:
        clock.seconds += 2


def test_callers_take_turns_however_many_images_one_has_waiting() -> None:
    turns = DecodeTurns(1)
    many = [turns.ask("a") for _ in range(4)]
    one, other = turns.ask("b"), turns.ask("c")
    order: list[DecodeTurn] = []
    waiting = [*many, one, other]
    while running := [turn for turn in waiting if turn not in order and has_begun(turn)]:
        order += running
        end(running[0])
    assert [turn.who for turn in order] == ["a", "a", "b", "c", "a", "a"]  # the second of a asked before b and c


def test_a_caller_alone_has_all_places_as_long_as_its_images_are_quick(clock: Clock) -> None:
    turns = turns_of(3, clock)
    first = [turns.ask("a") for _ in range(4)]
    assert begun(*first) == [True, True, True, False]
    end(first[0])
    assert has_begun(first[3])


def test_slow_images_never_have_the_last_place(clock: Clock) -> None:
    turns = turns_of(3, clock)
    first = turns.ask("slow")
    end_slowly(first, clock)
    slow = [turns.ask("slow") for _ in range(4)]
    assert begun(*slow) == [True, True, False, False]
    quick = turns.ask("quick")
    assert has_begun(quick)
    end(quick)
    assert begun(*slow) == [True, True, False, False]
    end(slow[0])
    assert begun(*slow) == [True, True, True, False]


def test_callers_of_slow_images_share_the_other_places(clock: Clock) -> None:
    turns = turns_of(2, clock)
    for who in ("a", "b"):
        end_slowly(turns.ask(who), clock)
    assert begun(turns.ask("a"), turns.ask("b"), turns.ask("c")) == [True, False, True]


def test_a_turn_that_is_slow_now_counts_before_it_has_ended(clock: Clock) -> None:
    turns = turns_of(2, clock)
    end_slowly(turns.ask("a"), clock)
    running = turns.ask("b")
    clock.seconds += 2
    assert begun(running, turns.ask("a"), turns.ask("c")) == [True, False, True]


def test_a_slow_image_is_forgotten_after_a_while(clock: Clock) -> None:
    turns = turns_of(2, clock)
    end_slowly(turns.ask("a"), clock)
    clock.seconds += 61
    assert begun(turns.ask("a"), turns.ask("a")) == [True, True]


def test_of_a_single_place_nothing_is_kept_free(clock: Clock) -> None:
    turns = turns_of(1, clock)
    end_slowly(turns.ask("a"), clock)
    assert has_begun(turns.ask("a"))


async def test_a_wait_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    turns = DecodeTurns(1)
    running, given_up, last = (turns.ask(who) for who in "abc")
    waiting = asyncio.create_task(given_up.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    end(running)
    async with asyncio.timeout(30):
        await last.wait()


@pytest.mark.timeout(600)  # ten slow images: slower where other work shares the machine
def test_a_key_with_slow_images_holds_up_no_other_keys_images(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    keys = KeyStore(client)
    misused, camera = (keys.create(name, [Scope.SUBMIT]) for name in ("misused", "camera"))
    slow = costly.run_lengths(2000)
    settings = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store), "GLAD_AUTH": "keys"}

    def post(image: bytes, key: str) -> int:
        return httpx.post(api.url, content=image, headers={"X-API-Key": key}, timeout=500).status_code

    with running_api(settings, tmp_path) as api, ThreadPoolExecutor(10) as pool:
        eventually(lambda: post(picture(), camera) == 202)  # the keys are in force
        first = pool.submit(post, slow, misused)
        assert first.result() in {202, 422}  # whether it is within the limit depends on the machine
        others = [pool.submit(post, slow, misused) for _ in range(10)]
        assert [post(picture(), camera) for _ in range(8)] == [202] * 8
        assert not all(
            one.done() for one in others
        )  # in one line for all, the first of the eight waits for each of them
        for one in others:
            assert one.result() in {202, 422}

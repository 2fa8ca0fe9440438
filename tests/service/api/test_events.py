"""The events: in order, resumable, kept for the slowest reader, and no burden on those who submit."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio

from glad_client.async_client import AsyncClient
from glad_client.client import Client
from glad_client.errors import Unreachable
from glad_client.events import Event
from glad_client.sse import read_events
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.queue import keys
from service.queue.connection import connect, connect_async
from service.queue.events import BEGINNING, EventFeed, StoredEvent, read_page
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.queue.submitter import JobSubmitter
from service.settings import Settings
from tests.support.ended import end, hold_station
from tests.support.http_server import server_on
from tests.support.line import make_job, picture, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
URL = "/v1/events"


@dataclass(frozen=True)
class Frame:
    """One event as it came."""

    id: str | None
    event: str | None
    data: Any


def frames(lines: Iterator[str], count: int) -> list[Frame]:
    """The next frames that dispatch an event, or are a heartbeat."""
    found: list[Frame] = []
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields or ("id" in fields and "retry" not in fields):
            data = json.loads(fields["data"]) if "data" in fields else None
            found.append(Frame(fields.get("id"), fields.get("event"), data))
        fields = fields if line else {}
        if len(found) == count:
            return found
    return found


def opened(lines: Iterator[str]) -> list[str]:
    """The head of a stream: when to come back, and the id from which it goes on, which is left out here."""
    return ["id" if line.startswith("id: ") else line for line in iter(lambda: next(lines), "")]


@pytest.fixture
def settings(shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Settings:
    """A service on the shared Redis."""
    return Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path)


def test_events_come_as_inspections_end_in_that_order(client: redis.Redis, settings: Settings) -> None:
    end(client)  # before the reader came: not told
    with server_on(settings) as url, httpx.Client(base_url=url, timeout=30) as http, http.stream("GET", URL) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert opened(lines) == ["retry: 2000", "id"]
        ended = end(client, 3, station="s1")
        found = frames(lines, 3)
    assert [frame.data["inspection_id"] for frame in found] == ended
    assert {frame.event for frame in found} == {"inspection.done"}
    assert found[0].data["station"] == "s1"
    assert found[0].data["verdict"] == "pass"


def test_a_reader_that_was_cut_off_gets_what_it_missed(client: redis.Redis, settings: Settings) -> None:
    ended = end(client, 3)
    with server_on(settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        with http.stream("GET", URL, params={"after": "0"}) as stream:
            [first] = frames(stream.iter_lines(), 1)
        assert first.data["inspection_id"] == ended[0]
        with http.stream("GET", URL, headers={"Last-Event-ID": str(first.id)}) as stream:
            lines = stream.iter_lines()
            ended += end(client)
            rest = frames(lines, 3)
    assert [frame.data["inspection_id"] for frame in rest] == ended[1:]


def test_only_what_is_asked_for_comes_and_a_heartbeat_moves_past_the_rest(
    client: redis.Redis, settings: Settings
) -> None:
    wanted = end(client, station="s1")
    end(client, station="s2")
    end(client, station="s1", product="other")
    quick = settings.model_copy(update={"heartbeat_s": 0.05})
    with server_on(quick) as url, httpx.Client(base_url=url, timeout=30) as http:
        params = {"after": "0", "station": "s1", "product": "toy"}
        with http.stream("GET", URL, params=params) as stream:
            event, heartbeat = frames(stream.iter_lines(), 2)
    assert [event.data["inspection_id"]] == wanted
    newest: Any = client.xrevrange(keys.EVENTS, count=1)
    assert (heartbeat.id, heartbeat.data) == (newest[0][0], None)


def test_the_events_of_stations_come_to_those_who_ask_for_the_station_or_its_product(
    client: redis.Redis, settings: Settings
) -> None:
    hold_station(client, "s1")
    hold_station(client, "s2")
    hold_station(client, "s1", None)
    last = end(client, station="s1")
    with server_on(settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        params = {"after": "0", "station": "s1", "product": "toy"}
        with http.stream("GET", URL, params=params) as stream:
            held, released, done = frames(stream.iter_lines(), 3)
    assert (held.event, held.data["reason"], held.data["by"]) == ("station.held", "lens is dirty", "a.meier")
    assert (released.event, released.data["inspection_id"]) == ("station.released", None)
    assert [done.data["inspection_id"]] == last
    read = Event.model_validate(held.data)
    assert (read.station, read.inspection_id) == ("s1", None)


def test_a_reader_that_was_away_too_long_is_told_where_the_gap_is(client: redis.Redis, settings: Settings) -> None:
    ended = end(client, 3)
    entries: Any = client.xrange(keys.EVENTS)
    client.xtrim(keys.EVENTS, maxlen=1, approximate=False)
    with server_on(settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        with http.stream("GET", URL, headers={"Last-Event-ID": entries[0][0]}) as stream:
            reset, event = frames(stream.iter_lines(), 2)
        assert reset.event == "reset"
        assert (reset.data["asked"], reset.data["oldest"]) == (entries[0][0], entries[2][0])
        gap = http.get(reset.data["history"]).json()["inspections"]
        assert [one["id"] for one in gap] == ended
        assert event.data["inspection_id"] == ended[2]
        # An id from a Redis that is no more:
        with http.stream("GET", URL, params={"after": "99999999999999-0"}) as stream:
            reset, event = frames(stream.iter_lines(), 2)
        assert (reset.event, reset.data["history"]) == ("reset", "/v1/inspections")
        # Up to date is no gap:
        with http.stream("GET", URL, params={"after": entries[2][0]}) as stream:
            lines = stream.iter_lines()
            then = end(client)
            assert [frame.data["inspection_id"] for frame in frames(lines, 1)] == then


def test_many_silent_readers_hold_no_connection_and_a_server_that_ends_ends_them(
    client: redis.Redis, settings: Settings
) -> None:
    with httpx.Client(timeout=30, limits=httpx.Limits(max_connections=50)) as http:
        with server_on(settings) as url:
            streams = [http.stream("GET", url + URL) for _ in range(20)]
            answers = [stream.__enter__() for stream in streams]
            lines = [answer.iter_lines() for answer in answers]
            assert [opened(one) for one in lines] == [["retry: 2000", "id"]] * 20
            ended = end(client)
            assert [frames(one, 1)[0].data["inspection_id"] for one in lines] == ended * 20
            metrics = http.get(f"{url}/metrics").text
            assert {'glad_redis_stream_length{stream="events"} 1.0', "glad_event_streams 20.0"} <= set(
                metrics.splitlines()
            )
            clients: Any = client.client_list()
            # The feed's blocking read, and what short calls at the same moment opened: not one for each reader.
            assert sum(one["cmd"].startswith("xread") for one in clients) == 1
            assert http.post(f"{url}/v1/products/toy/inspections", content=picture()).status_code == 202
        assert [list(one) for one in lines] == [[]] * 20
        for stream in streams:
            stream.__exit__(None, None, None)


def test_more_readers_than_allowed_are_refused_until_one_leaves(client: redis.Redis, settings: Settings) -> None:
    one = settings.model_copy(update={"max_event_streams": 1, "heartbeat_s": 0.05})
    with server_on(one) as url, httpx.Client(base_url=url, timeout=30) as http:
        with http.stream("GET", URL) as stream:
            lines = stream.iter_lines()  # dropping it would close the stream
            opened(lines)
            assert _status(http) == 429
        deadline = time.monotonic() + 30
        while (status := _status(http)) != 200:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)


def test_one_key_has_at_most_half_of_the_streams(client: redis.Redis, settings: Settings) -> None:
    misused, other = ({"X-API-Key": KeyStore(client).create(name, [Scope.READ])} for name in ("misused", "other"))
    few = settings.model_copy(update={"max_event_streams": 4, "heartbeat_s": 0.05})
    with server_on(few) as url, httpx.Client(base_url=url, timeout=30) as http, ExitStack() as stack:
        streams = [stack.enter_context(http.stream("GET", URL, headers=misused)) for _ in range(4)]
        assert [stream.status_code for stream in streams] == [200, 200, 429, 429]
        assert "half of GLAD_MAX_EVENT_STREAMS" in streams[2].read().decode()
        assert [_status(http, other) for _ in range(3)] == [200] * 3
        streams[0].close()
        deadline = time.monotonic() + 30
        while (status := _status(http, misused)) != 200:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)


def _status(http: httpx.Client, headers: Mapping[str, str] | None = None) -> int:
    with http.stream("GET", URL, headers=headers) as stream:
        return stream.status_code


def test_a_reader_outlives_a_killed_and_restarted_redis(
    own_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    settings = Settings(redis_url=own_redis.url, store=str(toy_store), data_dir=tmp_path / "data")
    with server_on(settings) as url, httpx.Client(base_url=url, timeout=60) as http, http.stream("GET", URL) as stream:
        lines = stream.iter_lines()
        opened(lines)
        with connect(own_redis.url) as client:
            first = end(client)
        assert [frame.data["inspection_id"] for frame in frames(lines, 1)] == first
        own_redis.kill()
        time.sleep(0.3)
        own_redis.start()
        with connect(own_redis.url) as client:
            second = end(client)
        heartbeat_or_event = iter(lambda: frames(lines, 1)[0], None)  # a heartbeat says that events are read again
        assert next(frame.data["inspection_id"] for frame in heartbeat_or_event if frame.data) == second[0]


@pytest.mark.parametrize("given", ["x", "12x", "-", "1-2-3", "99999999999999999999999-0"])
def test_what_is_no_event_id_is_refused(client: redis.Redis, settings: Settings, given: str) -> None:
    with server_on(settings) as url, httpx.Client(base_url=url) as http:
        for answer in (http.get(URL, params={"after": given}), http.get(URL, headers={"Last-Event-ID": given})):
            assert answer.status_code == 422
            assert answer.json()["type"] == "urn:glad:problem:invalid-fields"


async def test_a_reader_that_waits_is_woken(
    async_client: redis.asyncio.Redis, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    async with EventFeed(async_client) as feed:
        with feed.reading():
            generation = feed.generation
            await feed.changed(generation, 60)  # the follower has begun
            await submitter.submit(make_job())
            queue = make_queue()
            [claimed] = queue.claim(1)
            generation = feed.generation
            waiting = asyncio.create_task(feed.changed(generation, 60))
            queue.complete(claimed, result_of(claimed))
            await waiting
            assert [event.fields["inspection_id"] for event in (await feed.page_after(BEGINNING)).events] == [
                claimed.id
            ]


def test_without_readers_the_stream_keeps_the_newest(client: redis.Redis) -> None:
    client.config_set("stream-node-max-entries", 1)
    end(client, 10, Retention(max_events=3))
    assert client.xlen(keys.EVENTS) == 3
    client.config_set("stream-node-max-entries", 100)


def test_the_stream_is_trimmed_only_below_its_slowest_reader(client: redis.Redis) -> None:
    client.config_set("stream-node-max-entries", 1)
    retention = Retention(max_events=4)
    end(client, 4, retention)
    for group in ("fast", "slow"):
        client.xgroup_create(keys.EVENTS, group, id="0")
    read: Any = client.xreadgroup("fast", "c", {keys.EVENTS: ">"})
    client.xack(keys.EVENTS, "fast", *[entry for entry, _ in read[0][1]])
    slow: Any = client.xreadgroup("slow", "c", {keys.EVENTS: ">"}, count=3)
    taken = [entry for entry, _ in slow[0][1]]
    client.xack(keys.EVENTS, "slow", taken[0])
    # fast would let go of 4, slow of what lies before its first unacknowledged entry: the second.
    end(client, 2, retention)
    kept: Any = client.xrange(keys.EVENTS)
    assert (len(kept), kept[0][0]) == (5, taken[1])
    # At twice the length the reader loses: an endless stream would stop the whole service.
    end(client, 8, retention)
    assert client.xlen(keys.EVENTS) == 8
    client.config_set("stream-node-max-entries", 100)


def test_the_client_follows_events_across_a_restart_of_the_service(client: redis.Redis, settings: Settings) -> None:
    first = end(client)
    with server_on(settings) as url:
        port = int(url.rpartition(":")[2])
        follower = Client(url, patience_s=60)
        events = follower.events(last_event_id="0")
        seen = [next(events)]
    missed = end(client, 2)
    with server_on(settings, port), follower:
        seen += [next(events) for _ in missed]
    assert [one.event.inspection_id for one in seen] == first + missed
    assert seen[0].type == "inspection.done"


def test_the_client_reads_the_whole_history_and_polls_from_its_end(client: redis.Redis, settings: Settings) -> None:
    ended = end(client, 3, lot="L-1")
    end(client, 1)
    with server_on(settings) as url, Client(url) as reader:
        assert [one.id for one in reader.history(filters={"lot": "L-1"})] == ended
        page = reader.history_page(limit=2)
        assert ([one.id for one in page.inspections], page.more) == (ended[:2], True)
        page = reader.history_page(after=page.next)
        assert (len(page.inspections), page.more) == (2, False)
        then = end(client)
        assert [one.id for one in reader.history(after=page.next)] == then


def test_a_client_without_a_service_loses_its_patience(client: redis.Redis) -> None:
    with Client("http://127.0.0.1:9", patience_s=0.2) as reader, pytest.raises(Unreachable, match="ConnectError"):
        next(reader.events())


def test_a_stream_is_read_however_it_is_cut_into_pieces() -> None:
    text = (
        'retry: 1\nid: 1-0\n\nid: 2-0\nevent: inspection.done\ndata: {"note": "a\u2028b"}\n\nid: 3-0\n: heartbeat\n\n'
    )
    text += 'event: reset\ndata: {}\n\nid: 9-0\ndata: {"cut'
    whole = list(read_events([text]))
    assert [(one.id, one.type) for one in whole] == [
        ("1-0", ""),
        ("2-0", "inspection.done"),
        ("3-0", ""),
        ("3-0", "reset"),
    ]
    assert whole[1].data == {"note": "a\u2028b"}
    assert list(read_events(list(text))) == whole


async def test_the_async_client_reads_history_and_events_alike(client: redis.Redis, settings: Settings) -> None:
    ended = await asyncio.to_thread(end, client, 3)
    with server_on(settings) as url:
        async with AsyncClient(url, patience_s=60) as reader:
            assert [one.id async for one in reader.history()] == ended
            async with aclosing(reader.events(last_event_id="0")) as events:
                assert [(await anext(events)).event.inspection_id for _ in ended] == ended


async def test_the_async_client_follows_events_across_a_restart(client: redis.Redis, settings: Settings) -> None:
    first = await asyncio.to_thread(end, client)
    async with AsyncClient("http://127.0.0.1:9", patience_s=0.2) as nowhere:
        with pytest.raises(Unreachable, match="ConnectError"):
            await anext(nowhere.events())
    with server_on(settings) as url:
        port = int(url.rpartition(":")[2])
        follower = AsyncClient(url, patience_s=60)
        events = follower.events(last_event_id="0")
        seen = [await anext(events)]
    missed = await asyncio.to_thread(end, client, 2)
    with server_on(settings, port):
        async with follower, aclosing(events):
            seen += [await anext(events) for _ in missed]
    assert [one.event.inspection_id for one in seen] == first + missed


def test_readers_from_the_beginning_take_turns_and_share_what_they_read(
    client: redis.Redis, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten read a thousand events: ten pages of a hundred for each, a hundred together if they shared none."""
    with client.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.xadd(keys.EVENTS, {"id": str(number), "event": json.dumps({"type": "x", "number": number})})
        pipe.execute()
    client.config_resetstat()

    async def follow(feed: EventFeed) -> list[int]:
        found, last = list[int](), BEGINNING
        while len(found) < 1000:
            await feed.wait_for_turn()
            page = await feed.page_after(last)
            found += [event.fields["number"] for event in page.events]
            last = page.last
        return found

    async def follow_all() -> list[list[int]]:
        async with connect_async(shared_redis.url) as found:
            feed = EventFeed(found)
            return await asyncio.gather(*(follow(feed) for _ in range(10)))

    assert asyncio.run(follow_all()) == [list(range(1000))] * 10
    info: Any = client.info("commandstats")
    assert 10 <= info["cmdstat_xrange"]["calls"] < 60


def test_images_are_accepted_while_many_readers_catch_up(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    """Of fifty readers, each has 50,000 events before it: none is through when the images are accepted."""
    event = json.dumps({"type": "inspection.done", "inspection_id": "a", "product": "toy", "note": "x" * 300})
    with client.pipeline(transaction=False) as pipe:
        for number in range(50_000):
            pipe.xadd(keys.EVENTS, {"id": str(number), "event": event})
        pipe.execute()
    given: dict[str, Any] = {"redis_url": shared_redis.url, "store": str(toy_store), "data_dir": tmp_path}
    with server_on(Settings(**given)) as url, ExitStack() as stack:
        port = int(url.rpartition(":")[2])
        readers = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(50)]
        for reader in readers:
            reader.sendall(b"GET /v1/events?after=0&station=none HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for reader in readers:
            assert reader.recv(9) == b"HTTP/1.1 "
        with httpx.Client(base_url=url, timeout=60) as http:
            answers = [http.post("/v1/products/toy/inspections", content=picture()) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [202] * 5
        asked: Any = client.info("commandstats")
        # Without turns each of the fifty reads a page between any two steps of a call, of which one takes dozens.
        assert asked["cmdstat_xrange"]["calls"] < 1_500


def test_an_event_that_cannot_be_read_ends_no_readers_stream() -> None:
    stored = [StoredEvent("1-0", "no JSON"), StoredEvent("2-0", "[]"), StoredEvent("3-0", '{"type":"x"}')]
    page = read_page(BEGINNING, stored)
    assert [event.id for event in page.events] == ["3-0"]
    assert read_page(BEGINNING, stored[:2]).last == "2-0"  # the reader goes on behind them

"""Retention: by age and by size, orphans too; never what is queued, running or just coming in."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import redis
import uuid6

from model_store.files import hidden_sibling
from service.maintenance import retention
from service.maintenance.retention import ArtifactLimits, Sweeper, Swept
from service.queue import keys
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from service.settings import Settings
from service.storage.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable, StoredInspection
from tests.service.conftest import Running, StartApp
from tests.support.line import make_job, picture, result_of
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

HOUR_MS = 3_600_000
DAY_S = 86_400
Put = Callable[..., str]


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    """The same store on a folder, on an fsspec file system, and on an object store."""
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
        return
    yield ArtifactStore(str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}")
    fsspec.filesystem("memory").store.clear()


def made_ago(client: redis.Redis, hours: float) -> str:
    """An inspection's id, so many hours old."""
    now: Any = client.time()
    moment = now[0] * 1000 - round(hours * HOUR_MS)
    return str(uuid.UUID(int=(moment << 80) | (uuid6.uuid7().int & ((1 << 80) - 1))))


@pytest.fixture
def put(store: ArtifactStore, client: redis.Redis) -> Put:
    """Stores an inspection's files of `size` bytes in all; `state` as Redis has it, None: it knows nothing."""
    client.set(keys.BORN, 1)

    def put(hours_ago: float, state: str | None = "done", *, size: int = 10, pictures: bool = True) -> str:
        name = made_ago(client, hours_ago)
        store.put(name, "image", bytes(size - pictures))
        if pictures:
            store.put(name, "map.npy", b"1")
        if state is not None:
            client.hset(keys.inspection(name), "state", state)
        return name

    return put


def sweep(
    client: redis.Redis, store: ArtifactStore, max_age_s: float = DAY_S, max_bytes: int | None = None, **limits: float
) -> Swept:
    """One sweep, whoever swept before."""
    client.delete(keys.SWEEPER)
    swept = Sweeper(client, store, ArtifactLimits(max_age_s, max_bytes, **limits)).sweep()
    assert swept is not None
    return swept


def left(store: ArtifactStore) -> set[str]:
    """Whose files are there."""
    return {one.inspection_id for day in store.days() for one in store.inspections(day)}


def test_what_is_too_old_goes_and_takes_all_its_files_along(
    client: redis.Redis, store: ArtifactStore, put: Put
) -> None:
    old, kept, forgotten = put(25), put(23), put(30, state=None)
    assert sweep(client, store) == Swept(too_old=2, bytes=20)
    assert left(store) == {kept}
    for name in (old, forgotten):
        with pytest.raises(ArtifactNotFound):
            store.get(store.ref(name, "image"))


@pytest.mark.parametrize("state", ["queued", "running"])
def test_what_has_not_ended_is_never_swept(client: redis.Redis, store: ArtifactStore, put: Put, state: str) -> None:
    waiting = put(1000, state=state, pictures=False)
    assert sweep(client, store, max_bytes=1) == Swept()
    assert left(store) == {waiting}


def test_beyond_the_size_the_oldest_go_first(client: redis.Redis, store: ArtifactStore, put: Put) -> None:
    third, first, waiting, second = put(5), put(9), put(10, state="queued"), put(7)
    # 40 bytes; 25 allowed: the two oldest that may go are enough.
    assert sweep(client, store, max_bytes=25) == Swept(too_many=2, bytes=20)
    assert left(store) == {third, waiting}
    assert {first, second}.isdisjoint(left(store))
    assert sweep(client, store, max_bytes=25) == Swept()


def test_what_just_came_in_is_left_alone_whatever_the_size(client: redis.Redis, store: ArtifactStore, put: Put) -> None:
    coming = put(0.5, state=None, pictures=False)
    assert sweep(client, store, max_bytes=1) == Swept()
    assert left(store) == {coming}


def test_an_image_that_no_inspection_knows_is_swept(client: redis.Redis, store: ArtifactStore, put: Put) -> None:
    put(2, state=None, pictures=False)
    known, with_pictures = put(2, pictures=False), put(2, state=None)
    assert sweep(client, store) == Swept(orphans=1, bytes=10)
    assert left(store) == {known, with_pictures}


def test_what_a_killed_writer_left_half_written_makes_no_orphan_of_another_kind(
    client: redis.Redis, put: Put, store: ArtifactStore
) -> None:
    if store.root.startswith(("memory", "s3")):
        pytest.skip("written in one step there")
    image = Path(store.root, ArtifactStore.ref(put(2, state=None, pictures=False), "image"))
    image.rename(hidden_sibling(image))
    assert sweep(client, store) == Swept(orphans=1, bytes=10)


def test_an_image_whose_result_is_no_longer_kept_is_no_orphan(
    client: redis.Redis, store: ArtifactStore, put: Put
) -> None:
    failed = put(30, state=None, pictures=False)  # it ended without pictures, and Redis knew it for a day
    assert sweep(client, store, max_age_s=1000 * DAY_S) == Swept()
    assert left(store) == {failed}
    assert sweep(client, store, known_s=31 * 3600, max_age_s=1000 * DAY_S).orphans == 1


def test_days_that_hold_nothing_to_remove_are_not_looked_at(client: redis.Redis, tmp_path: Path) -> None:
    class Watched(ArtifactStore):
        def inspections(self, day: str) -> Iterator[StoredInspection]:
            looked_at.append(day)
            return super().inspections(day)

    looked_at: list[str] = []
    store = Watched(tmp_path)
    for age in range(10):
        store.put(made_ago(client, 24 * age), "image", b"1")
    days = store.days()[::-1]
    middle = set(days[3:7])
    sweep(client, store, max_age_s=7 * DAY_S)
    assert {*days[:2], *days[8:]} <= set(looked_at)
    assert middle.isdisjoint(looked_at)
    looked_at.clear()
    sweep(client, store, max_age_s=7 * DAY_S, max_bytes=1000)
    assert middle <= set(looked_at), "their bytes count"


def test_what_cannot_be_removed_keeps_nothing_else(client: redis.Redis, tmp_path: Path) -> None:
    class Stubborn(ArtifactStore):
        def remove_inspection(self, inspection_id: str) -> None:
            if inspection_id in stuck:
                raise ArtifactsUnavailable("no right to remove it")
            super().remove_inspection(inspection_id)

    store = Stubborn(tmp_path)
    names = [made_ago(client, hours) for hours in (50, 40, 30)]
    for name in names:
        store.put(name, "image", b"1234")
    stuck = {names[0]}
    assert sweep(client, store) == Swept(too_old=2, bytes=8)
    assert left(store) == stuck
    many = [made_ago(client, 30) for _ in range(30)]
    for name in many:
        store.put(name, "image", b"1234")
    stuck |= set(many)
    with pytest.raises(ArtifactsUnavailable, match="no right to remove it"):
        sweep(client, store)


def test_a_slow_sweep_keeps_its_turn(client: redis.Redis, tmp_path: Path) -> None:
    class Slow(ArtifactStore):
        """Each removal takes 25 s."""

        def remove_inspection(self, inspection_id: str) -> None:
            left_ms.append(int(str(client.pttl(keys.SWEEPER))))
            client.pexpire(keys.SWEEPER, left_ms[-1] - 25_000)
            now[0] += 25.0
            super().remove_inspection(inspection_id)

    left_ms, now, store = list[int](), [0.0], Slow(tmp_path)
    for _ in range(5):
        store.put(made_ago(client, 30), "image", b"1")
    limits = ArtifactLimits(DAY_S)
    assert Sweeper(client, store, limits, clock=lambda: now[0]).sweep() == Swept(too_old=5, bytes=5)
    assert min(left_ms) > 30_000


def test_a_dead_letter_keeps_its_image_for_a_replay(client: redis.Redis, store: ArtifactStore, put: Put) -> None:
    name = put(2, state=None, pictures=False)
    client.xadd(keys.PoolKeys("other").dead, {"id": name, "job": "{}", "reason": "r"})
    assert sweep(client, store) == Swept()


def test_a_redis_that_was_set_up_anew_takes_nothing_of_its_predecessor_for_an_orphan(
    client: redis.Redis, store: ArtifactStore, put: Put
) -> None:
    put(2, state=None, pictures=False)
    client.flushall()
    assert sweep(client, store) == Swept()


def test_other_files_in_the_store_are_not_touched(client: redis.Redis, store: ArtifactStore, put: Put) -> None:
    put(100)
    others = store.folder("archive/2020-01-01")
    others.put("x.jsonl", b"kept")
    assert sweep(client, store).too_old == 1
    assert others.get("x.jsonl") == b"kept"


def test_of_many_at_once_one_sweeps_and_the_others_pass(client: redis.Redis, store: ArtifactStore, put: Put) -> None:
    for _ in range(20):
        put(25)
    found: list[Swept | None] = []
    at_once = threading.Barrier(8)

    def run() -> None:
        at_once.wait()
        found.append(Sweeper(client, store, ArtifactLimits(DAY_S)).sweep())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one for one in found if one is not None] == [Swept(too_old=20, bytes=200)]


async def test_an_image_is_safe_from_its_acceptance_to_its_end(
    client: redis.Redis, submitter: JobSubmitter, tmp_path: Path
) -> None:
    store, job = ArtifactStore(tmp_path), make_job()
    store.put(job.id, "image", b"1")
    await submitter.submit(job)
    limits = ArtifactLimits(max_age_s=-1, max_bytes=1, young_s=-1)  # everything is old, nothing is young

    def swept() -> Swept | None:
        client.delete(keys.SWEEPER)
        return Sweeper(client, store, limits).sweep()

    queue = JobQueue(client)
    assert swept() == Swept()
    [claimed] = queue.claim(1)
    assert swept() == Swept()
    queue.hand_back(claimed)
    assert swept() == Swept()
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed))
    assert swept() == Swept(too_old=1, bytes=1)


async def test_what_nobody_expected_ends_no_sweeping(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path / "data" / "artifacts")
    old = store.put("019abc12-3456-7def-8123-456789abcdef", "image", b"of 2025")
    client.set(keys.BORN, "no number")
    await start_app(shared_redis.url, sweep_every_s=0.05)
    await asyncio.to_thread(eventually, lambda: client.exists(keys.SWEEPER) == 1)
    client.delete(keys.BORN, keys.SWEEPER)
    await asyncio.to_thread(eventually, lambda: old.split("/")[1] not in left(store))


async def test_the_api_sweeps_in_the_background(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path / "data" / "artifacts")
    old = store.put("019abc12-3456-7def-8123-456789abcdef", "image", b"of 2025")
    running: Running = await start_app(shared_redis.url, sweep_every_s=0.05)
    accepted = (await running.http.post("/v1/products/toy/inspections", content=picture())).json()["id"]
    await asyncio.to_thread(eventually, lambda: old.split("/")[1] not in left(store))
    assert left(store) == {accepted}


async def test_the_api_stops_while_a_sweep_hangs(
    client: redis.Redis, shared_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LAST_BATCH_S", 0.2)
    asked, answers = threading.Event(), threading.Event()

    class Hanging(ArtifactStore):
        def days(self) -> list[str]:
            asked.set()
            answers.wait(30)
            return []

    async def run_and_stop() -> None:
        settings = Settings(redis_url=shared_redis.url, data_dir=tmp_path, sweep_every_s=0.05)
        async with retention.sweeping(settings, shared_redis.url, Hanging(tmp_path)):
            await asyncio.to_thread(asked.wait)

    stopping = asyncio.create_task(run_and_stop())
    try:
        stopped, _ = await asyncio.wait({stopping}, timeout=10)
        assert stopped, "it waits for the sweep"
    finally:
        answers.set()
        await stopping


def test_what_is_kept_is_looked_at_one_by_one_and_the_day_may_change_meanwhile(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    names = sorted(str(uuid6.uuid7()) for _ in range(3))
    for name in names:
        store.put(name, "image", b"123")
    (day,) = store.days()
    found = store.inspections(day)
    assert next(found).inspection_id == names[0]
    store.remove_inspection(names[1])
    store.put(names[2], "map.npy", b"4567")
    assert [(one.inspection_id, one.names, one.bytes) for one in found] == [
        (names[2], frozenset({"image", "map.npy"}), 7)
    ]


def test_a_file_where_a_day_or_an_inspection_should_be_is_passed_over(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.put(str(uuid6.uuid7()), "image", b"1")
    (day,) = store.days()
    (tmp_path / day / "notes.txt").write_text("left by hand")
    (tmp_path / "2026-02-99").mkdir()
    assert store.days() == [day]
    assert len(list(store.inspections(day))) == 1
    assert list(store.inspections("2001-01-01")) == []


def test_an_age_counts_from_the_acceptance_by_redis_where_an_older_version_made_the_id_by_its_own_clock(
    client: redis.Redis, store: ArtifactStore, put: Put
) -> None:
    def accepted(name: str, hours_ago: float) -> str:
        moment_ms = uuid.UUID(made_ago(client, hours_ago)).int >> 80
        client.hset(keys.inspection(name), mapping={"submitted_ms": moment_ms, "entry": f"{moment_ms}-0"})
        return name

    behind, coming, ahead = accepted(put(200), 1.5), accepted(put(200), 0.5), accepted(put(-30), 25)
    assert sweep(client, store) == Swept(too_old=1, bytes=10)
    assert left(store) == {behind, coming}
    assert ahead not in left(store)
    assert sweep(client, store, max_bytes=1) == Swept(too_many=1, bytes=10)
    assert left(store) == {coming}

"""The archive: a line per event with its result, a whole file per day; after any crash none lost, none doubled."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from model_store.files import hidden_sibling
from service.contract import Result
from service.outbox.archive import FOLDER, ArchiveSink
from service.outbox.relay import MOST_REFUSALS
from service.queue import keys
from service.queue.artifact_home import ArtifactHome
from service.queue.events import StoredEvent
from service.queue.outbox import DeadEvents, Subscription
from service.storage.artifacts import ArtifactFolder, ArtifactStore, ArtifactsUnavailable
from service.storage.local import MARKER
from tests.service.outbox.conftest import MakeRelay, turns
from tests.support.ended import end, hold_station

MONDAY = 1_795_392_000_000
"""2026-11-23T00:00:00Z in ms: 20,780 days after 1970-01-01."""
DAY = 86_400_000


def event(ms: int, number: int = 0) -> StoredEvent:
    text = json.dumps({"type": "inspection.done", "inspection_id": "019abc12-3456-7def-8123-456789abcdef", "ms": ms})
    return StoredEvent(f"{ms}-{number}", text)


@pytest.fixture(params=["folder", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where artifacts are kept: a local folder, or anything that fsspec opens."""
    return str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}"


@pytest.fixture
def folder(root: str) -> ArtifactFolder:
    """The archive's."""
    return ArtifactStore(root).folder(FOLDER)


@pytest.fixture
def archive(folder: ArtifactFolder, client: redis.Redis) -> Callable[[], ArchiveSink]:
    """A new process's archive in the same folder."""
    return lambda: ArchiveSink(folder, client, every_s=0.0)


def lines(folder: ArtifactFolder, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(folder.get(name)).splitlines()]


def ids(folder: ArtifactFolder) -> list[str]:
    """As a reader finds them, file by file."""
    return [line["event_id"] for name in folder.names() for line in lines(folder, name)]


def test_a_line_is_the_event_with_its_inspection(
    client: redis.Redis, folder: ArtifactFolder, archive: Callable[[], ArchiveSink], make_relay: MakeRelay
) -> None:
    relay = make_relay(archive())
    [inspection_id] = end(client, 1, serial="SN-1")
    turns(relay, 2)
    [name] = folder.names()
    [line] = lines(folder, name)
    assert (line["type"], line["inspection_id"], line["serial"]) == ("inspection.done", inspection_id, "SN-1")
    result = Result.model_validate(line["inspection"])
    assert (result.id, result.verdict, result.score) == (inspection_id, "pass", 0.25)
    assert result.regions[0].area_px == 9
    [entry] = [entry for entry, _ in _entries(client)]
    assert line["event_id"] == entry


def test_the_line_of_a_stations_event_has_no_inspection(
    client: redis.Redis, folder: ArtifactFolder, archive: Callable[[], ArchiveSink], make_relay: MakeRelay
) -> None:
    relay = make_relay(archive())
    hold_station(client)
    end(client, 1)
    turns(relay, 2)
    held, done = [line for name in folder.names() for line in lines(folder, name)]
    assert (held["type"], held["station"], held["reason"]) == ("station.held", "line-3", "lens is dirty")
    assert (held["inspection_id"], held["inspection"]) == (None, None)
    assert done["inspection"]["id"] == done["inspection_id"]


def _entries(client: redis.Redis) -> list[Any]:
    found: Any = client.xrange(keys.EVENTS)
    return list(found)


def test_an_inspection_that_is_kept_no_more_leaves_its_event(
    folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    archive().deliver([event(MONDAY)])
    [name] = folder.names()
    assert lines(folder, name)[0]["inspection"] is None


def test_a_day_becomes_one_file_once_the_next_has_begun(
    folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    sink = archive()
    sink.deliver([event(MONDAY), event(MONDAY + 1)])
    sink.deliver([event(MONDAY + DAY - 1)])
    assert folder.names() == [
        f"2026-11-23.{MONDAY}-0_{MONDAY + 1}-0.jsonl.gz",
        f"2026-11-23.{MONDAY + DAY - 1}-0_{MONDAY + DAY - 1}-0.jsonl.gz",
    ]
    sink.deliver([event(MONDAY + DAY), event(MONDAY + DAY, 1)])
    assert folder.names() == ["2026-11-23.jsonl.gz", f"2026-11-24.{MONDAY + DAY}-0_{MONDAY + DAY}-1.jsonl.gz"]
    day = [line["event_id"] for line in lines(folder, "2026-11-23.jsonl.gz")]
    assert day == [f"{MONDAY}-0", f"{MONDAY + 1}-0", f"{MONDAY + DAY - 1}-0"]


def test_a_day_is_closed_after_midnight_though_no_event_comes(
    folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    sink = archive()
    sink.deliver([event(MONDAY), event(MONDAY + 1)])
    sink.idle(MONDAY + 2)
    part = f"2026-11-23.{MONDAY}-0_{MONDAY + 1}-0.jsonl.gz"
    sink.idle(MONDAY + DAY - 1)
    assert folder.names() == [part]
    sink.idle(MONDAY + DAY)
    assert folder.names() == ["2026-11-23.jsonl.gz"]
    assert ids(folder) == [f"{MONDAY}-0", f"{MONDAY + 1}-0"]


def test_an_event_that_comes_after_its_day_was_closed_joins_it(
    folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    sink = archive()
    sink.deliver([event(MONDAY), event(MONDAY + 1)])
    sink.idle(MONDAY + DAY)
    sink.deliver([event(MONDAY + 1), event(MONDAY + 2)])  # the first was never acknowledged
    archive().idle(MONDAY + DAY)  # a new process looks at once
    assert folder.names() == ["2026-11-23.jsonl.gz"]
    assert ids(folder) == [f"{MONDAY}-0", f"{MONDAY + 1}-0", f"{MONDAY + 2}-0"]


def test_a_day_that_could_not_be_closed_is_tried_again_a_minute_later(
    folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    sink = archive()
    sink.deliver([event(MONDAY)])
    [part] = folder.names()
    whole = folder.get(part)
    folder.put(part, b"not gzip")
    sink.idle(MONDAY + DAY)
    folder.put(part, whole)
    sink.idle(MONDAY + DAY + 59_999)
    assert folder.names() == [part]
    sink.idle(MONDAY + DAY + 60_000)
    assert folder.names() == ["2026-11-23.jsonl.gz"]


def test_the_loop_closes_the_day_by_itself(
    client: redis.Redis, folder: ArtifactFolder, archive: Callable[[], ArchiveSink], make_relay: MakeRelay
) -> None:
    archive().deliver([event(MONDAY)])  # by Redis's clock a day long over
    relay = make_relay(archive())
    relay.turn()
    assert folder.names() == ["2026-11-23.jsonl.gz"]


def test_an_empty_mount_point_gets_no_archive_and_the_events_wait(client: redis.Redis, tmp_path: Path) -> None:
    ArtifactHome(client, ArtifactStore(tmp_path / "share")).check(make=True)  # as the API does
    mount_point = tmp_path / "mount"
    said: list[int] = []
    mount_point.mkdir()
    store = ArtifactStore(mount_point)
    home = ArtifactHome(client, store)
    sink = ArchiveSink(store.folder(FOLDER), client, 0.0, said.append, check_place=home.check)
    [undelivered] = sink.deliver([event(MONDAY)])
    sink.idle(MONDAY + DAY)
    assert (list(mount_point.iterdir()), said) == ([], [])
    mount_point.rmdir()
    (tmp_path / "share").rename(mount_point)
    assert sink.deliver([event(MONDAY)]) == []
    assert MARKER in undelivered.reason
    home.check()
    (mount_point / MARKER).unlink()  # it goes again, under the process
    assert len(sink.deliver([event(MONDAY + 1)])) == 1


def test_only_what_a_writer_left_long_ago_is_swept(client: redis.Redis, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    sink = ArchiveSink(store.folder(FOLDER), client, every_s=0.0)
    sink.deliver([event(MONDAY)])
    place = tmp_path / FOLDER
    left, under_way = (hidden_sibling(place / f"2026-11-23.{number}-0_{number}-0.jsonl.gz") for number in (1, 2))
    for path, age_s in ((left, 3700), (under_way, 3500), (place / "notes.tmp", 3700)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s,) * 2)
    sink.idle(MONDAY + DAY - 1)
    assert left.exists()
    ArchiveSink(store.folder(FOLDER), client, every_s=0.0).idle(MONDAY)  # a new process looks at once
    assert sorted(path.name for path in place.iterdir()) == sorted(
        [f"2026-11-23.{MONDAY}-0_{MONDAY}-0.jsonl.gz", under_way.name, "notes.tmp"]
    )


def test_one_delivery_over_midnight_is_two_parts(folder: ArtifactFolder, archive: Callable[[], ArchiveSink]) -> None:
    assert archive().deliver([event(MONDAY - 1), event(MONDAY)]) == []
    assert [name[:10] for name in folder.names()] == ["2026-11-22", "2026-11-23"]


def test_what_is_delivered_again_is_not_written_again(
    folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    events = [event(MONDAY + number) for number in range(5)]
    archive().deliver(events[:3])
    archive().deliver(events)  # the first three were written, and the process died before it said so
    assert ids(folder) == [one.id for one in events]


class Dies(BaseException):
    """Stands for the end of the process."""


class Failing(ArtifactFolder):
    """A folder whose process dies before the n-th write or removal."""

    def __init__(self, real: ArtifactFolder, calls: int) -> None:
        super().__init__(real._backend, real._root, real._name)
        self._left = calls

    def put(self, name: str, content: bytes) -> None:
        self._count()
        super().put(name, content)

    def remove(self, name: str) -> None:
        self._count()
        super().remove(name)

    def _count(self) -> None:
        if self._left == 0:
            raise Dies
        self._left -= 1


@pytest.mark.parametrize("calls", range(6))
def test_a_crash_anywhere_loses_no_line_and_doubles_none_in_the_end(
    folder: ArtifactFolder, client: redis.Redis, archive: Callable[[], ArchiveSink], calls: int
) -> None:
    """The second delivery writes Monday's part, Tuesday's part and Monday's file, and removes Monday's three parts."""
    first = [event(MONDAY), event(MONDAY + 1)]
    second = [event(MONDAY + 2), event(MONDAY + DAY)]
    archive().deliver(first)
    archive().deliver([event(MONDAY + 1, 5)])
    with pytest.raises(Dies):
        ArchiveSink(Failing(folder, calls), client, 0.0).deliver(second)
    assert archive().deliver(second) == []
    assert archive().deliver([event(MONDAY + 2 * DAY)]) == []
    expected = [first[0].id, first[1].id, f"{MONDAY + 1}-5", second[0].id, second[1].id, f"{MONDAY + 2 * DAY}-0"]
    assert ids(folder) == expected
    assert folder.names()[:2] == ["2026-11-23.jsonl.gz", "2026-11-24.jsonl.gz"]


DAMAGED = {
    "no gzip": b"not gzip",
    "flipped": gzip.compress(b"")[:10] + b"\xff" * 20,
    "cut off": gzip.compress(b'{"event_id":"1-0"}')[:-4],
    "another's": gzip.compress(b'{"id":1}\n'),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_part_that_cannot_be_read_stays_and_is_told_and_the_archive_goes_on(
    folder: ArtifactFolder, client: redis.Redis, content: bytes
) -> None:
    left: list[int] = []
    sink = ArchiveSink(folder, client, 0.0, left.append)
    sink.deliver([event(MONDAY)])
    [broken] = folder.names()
    whole = folder.get(broken)
    folder.put(broken, content)
    assert sink.deliver([event(MONDAY + DAY)]) == []
    sink.idle(MONDAY + DAY)
    assert folder.names()[0] == broken
    assert len(folder.names()) == 2
    # Where the line never rests, the next part but one minute closes the day.
    folder.put(broken, whole)
    sink.deliver([event(MONDAY + DAY + 60_000)])
    assert folder.names()[0] == "2026-11-23.jsonl.gz"
    assert left == [0, 1, 0]


class Counting(ArtifactFolder):
    """A folder that counts how often it is listed."""

    def __init__(self, real: ArtifactFolder) -> None:
        super().__init__(real._backend, real._root, real._name)
        self.listed = 0

    def names(self) -> list[str]:
        self.listed += 1
        return super().names()


def test_a_further_part_costs_no_look_at_those_before_it(folder: ArtifactFolder, client: redis.Redis) -> None:
    counting = Counting(folder)
    sink = ArchiveSink(counting, client, 0.0)
    sink.deliver([event(MONDAY)])
    before = counting.listed
    for number in range(1, 50):
        assert sink.deliver([event(MONDAY + number)]) == []
    assert counting.listed == before
    sink.deliver([event(MONDAY + 49), event(MONDAY + 50)])  # what was not acknowledged comes again
    assert counting.listed == before
    assert ids(folder) == [f"{MONDAY + number}-0" for number in range(51)]


def test_what_another_process_wrote_meanwhile_is_not_written_again(
    folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    one, other = archive(), archive()
    one.deliver([event(MONDAY)])
    other.deliver([event(MONDAY + 1)])  # and dies before it says so
    one.deliver([event(MONDAY + 1), event(MONDAY + 2)])
    other.deliver([event(MONDAY + 2), event(MONDAY + 3)])
    assert ids(folder) == [f"{MONDAY + number}-0" for number in range(4)]


def test_a_part_whose_write_only_seemed_to_fail_is_not_written_again(
    folder: ArtifactFolder, client: redis.Redis
) -> None:
    class Forgetful(Counting):
        def put(self, name: str, content: bytes) -> None:
            super().put(name, content)
            raise ArtifactsUnavailable("the answer was lost")

    sink = ArchiveSink(Forgetful(folder), client, 0.0)
    assert len(sink.deliver([event(MONDAY), event(MONDAY + 1)])) == 2
    assert sink.deliver([event(MONDAY), event(MONDAY + 1)]) == []
    assert ids(folder) == [f"{MONDAY}-0", f"{MONDAY + 1}-0"]


def test_events_are_tried_again_while_the_disk_takes_nothing(
    client: redis.Redis, tmp_path: Path, make_relay: MakeRelay
) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    store = ArtifactStore(tmp_path / "blocked")
    relay = make_relay(ArchiveSink(store.folder(FOLDER), client, every_s=0.0))
    ended = end(client, 2)
    turns(relay, 2)
    place = Subscription(client, "archive")
    waiting = place.progress().pending
    reasons = [one.retry.reason for one in waiting if one.retry]
    assert len(reasons) == 2
    assert all(f"could not be stored in {tmp_path / 'blocked'}: File exists" in reason for reason in reasons)
    (tmp_path / "blocked").unlink()
    place.settle([], {one.id: one.retry.model_copy(update={"due_ms": 0}) for one in waiting if one.retry})
    relay.turn()
    [name] = store.folder(FOLDER).names()
    assert [line["inspection_id"] for line in lines(store.folder(FOLDER), name)] == ended


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", r'{"inspection_id":"\ud800"}'])
def test_an_event_that_cannot_be_written_becomes_a_dead_letter_and_the_others_are_kept_in_order(
    client: redis.Redis,
    folder: ArtifactFolder,
    archive: Callable[[], ArchiveSink],
    make_relay: MakeRelay,
    text: str,
) -> None:
    relay, place = make_relay(archive()), Subscription(client, "archive")
    ended = end(client, 2)
    client.xadd(keys.EVENTS, {"id": "x", "event": text})
    ended += end(client, 2)
    turns(relay, 2)
    assert [line["inspection_id"] for name in folder.names() for line in lines(folder, name)] == ended[:2]
    for _ in range(MOST_REFUSALS):
        waiting = {one.id: one.retry.model_copy(update={"due_ms": 0}) for one in place.progress().pending if one.retry}
        place.settle([], waiting)
        relay.turn()
    turns(relay, 1)
    assert [letter.event.text for letter in DeadEvents(client).all()] == [text]
    assert [line["inspection_id"] for name in folder.names() for line in lines(folder, name)] == ended
    assert place.progress().pending == ()


def test_a_dead_letter_of_the_archive_can_be_delivered_later(
    client: redis.Redis, folder: ArtifactFolder, archive: Callable[[], ArchiveSink]
) -> None:
    """Its id lies between those of parts that were written, and in none of them."""
    sink = archive()
    sink.deliver([event(MONDAY), event(MONDAY + 1)])
    sink.deliver([event(MONDAY + 3), event(MONDAY + 4)])
    archive().deliver([event(MONDAY + 2)])
    assert sorted(ids(folder)) == [f"{MONDAY + ms}-0" for ms in range(5)]

"""The hot folder on a real service and a real disk: what appears is posted, each file once, whatever is restarted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from glad_client.camera.destination import Destination, Labels
from glad_client.camera.hot_folder import HotFolder, PutOff, Settling, _Waiting
from glad_client.camera.journal import JOURNAL, Journal, SentFile, Stamp
from glad_client.camera.line_camera import CameraShot
from glad_client.client import Client
from service.contract import Result, State, Verdict
from service.queue.jobs import JobQueue
from tests.support.disk import files_of_at_most
from tests.support.hot_folders import accepted, put, settled_at_once
from tests.support.line import picture, result_of
from tests.support.processes import eventually


class Asked(Client):
    """Counts how often it is asked for an inspection."""

    count = 0

    def get(self, inspection_id: str) -> Result:
        self.count += 1
        return super().get(inspection_id)


class TestSettling:
    def test_a_file_is_settled_when_neither_size_nor_time_has_changed_for_a_while(self) -> None:
        settling = Settling(settle_s=1.0)
        assert settling.settled({"a": Stamp(10, 1)}, now=0.0) == []
        assert settling.settled({"a": Stamp(10, 1)}, now=0.9) == []
        assert settling.settled({"a": Stamp(20, 2)}, now=1.0) == []  # it grew: the second begins again
        assert settling.settled({"a": Stamp(20, 2)}, now=1.9) == []
        assert settling.settled({"a": Stamp(20, 2)}, now=2.0) == ["a"]

    def test_a_file_that_was_away_begins_again(self) -> None:
        settling = Settling(settle_s=1.0)
        settling.settled({"a": Stamp(10, 1)}, now=0.0)
        settling.settled({}, now=0.5)
        assert settling.settled({"a": Stamp(10, 1)}, now=1.2) == []

    def test_an_empty_file_is_not_settled_and_the_oldest_comes_first(self) -> None:
        settling = Settling(settle_s=0)
        files = {"empty": Stamp(0, 1), "b": Stamp(1, 5), "c": Stamp(1, 3), "a": Stamp(1, 5)}
        assert settling.settled(files, now=0) == ["c", "a", "b"]


class TestJournal:
    SENT = SentFile(file="a.png", size=3, modified_ns=1, sha256="00", inspection_id="1")

    def test_what_was_added_is_known_after_a_restart(self, tmp_path: Path) -> None:
        Journal(tmp_path / "journal").add(self.SENT)
        assert Journal(tmp_path / "journal").find("a.png") == self.SENT

    def test_a_line_that_was_cut_off_costs_that_line_only(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        Journal(path).add(self.SENT)
        path.write_bytes(path.read_bytes() + b'{"file": "b.png", "si')
        journal = Journal(path)
        journal.add(self.SENT.model_copy(update={"file": "c.png"}))
        again = Journal(path)
        assert [again.find(name) is not None for name in ("a.png", "b.png", "c.png")] == [True, False, True]

    def test_a_line_that_the_disk_did_not_take_costs_no_other_line(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        journal.add(self.SENT)
        with files_of_at_most(path.stat().st_size + 20), pytest.raises(OSError, match="File too large"):
            journal.add(self.SENT.model_copy(update={"file": "b.png"}))
        journal.add(self.SENT.model_copy(update={"file": "c.png"}))
        again = Journal(path)
        assert [again.find(name) is not None for name in ("a.png", "b.png", "c.png")] == [True, False, True]

    def test_files_that_are_gone_are_forgotten_and_the_journal_stays_short(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        for number in range(1001):
            journal.add(self.SENT.model_copy(update={"file": f"{number}.png"}))
        journal.keep_only({"7.png": Stamp(3, 1)})
        assert journal.find("8.png") is None
        assert len(path.read_bytes().splitlines()) == 1001  # as long as 2 * 1 + 1000 lines may be, and no more
        journal.add(self.SENT)
        journal.add(self.SENT)
        journal.keep_only({"7.png": Stamp(3, 1)})
        assert [SentFile.model_validate_json(line).file for line in path.read_bytes().splitlines()] == ["7.png"]

    def test_a_share_that_is_away_with_its_journal_is_not_forgotten(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        journal.add(self.SENT)
        path.rename(tmp_path / "away")
        journal.keep_only({})
        assert journal.find("a.png") == self.SENT


class TestHotFolder:
    def test_what_appears_is_posted_once_the_oldest_first_and_nothing_else(
        self, service: Client, folder: Path, client: redis.Redis
    ) -> None:
        put(folder, "late.png", at=1_700_000_002)
        put(folder, "line-3/early.PNG", at=1_700_000_001)
        put(folder, "notes.txt")
        put(folder, ".hidden.png")
        put(folder, "empty.png", b"")
        hot = settled_at_once(service, folder)
        assert [shot.file for shot in hot.poll()] == ["line-3/early.PNG", "late.png"]
        assert list(hot.poll()) == []
        put(folder, "new.png")
        assert [shot.file for shot in hot.poll()] == ["new.png"]
        assert accepted(client) == 3

    def test_a_file_that_still_grows_is_left_alone(self, service: Client, folder: Path) -> None:
        whole = picture()
        hot = HotFolder(service, Destination("toy"), folder, settle_s=1000)
        put(folder, "a.png", whole[:40])
        assert list(hot.poll()) == []
        put(folder, "a.png", whole, at=1_700_000_001)
        assert list(hot.poll()) == []

    def test_a_restart_posts_nothing_again(self, service: Client, folder: Path, client: redis.Redis) -> None:
        put(folder, "a.png")
        (before,) = settled_at_once(service, folder).poll()
        put(folder, "b.png")
        assert [shot.file for shot in settled_at_once(service, folder).poll()] == ["b.png"]
        (folder / JOURNAL).unlink()
        again = {shot.file: shot.inspection for shot in settled_at_once(service, folder).poll()}
        assert accepted(client) == 2, "without the journal, name and content tell the service"
        assert again["a.png"] == before.inspection

    def test_touching_a_file_is_nothing_new_and_other_content_is(
        self, service: Client, folder: Path, client: redis.Redis
    ) -> None:
        hot = settled_at_once(service, folder)
        put(folder, "a.png", at=1_700_000_000)
        assert len(list(hot.poll())) == 1
        put(folder, "a.png", at=1_700_000_001)
        assert list(hot.poll()) == []
        put(folder, "a.png", picture(colour="red"), at=1_700_000_001)
        assert len(list(hot.poll())) == 1
        put(folder, "b.png", picture(colour="red"))
        assert len(list(hot.poll())) == 1, "another name is another part"
        assert accepted(client) == 3

    def test_posted_files_are_moved_and_refused_ones_apart(
        self, service: Client, folder: Path, client: redis.Redis
    ) -> None:
        done = folder / "done"
        put(folder, "line-3/a.png")
        put(folder, "bad.png", b"%PDF-1.7")
        shots = {shot.file: shot for shot in settled_at_once(service, folder, done).poll()}
        assert shots["line-3/a.png"].is_accepted
        assert "415" in str(shots["bad.png"].error)
        assert (done / "line-3" / "a.png").read_bytes() == picture()
        assert (done / "refused" / "bad.png").read_bytes() == b"%PDF-1.7"
        assert list(settled_at_once(service, folder, done).poll()) == []
        put(folder, "line-3/a.png", picture(colour="red"))
        assert len(list(settled_at_once(service, folder, done).poll())) == 1
        assert len(list((done / "line-3").iterdir())) == 2, "nothing that was moved is overwritten"
        assert accepted(client) == 2

    @pytest.mark.parametrize("image", ["good", "bad"])
    def test_a_file_that_is_written_anew_while_it_is_sent_is_not_moved_away_unsent(
        self, url: str, folder: Path, client: redis.Redis, image: str
    ) -> None:
        class Meanwhile(Client):
            """The camera writes its next image under the same name while the first is sent."""

            def submit(self, *given: Any, **options: Any) -> Result:
                try:
                    return super().submit(*given, **options)
                finally:
                    put(folder, "a.png", picture(colour="red"), at=1_700_000_001)

        done = folder / "done"
        put(folder, "a.png", picture() if image == "good" else b"%PDF-1.7")
        with Meanwhile(url) as service:
            assert len(list(settled_at_once(service, folder, done).poll())) == 1
        assert (folder / "a.png").read_bytes() == picture(colour="red")
        with Client(url) as again:
            (shot,) = settled_at_once(again, folder, done).poll()
        assert shot.is_accepted
        assert (done / "a.png").read_bytes() == picture(colour="red")

    def test_a_move_that_a_crash_prevented_is_made_up_for(self, service: Client, folder: Path, tmp_path: Path) -> None:
        put(folder, "a.png")
        assert len(list(settled_at_once(service, folder).poll())) == 1
        assert list(settled_at_once(service, folder, tmp_path / "done").poll()) == []
        assert (tmp_path / "done" / "a.png").exists()

    def test_a_refused_image_is_refused_once(self, service: Client, folder: Path) -> None:
        put(folder, "bad.png", picture()[:60])
        hot = settled_at_once(service, folder)
        (shot,) = hot.poll()
        assert "400" in str(shot.error)
        assert list(hot.poll()) == []
        assert list(settled_at_once(service, folder).poll()) == []

    def test_a_service_that_is_away_loses_no_image(self, url: str, folder: Path, client: redis.Redis) -> None:
        put(folder, "a.png", at=1_700_000_000)
        put(folder, "b.png", at=1_700_000_001)
        with (
            Client("http://127.0.0.1:9", patience_s=0.1) as nobody,
            pytest.raises(PutOff, match=r"a\.png: .*ConnectError"),
        ):
            list(settled_at_once(nobody, folder).poll())
        with Client(url) as service:
            assert [shot.file for shot in settled_at_once(service, folder).poll()] == ["a.png", "b.png"]
        assert accepted(client) == 2

    def test_a_product_that_is_not_known_yet_is_no_fault_of_the_image(self, service: Client, folder: Path) -> None:
        put(folder, "a.png")
        with pytest.raises(PutOff, match="404 Unknown product"):
            list(HotFolder(service, Destination("toi"), folder, settle_s=0).poll())
        assert len(list(settled_at_once(service, folder).poll())) == 1

    def test_a_folder_that_is_away_is_waited_for(self, service: Client, folder: Path) -> None:
        put(folder, "a.png")
        hot = settled_at_once(service, folder)
        assert len(list(hot.poll())) == 1
        folder.rename(folder.with_name("away"))
        with pytest.raises(PutOff, match="does not exist"):
            list(hot.poll())
        folder.with_name("away").rename(folder)
        assert list(hot.poll()) == []

    def test_each_image_has_the_fields_that_were_given_and_those_that_its_name_holds(
        self, service: Client, folder: Path
    ) -> None:
        labels = Labels.parse(["lot=L-42", "view=top"], r"(?P<serial>SN\d+)(_(?P<view>\w+))?")
        destination = Destination("toy", "line-3", labels)
        put(folder, "SN17_side.png", at=1_700_000_000)
        put(folder, "SN18.png", at=1_700_000_001)
        put(folder, "nameless.png", at=1_700_000_002)
        hot = HotFolder(service, destination, folder, settle_s=0)
        side, top, nameless = hot.poll()
        told = [
            (one.inspection.serial, one.inspection.view, one.inspection.lot, one.inspection.station)
            for one in (side, top)
            if one.inspection
        ]
        assert told == [("SN17", "side", "L-42", "line-3"), ("SN18", "top", "L-42", "line-3")]
        assert str(nameless.error).startswith("not sent: its name does not match ")
        assert list(hot.poll()) == [], "told once"
        (folder / "nameless.png").rename(folder / "SN19.png")
        assert [shot.file for shot in hot.poll()] == ["SN19.png"]

    def test_a_station_is_an_address_by_itself_and_its_product_is_set_elsewhere(
        self, service: Client, folder: Path, url: str
    ) -> None:
        put(folder, "a.png")
        hot = HotFolder(service, Destination(station="line 3"), folder, settle_s=0)
        with pytest.raises(PutOff, match="404 Unknown station"):
            list(hot.poll())
        httpx.put(f"{url}/v1/stations/line%203", json={"product": "toy", "lot": "L-43"}).raise_for_status()
        (shot,) = hot.poll()
        assert shot.inspection is not None
        told = (shot.inspection.product, shot.inspection.station, shot.inspection.lot)
        assert told == ("toy", "line 3", "L-43")

    def test_without_the_journal_and_with_other_fields_an_image_is_known_and_not_refused(
        self, service: Client, folder: Path, client: redis.Redis, tmp_path: Path
    ) -> None:
        def sending(lot: str) -> HotFolder:
            destination = Destination("toy", labels=Labels({"lot": lot}))
            return HotFolder(service, destination, folder, move_to=done, settle_s=0)

        done = tmp_path / "done"
        put(folder, "a.png")
        assert len(list(sending("L-42").poll())) == 1
        (done / "a.png").rename(folder / "a.png")
        (folder / JOURNAL).unlink()
        (shot,) = sending("L-43").poll()
        assert str(shot.error).startswith("posted before, with other fields: 409")
        assert (done / "a.png").exists()
        assert accepted(client) == 1

    def test_what_is_remembered_of_files_goes_with_them(self, service: Client, folder: Path) -> None:
        labels = Labels.parse([], "(?P<serial>SN)")
        hot = HotFolder(service, Destination("toy", labels=labels), folder, settle_s=0)
        path = put(folder, "nameless.png")
        assert len(list(hot.poll())) == 1
        path.unlink()
        assert list(hot.poll()) == []
        put(folder, "nameless.png")
        assert len(list(hot.poll())) == 1, "another file of that name is told of again"

    def test_a_journal_that_cannot_be_shortened_now_puts_off_and_does_not_end_the_watch(
        self, service: Client, folder: Path
    ) -> None:
        put(folder, "a.png")
        hot = settled_at_once(service, folder)
        assert len(list(hot.poll())) == 1
        for number in range(1100):
            hot._journal.add(TestJournal.SENT.model_copy(update={"file": f"{number}.png"}))
        with files_of_at_most(10), pytest.raises(PutOff, match="File too large"):
            list(hot.poll())
        assert list(hot.poll()) == []
        assert len((folder / JOURNAL).read_bytes().splitlines()) == 1

    def test_a_service_that_is_away_is_asked_for_one_result_only_before_the_next_look(
        self, service: Client, folder: Path
    ) -> None:
        for number in range(5):
            put(folder, f"{number}.png", at=1_700_000_000 + number)
        waiting = [_Waiting(shot, float("inf")) for shot in settled_at_once(service, folder).poll()]
        assert len(waiting) == 5
        with Asked("http://127.0.0.1:9", patience_s=0.1) as nobody:
            assert list(settled_at_once(nobody, folder)._results(waiting, threading.Event())) == []
            assert nobody.count == 1
        assert len(waiting) == 5

    def test_run_gives_each_result_until_it_is_stopped(
        self, service: Client, folder: Path, client: redis.Redis
    ) -> None:
        put(folder, "a.png", at=1_700_000_000)
        put(folder, "b.png", at=1_700_000_001)
        stopped, seen = threading.Event(), list[CameraShot]()
        hot = HotFolder(service, Destination("toy"), folder, settle_s=0, every_s=0.01)

        def watch() -> None:
            for shot in hot.run(stopped, wait_s=60):
                seen.append(shot)
                if len(seen) == 2:
                    stopped.set()

        watching = threading.Thread(target=watch)
        watching.start()
        queue = JobQueue(client)
        for _ in range(2):
            (claimed,) = queue.claim(1, block_ms=30_000)
            queue.complete(claimed, result_of(claimed))
        watching.join()
        assert sorted(shot.file for shot in seen) == ["a.png", "b.png"]
        assert {shot.inspection.state for shot in seen if shot.inspection} == {State.DONE}
        assert {shot.inspection.verdict for shot in seen if shot.inspection} == {Verdict.PASS}

    def test_run_tells_of_an_outage_once_and_goes_on(self, folder: Path) -> None:
        put(folder, "a.png")
        stopped = threading.Event()
        with Client("http://127.0.0.1:9", patience_s=0.1) as nobody:
            outcomes = settled_at_once(nobody, folder).run(stopped, wait_s=None)
            shot = next(outcomes)
            assert shot.file == "a.png"
            assert str(shot.error).startswith("tried again later: ")
            stopped.set()
            assert list(outcomes) == []


def glad(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "glad", *arguments]


def test_the_command_watches_until_sigterm_and_posts_nothing_twice_after_a_kill(
    url: str, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    labels = ["--station", "line-3", "--field", "lot=L-42", "--name-pattern", r"(?P<serial>\w+)\.png"]
    watching = ["--url", url, "--watch", "--settle", "0.1", "--no-wait"]
    command = glad("camera", str(folder), "--product", "toy", *labels, *watching)
    output = tmp_path / "output"

    def posted(count: int) -> bool:
        return accepted(client) == count

    put(folder, "a.png")
    with output.open("wb") as target, subprocess.Popen(command, stdout=target, stderr=target) as process:
        eventually(lambda: posted(1))
        process.kill()
    put(folder, "b.png", picture(colour="red"))
    with output.open("wb") as target, subprocess.Popen(command, stdout=target, stderr=target) as process:
        eventually(lambda: posted(2) and b"b.png" in output.read_bytes())
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, output.read_text()
    assert accepted(client) == 2
    jobs = [json.loads(str(client.hget(key, "job"))) for key in client.scan_iter("glad:v1:inspection:*")]
    told = {(job["serial"], job["lot"], job["station"]) for job in jobs}
    assert told == {("a", "L-42", "line-3"), ("b", "L-42", "line-3")}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--product", "toy", "--watch", "--again"], "leave out --limit, --again and --json"),
        (["--product", "toy", "--move-to", "x"], "give --watch with it"),
        ([], "say what the images show: --product, or --station"),
        (["--station", "line-3", "--field", "lot"], "'lot' is not a field: give NAME=VALUE, such as lot=L-42"),
        (["--station", "line-3", "--field", "colour=red"], "unknown field colour: choose from serial, lot, view"),
        (["--station", "line-3", "--field", "captured_at=today"], "captured_at is 'today'"),
        (["--station", "line-3", "--name-pattern", "("], "'(' is not a regular expression"),
        (["--station", "line-3", "--name-pattern", "SN"], "'SN' names no field: give one such as"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder: Path, options: list[str], reason: str) -> None:
    done = subprocess.run(glad("camera", str(folder), *options), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert reason in done.stderr

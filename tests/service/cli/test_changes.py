"""`glad thresholds` and `glad station` at a real service: what is shown, asked, changed and refused."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer
from typer.testing import CliRunner

from glad_client.answers import CheckHold, StationChange, StationSettings
from glad_client.client import Client
from glad_client.errors import ApiError
from glad_client.results import FailedSample
from model_store.store import Store
from service.cli.camera import camera
from service.cli.reviews import app as reviews_app
from service.cli.station import app as station_app
from service.cli.thresholds import app as thresholds_app
from service.contract import now
from service.queue import keys
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from service.settings import Settings
from tests.service.conftest import write_toy
from tests.support.gates import a_gate
from tests.support.http_server import server_on
from tests.support.line import make_job, picture, result_of
from tests.support.redis_server import RedisServer

Glad = Callable[..., Any]
cameras = typer.Typer()
cameras.command()(camera)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_toy(tmp_path / "store" / "toy" / "1")
    write_toy(tmp_path / "store" / "other" / "1")
    return tmp_path / "store"


@pytest.fixture
def url(client: redis.Redis, shared_redis: RedisServer, store: Path, tmp_path: Path) -> Iterator[str]:
    with server_on(Settings(redis_url=shared_redis.url, store=str(store), data_dir=tmp_path / "data")) as url:
        yield url


@pytest.fixture
def glad(url: str, monkeypatch: pytest.MonkeyPatch) -> Glad:
    """Calls a command at the service; nobody sits at a terminal."""
    monkeypatch.setenv("GLAD_URL", url)
    monkeypatch.delenv("GLAD_API_KEY", raising=False)

    def call(app: typer.Typer, *words: str) -> Any:
        return CliRunner().invoke(app, words)

    return call


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (cameras, ["{images}", "--product", "toy", "--no-wait"]),
        (station_app, ["list"]),
        (reviews_app, ["summary"]),
        (thresholds_app, ["show", "toy"]),
    ],
    ids=["camera", "station", "reviews", "thresholds"],
)
def test_a_command_looks_for_the_service_at_the_port_at_which_this_machine_serves(
    command: typer.Typer, words: list[str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLAD_URL", raising=False)
    monkeypatch.setenv("GLAD_PORT", url.rpartition(":")[2])
    (tmp_path / "part.png").write_bytes(picture())
    done = CliRunner().invoke(command, [word.format(images=tmp_path) for word in words])
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("GLAD_PORT", "8o00")
    refused = CliRunner().invoke(command, [word.format(images=tmp_path) for word in words])
    assert (refused.exit_code, "GLAD_PORT is '8o00'" in refused.stderr) == (1, True)


def test_limits_of_the_gate_are_shown_asked_for_and_recorded(glad: Glad, store: Path) -> None:
    shutil.rmtree(store / "toy" / "1")
    write_toy(store / "toy" / "1", gate=a_gate())
    shown = glad(thresholds_app, "gate", "toy")
    assert "60.0000   60.0000   60.0000" in shown.output
    assert glad(thresholds_app, "gate", "toy", "--darkest", "20").exit_code == 1  # nobody said yes
    made = glad(thresholds_app, "gate", "toy", "--darkest", "20", "--by", "ann", "--yes")
    assert (made.exit_code, "revision 1" in made.output) == (0, True)
    assert "gate_limits 1: darkest learned -> 20.0  by ann" in glad(thresholds_app, "changes", "toy").output
    refused = glad(thresholds_app, "gate", "toy", "--darkest", "200", "--yes")  # above `brightest`, 160
    assert (refused.exit_code, "every image would be stopped" in refused.output) == (1, True)
    assert glad(thresholds_app, "gate", "toy", "--learned", "--yes").exit_code == 0
    (last, _) = json.loads(glad(thresholds_app, "changes", "toy", "--json").output)["changes"][:2]
    assert (last["before"]["darkest"], last["after"]["darkest"]) == (20.0, None)


async def test_a_change_of_thresholds_shows_its_effect_first_and_needs_a_yes(
    glad: Glad, store: Path, submitter: JobSubmitter, make_queue: Callable[..., JobQueue]
) -> None:
    queue, ref = make_queue(), Store(store).resolve("toy")
    for score in (0.1, 0.45, 0.6, 0.9, 1.2):  # review from 0.5, fail from 1.0: pass, pass, review, review, fail
        await submitter.submit(make_job(bundle_hash=ref.hash))
        [claimed] = queue.claim(1)
        queue.complete(claimed, result_of(claimed, score))

    def change(*words: str) -> Any:
        return asyncio.to_thread(glad, thresholds_app, "set", "toy", "--review", "0.4", "--fail", "0.8", *words)

    shown = await change("--preview")
    assert shown.exit_code == 0, shown.output
    assert "of the last 5 inspections, 2 would have another verdict" in shown.output
    assert "pass -> review: 1" in shown.output  # 0.45
    assert "review -> fail: 1" in shown.output  # 0.9
    for refused in (await change(), await change("--yes", "--by", "ann")):
        assert "before" in refused.output
    assert "in force for images that come from now on" in refused.output
    state = Store(store).state("toy")
    assert (state.changed_by, state.thresholds("1", ref.manifest.thresholds).fail) == ("ann", 0.8)


def test_without_a_terminal_and_without_yes_nothing_changes(glad: Glad, store: Path) -> None:
    refused = glad(thresholds_app, "set", "toy", "--fail", "2")
    assert refused.exit_code == 1
    assert "nothing was changed" in refused.output
    assert "Add --yes" in refused.output
    assert Store(store).state("toy").revision == 0


def test_a_reset_goes_back_to_the_calibration(glad: Glad) -> None:
    assert glad(thresholds_app, "set", "toy/1", "--fail", "2", "--yes").exit_code == 0
    assert "2.0000" in glad(thresholds_app, "show", "toy").output
    assert glad(thresholds_app, "reset", "toy", "--yes").exit_code == 0
    (row,) = json.loads(glad(thresholds_app, "show", "toy", "--json").output)
    assert row == {"version": "1", "active": True, "review": 0.5, "fail": 1.0, "pixel": 1.0}  # of write_toy
    assert "nothing to change" in glad(thresholds_app, "reset", "toy").output


def test_a_note_stands_with_the_change(glad: Glad) -> None:
    done = glad(thresholds_app, "set", "toy", "--fail", "2", "--note", "proposal 1f3a", "--by", "ann", "--yes")
    assert done.exit_code == 0, done.output
    assert "by ann  proposal 1f3a" in glad(thresholds_app, "changes", "toy").output


def test_a_change_that_was_made_since_is_not_written_over(url: str) -> None:
    with Client(url) as client:
        shown = client.change_thresholds("toy", {"fail": 2.0}, preview=True)
        client.change_thresholds("toy", {"fail": 3.0}, by="ann")
        with pytest.raises(ApiError) as refused:
            client.change_thresholds("toy", {"fail": 2.0}, revision=shown.revision)
    assert refused.value.status == 412


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("set", "toy"), 2, "give --review, --fail or --pixel"),
        (("set", "toy", "--review", "9", "--yes"), 1, "422"),
        (("set", "toi", "--fail", "2"), 1, "no product 'toi'"),
        (("set", "toy/9", "--fail", "2"), 1, "'9'"),
        (("show", "toi"), 1, "no product 'toi'"),
        (("show", "toy", "--url", "http://127.0.0.1:9"), 1, "start one with `glad serve`, or name another"),
    ],
)
def test_what_cannot_be_changed_is_a_sentence(
    glad: Glad, words: tuple[str, ...], status: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    refused = glad(thresholds_app, *words)
    assert refused.exit_code == status
    assert why in refused.output
    assert "Traceback" not in refused.output


def test_a_takt_is_set_kept_by_a_changeover_and_lifted(glad: Glad) -> None:
    glad(station_app, "set", "line-3", "--product", "toy", "--takt-ms", "900", "--yes")
    glad(station_app, "hold", "line-3", "--reason", "blurred")
    assert "Add --yes" in glad(station_app, "takt", "line-3", "--ms", "800").output
    made = glad(station_app, "takt", "line-3", "--ms", "800", "--yes").output
    assert "takt_ms          900  ->  800" in made
    assert "hold             blurred  (stays)" in made
    assert "takt_ms          800  (stays)" in glad(station_app, "set", "line-3", "--product", "other", "--yes").output
    assert "has no takt any more" in glad(station_app, "takt", "line-3", "--off", "--yes").output
    (listed,) = json.loads(glad(station_app, "list", "--json").output)
    assert (listed["product"], listed["takt_ms"], listed["hold"]) == ("other", None, "blurred")
    for words in ((), ("--ms", "5", "--off")):
        assert "either --ms" in glad(station_app, "takt", "line-3", *words).output


def test_limit_samples_are_set_shown_checked_and_cancelled(glad: Glad) -> None:
    glad(station_app, "set", "line-3", "--product", "toy", "--yes")
    samples = ("--good", "G-1", "--bad", "B-1", "--bad", "B-2")
    assert "Add --yes" in glad(station_app, "limit-samples", "set", "line-3", *samples).output
    made = glad(station_app, "limit-samples", "set", "line-3", *samples, "--yes").output
    assert "0 samples before, 3 from now on" in made
    assert "show 3 samples to its camera" in glad(station_app, "limit-samples", "check", "line-3", "--by", "ann").output
    refused = glad(station_app, "limit-samples", "check", "line-3")
    assert (refused.exit_code, "runs already" in refused.output) == (1, True)
    shown = glad(station_app, "limit-samples", "show", "line-3").output
    assert "bad      B-2  not shown" in shown
    assert "by ann: running" in shown
    assert "is cancelled" in glad(station_app, "limit-samples", "cancel", "line-3").output
    found = json.loads(glad(station_app, "limit-samples", "show", "line-3", "--json").output)
    assert (found["check"]["state"], len(found["samples"])) == ("cancelled", 3)


def test_a_station_is_set_shown_held_released_and_removed(glad: Glad) -> None:
    assert "no station is set" in glad(station_app, "list").output
    made = glad(station_app, "set", "line-3", "--product", "toy", "--lot", "L-42", "--by", "mes", "--yes")
    assert made.exit_code == 0, made.output
    assert "line-3 inspects toy from now on" in made.output
    assert "on hold: blurred" in glad(station_app, "hold", "line-3", "--reason", "blurred").output
    changed = glad(station_app, "set", "line-3", "--product", "other", "--expected-view", "top", "--yes").output
    assert "product          toy  ->  other" in changed
    assert "lot              L-42  ->  -" in changed
    assert "hold             blurred  (stays)" in changed
    shown = glad(station_app, "show", "line-3")
    assert "expected_views   top" in shown.output
    assert shown.output.count("changed ") == 3
    (listed,) = json.loads(glad(station_app, "list", "--json").output)
    assert (listed["station"], listed["product"], listed["hold"]) == ("line-3", "other", "blurred")
    assert "Add --yes" in glad(station_app, "release", "line-3").output
    assert "is not on hold any more" in glad(station_app, "release", "line-3", "--yes").output
    assert "line-3 is not on hold" in glad(station_app, "release", "line-3").output
    assert "is removed" in glad(station_app, "remove", "line-3", "--yes").output
    assert glad(station_app, "show", "line-3").exit_code == 1


def test_of_two_holds_release_lifts_the_persons_and_says_what_still_holds(glad: Glad, client: redis.Redis) -> None:
    settings, sample = (
        StationSettings(product="toy", hold="blurred"),
        FailedSample(serial="B", expected="bad", verdict=None),
    )
    check = CheckHold(reason="limit sample B (bad) was pass", sample=sample, at=now(), by="b.huber")
    change = StationChange(
        at=now(), by="a.meier", settings=settings, held_at=now(), held_by="a.meier", check_hold=check
    )
    client.xadd(keys.station("line-3"), {"change": change.model_dump_json()})
    client.sadd(keys.STATIONS, "line-3")
    assert "check_hold       limit sample B (bad) was pass" in glad(station_app, "show", "line-3").output
    assert (
        "line-3 stays on hold after that: limit sample B (bad) was pass. Lift"
        in glad(station_app, "release", "line-3").output
    )
    released = glad(station_app, "release", "line-3", "--yes").output
    assert "line-3 is on hold: limit sample B (bad) was pass" in released
    assert "is not on hold any more" in glad(station_app, "release", "line-3", "--yes").output


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("set", "line-3", "--product", "toi", "--yes"), 1, "no product 'toi'"),
        (("set", "line-3", "--product", "A B"), 2, "--product is 'A B'"),
        (("set", "line-3", "--product", "toy", "--priority", "low"), 2, "--priority is 'low'"),
        (("hold", "line-3", "--reason", "dark"), 1, "no station 'line-3'"),
        (("remove", "line-3", "--yes"), 1, "no station 'line-3'"),
    ],
)
def test_a_station_that_cannot_be_changed_is_a_sentence(
    glad: Glad, words: tuple[str, ...], status: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    refused = glad(station_app, *words)
    assert refused.exit_code == status, refused.output
    assert why in refused.output
    assert "Traceback" not in refused.output


def test_a_service_with_keys_says_which_key_is_needed(
    client: redis.Redis, shared_redis: RedisServer, store: Path, tmp_path: Path
) -> None:
    settings = Settings(redis_url=shared_redis.url, store=str(store), data_dir=tmp_path / "data", auth="keys")
    with server_on(settings) as url:
        refused = CliRunner().invoke(station_app, ["list", "--url", url])
    assert refused.exit_code == 1
    assert "Give a key that may do this by GLAD_API_KEY or --key" in refused.output

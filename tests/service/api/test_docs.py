"""The Python examples of the documentation do what it says, on a real service."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis

from glad_client import Client, InspectionPage, StationSettings
from glad_client.camera import HotFolder
from service.settings import Settings
from tests.service.conftest import write_toy
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.redis_server import RedisServer
from tests.support.working import working

ROOT = Path(__file__).parents[3]


def examples(page: str) -> list[str]:
    """The page's Python blocks."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.fixture
def url(
    client: redis.Redis, shared_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A service with the product of the examples and a worker; the current folder has their images."""
    # Newer than the shipped bracket, so that it is the active one.
    write_toy(tmp_path / "store" / "bracket" / "7", created_at=datetime(2100, 1, 1, tzinfo=UTC))
    for name in ("part.png", "top.png", "side.png"):
        (tmp_path / name).write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    settings = Settings(redis_url=shared_redis.url, store=str(tmp_path / "store"), data_dir=tmp_path / "data")
    with server_on(settings) as url, working(settings):
        yield url


def run(example: str, url: str) -> None:
    here = example.replace("http://127.0.0.1:8000", url).replace("127.0.0.1:8000", url.removeprefix("http://"))
    exec(compile(here, "example", "exec"), {"__name__": "example"})


def client_example(word: str) -> str:
    """The block of the client's page that holds this word."""
    (example,) = [one for one in examples("client.md") if word in one]
    return example


def test_the_clients_first_example(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(examples("client.md")[0], url)
    assert capsys.readouterr().out.startswith("pass 0.25 (Region(box=(1, 2, 3, 4)")


def test_the_async_example(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(client_example("AsyncClient"), url)
    found = capsys.readouterr().out
    assert sorted(re.findall(r"'(\w+)'", found)) == ["pass", "review"]  # scores 0.25 and 0.5; review from 0.5 on


def test_the_mes_of_the_example_stores_each_result_once_however_often_it_is_started(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_page = Client.history_page

    def stopped_before_the_third_page(self: Client, **given: Any) -> InspectionPage:
        pages.append(given)
        if len(pages) == 3:
            raise KeyboardInterrupt
        return read_page(self, **given)

    monkeypatch.setattr(Client, "history_page", stopped_before_the_third_page)
    monkeypatch.setattr("time.sleep", lambda _: threading.Event().wait(0.01))
    for serial in ("SN-1", "SN-2"):
        pages: list[dict[str, Any]] = []
        with Client(url) as client:
            client.inspect("bracket", "part.png", fields={"serial": serial})
        with pytest.raises(KeyboardInterrupt):
            run(client_example("sqlite3"), url)
    rows = sqlite3.connect("mes.db").execute("SELECT serial, verdict, score FROM results ORDER BY ended").fetchall()
    assert rows == [("SN-1", "pass", 0.25), ("SN-2", "review", 0.5)]


def test_the_hot_folder_of_the_example_posts_what_appears_in_it(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Client(url) as client:
        client.set_station("line-3", StationSettings(product="bracket"))
    (tmp_path / "line-3").mkdir()
    (tmp_path / "line-3" / "SN-1.png").write_bytes(picture())
    watch = HotFolder.run
    monkeypatch.setattr(HotFolder, "run", lambda self, stopped, wait_s: islice(watch(self, stopped, wait_s), 1))
    run(client_example("HotFolder").replace("http://inspect.plant:8000", url).replace("/data", str(tmp_path)), url)
    assert capsys.readouterr().out == "SN-1.png pass\n"
    assert (tmp_path / "done" / "SN-1.png").exists()


def test_the_example_that_follows_events_goes_on_where_it_stopped(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(url) as client:
        ids = [client.submit("bracket", picture(), fields={"serial": f"SN-{number}"}).id for number in (1, 2)]
        for inspection_id in ids:
            client.wait(inspection_id)
    follow = Client.events
    monkeypatch.setattr(Client, "events", lambda self, **given: islice(follow(self, **given), 1))
    run(client_example("bookmark"), url)
    run(client_example("bookmark"), url)
    assert capsys.readouterr().out == "SN-1 pass\nSN-2 review\n"


def test_the_example_of_the_open_inference_protocol(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [one for one in examples("api.md") if "tritonclient" in one]
    run(example, url)
    assert capsys.readouterr().out == "pass 0.25\n"


def test_the_mes_recipe_stores_every_result_once_however_often_it_runs(url: str) -> None:
    (example,) = examples("mes.md")
    with Client(url) as client:
        for serial in ("SN-1", "SN-2", "SN-3"):
            client.wait(client.submit("bracket", picture(), fields={"serial": serial}).id)
            run(example, url)
            run(example, url)
    rows = sqlite3.connect("mes.db").execute("SELECT serial FROM results ORDER BY rowid").fetchall()
    assert rows == [("SN-1",), ("SN-2",), ("SN-3",)]

"""The Python examples of the documentation do what it says, on a real service."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
import redis

from glad_client.client import Client
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
    for name in ("part.png", "part2.png"):
        (tmp_path / name).write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    settings = Settings(redis_url=shared_redis.url, store=str(tmp_path / "store"), data_dir=tmp_path / "data")
    with server_on(settings) as url, working(settings):
        yield url


def run(example: str, url: str) -> None:
    here = example.replace("http://127.0.0.1:8000", url).replace("127.0.0.1:8000", url.removeprefix("http://"))
    exec(compile(here, "example", "exec"), {"__name__": "example"})


def test_the_clients_first_example(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(examples("client.md")[0], url)
    assert capsys.readouterr().out == "pass 0.25\n"
    assert Path("overlay.png").read_bytes() == picture()


def test_the_async_example(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(examples("client.md")[1], url)
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.split()[0] for line in lines] == ["part.png", "part2.png"]
    assert sorted(line.split()[1] for line in lines) == ["pass", "review"]  # scores 0.25 and 0.5; review from 0.5 on


def test_the_example_that_follows_events_goes_on_where_it_stopped(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(url) as client:
        ids = [client.submit("bracket", picture(), fields={"serial": f"SN-{number}"}).id for number in (1, 2)]
        for inspection_id in ids:
            client.wait(inspection_id)
    follow = Client.events
    monkeypatch.setattr(Client, "events", lambda self, **given: islice(follow(self, **given), 1))
    run(examples("client.md")[2], url)
    run(examples("client.md")[2], url)
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

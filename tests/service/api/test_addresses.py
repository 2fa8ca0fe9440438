"""Names in addresses, sent by real clients to a real server: what an image may name can be called by that name."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import redis

from glad_client import ApiError, Client
from service.settings import Settings
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.redis_server import RedisServer

NAMES = (
    "line-3",
    "line/3",
    "hall 2/line 3/camera 1",
    "line 3",
    "50%",
    "line%2F3",
    "what?",
    "line#3",
    "a.b",
    "...",
    "a&b=c+d;e,f",
    "Prüflinie/3",
    "検査/三",
    "\\\\server\\share",
    "stations",
    "inspections",
    "inspection/1",
    "https:%2F%2Fid.example",
    "🏭",
)
REFUSED_STATIONS = (".", "..", "/line", "line/", "line//3", "a/../b", "./a", "line-3/inspections", "a/inspections/b")
SUBMIT = "/v1/products/toy/inspections"


@pytest.fixture
def url(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Iterator[str]:
    """A service on a real server."""
    settings = Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path / "data")
    with server_on(settings) as url:
        yield url


def put_as_it_is(url: str, path: str) -> int:
    """The status of a PUT whose path nobody normalises, as other clients would."""
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        connection.request("PUT", path, b'{"product": "toy"}', {"Content-Type": "application/json"})
        return connection.getresponse().status


@pytest.mark.parametrize("name", NAMES)
def test_a_station_that_an_image_may_name_has_an_address(url: str, name: str) -> None:
    address = f"/v1/stations/{quote(name, safe='')}"
    with httpx.Client(base_url=url, timeout=60) as http, Client(url) as client:
        assert http.post(SUBMIT, params={"station": name}, content=picture()).status_code == 202
        put = http.put(address, json={"product": "toy", "lot": "L-1", "hold": "blurred"})
        assert (put.status_code, put.json()["station"]) == (200, name)
        shown = http.get(address).json()
        assert (shown["station"], shown["hold"]) == (name, "blurred")
        posted = http.post(f"{address}/inspections", content=picture(600, 450, "BMP")).json()  # more than JSON may have
        assert (posted["station"], posted["lot"], posted["product"]) == (name, "L-1", "toy")
        assert client.submit(None, picture(), station=name).station == name
        assert [one["station"] for one in http.get("/v1/stations").json()["stations"]] == [name]
        assert http.request("HEAD", address).status_code == 200
        assert http.delete(address).status_code == 204
        assert http.post(f"{address}/inspections", content=picture()).status_code == 404


@pytest.mark.parametrize("name", REFUSED_STATIONS)
def test_a_station_that_cannot_be_an_address_is_refused_as_a_field_too(url: str, name: str) -> None:
    refused = httpx.post(url + SUBMIT, params={"station": name}, content=picture(), timeout=60)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "station")
    assert "line/3" in refused.json()["detail"]
    for path in (quote(name, safe=""), quote(name)):
        assert put_as_it_is(url, f"/v1/stations/{path}") in {307, 404, 405, 422}
    assert httpx.get(f"{url}/v1/stations", timeout=60).json()["stations"] == []


def test_letters_that_were_lost_name_no_station(url: str) -> None:
    """Prüf and Präf in Latin-1 would be one station."""
    for name in ("Pr%FCf", "Pr%E4f"):
        put = httpx.put(f"{url}/v1/stations/{name}", json={"product": "toy"}, timeout=60)
        assert (put.status_code, put.json()["errors"][0]["field"]) == (422, "station")
        assert "UTF-8" in put.text


def test_a_slash_needs_no_escape_where_a_proxy_has_decoded_it(url: str) -> None:
    httpx.put(f"{url}/v1/stations/line/3", json={"product": "toy"}, timeout=60)
    assert httpx.get(f"{url}/v1/stations/line%2F3", timeout=60).json()["station"] == "line/3"
    posted = httpx.post(f"{url}/v1/stations/line/3/inspections", content=picture(), timeout=60)
    assert posted.json()["station"] == "line/3"


def test_the_address_for_images_is_no_station(url: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = httpx.request(method, f"{url}/v1/stations/line-3/inspections", timeout=60)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_slash_behind_a_station_belongs_to_no_name(url: str) -> None:
    answer = httpx.put(f"{url}/v1/stations/line-3/", json={"product": "toy"}, timeout=60)
    assert (answer.status_code, answer.headers["location"]) == (307, "/v1/stations/line-3")


@pytest.mark.parametrize("serial", [*NAMES, "/SN", "SN/", "a//b", "a/../b", "https://id.example/01/0950/21/7"])
def test_a_serial_that_an_image_may_have_is_a_parts_address(url: str, serial: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as http:
        posted = http.post(SUBMIT, params={"serial": serial}, content=picture()).json()
        part = http.get(f"/v1/parts/{quote(serial, safe='')}").json()
        assert (part["serial"], [view["inspection_id"] for view in part["views"]]) == (serial, [posted["id"]])


@pytest.mark.parametrize("serial", [".", ".."])
def test_a_serial_that_cannot_be_an_address_is_refused_as_a_field_too(url: str, serial: str) -> None:
    refused = httpx.post(url + SUBMIT, params={"serial": serial}, content=picture(), timeout=60)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "serial")


@pytest.mark.parametrize("name", [".", "..", "../products/toy", "a/b"])
def test_the_client_calls_no_other_address_than_the_names(url: str, name: str) -> None:
    with Client(url, patience_s=1) as client, pytest.raises(ApiError) as refused:
        client.submit(name, picture())
    assert refused.value.status == 404
    with Client(url, patience_s=1) as client, pytest.raises(ApiError) as refused:
        client.submit(None, picture(), station=name)
    assert refused.value.status in {404, 422}

"""What the commands of the service share: a wrong setting is one sentence that names where it was set."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from redis.connection import parse_url

from service.cli.common import load_settings, misspelt_settings, open_client
from service.host.private_redis import redis_url


def test_a_wrong_option_is_named_with_the_variable_that_it_stands_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        load_settings(port=-1, host=None)
    assert capsys.readouterr().err.startswith("glad: GLAD_PORT (--port) is -1: input should be greater than")


def test_a_wrong_variable_is_named_without_an_option_that_may_not_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLAD_MAX_BACKLOG", "none")
    with pytest.raises(typer.Exit):
        load_settings()
    assert capsys.readouterr().err.startswith("glad: GLAD_MAX_BACKLOG is 'none': input should be a valid integer")


def test_an_option_that_was_not_given_leaves_the_variable_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_PORT", "8100")
    assert load_settings(port=None).port == 8100
    assert load_settings(port=8200).port == 8200


@pytest.mark.parametrize(
    "url",
    ["foo", "http://host", "redis://:s3cret@host:port", "redis://:s3cret@host:99999", "redis://:s3cret@host/first",
     "redis://:s3cret@host?db=x", "redis://:s3/cret@host", "unix://"],
)  # fmt: skip
def test_an_address_that_is_no_redis_is_one_sentence_without_the_password(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLAD_REDIS_URL", url)
    with pytest.raises(typer.Exit):
        load_settings()
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("glad: GLAD_REDIS_URL: it is no address of a Redis")
    assert "cret" not in told


@pytest.mark.parametrize(
    "url",
    ["redis://host", "redis://host:6380/3", "rediss://user:p%2Fw@host:6379/0?ssl_cert_reqs=none", "redis://[::1]/",
     "unix:///run/redis.sock?db=1"],
)  # fmt: skip
def test_an_address_of_a_redis_is_taken_as_it_is(url: str) -> None:
    assert load_settings(redis_url=url).redis_url == url


def test_the_private_redis_is_found_in_a_folder_of_any_name() -> None:
    found = parse_url(redis_url(Path("/data/line #3?/100 %41/redis.sock")))  # type: ignore[no-untyped-call]
    assert (found["path"], found["db"]) == ("/data/line #3?/100 %41/redis.sock", 0)


def test_an_address_of_the_service_without_http_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        open_client("inspect.plant:8000", None)
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("glad: url is 'inspect.plant:8000': give the service's address with http://")


def test_a_variable_that_is_nearly_a_setting_is_named_and_those_of_other_programs_are_not() -> None:
    others = ["GLAD_URL", "GLAD_API_KEY", "GLAD_CAMERA_RATE", "GLAD_REDIS_MEMORY", "GLAD_TAKT_S", "PATH"]
    assert misspelt_settings(others) == []
    assert misspelt_settings([*others, "GLAD_TAKTS"]) == ["GLAD_TAKTS is no setting: did you mean GLAD_TAKT_S?"]

"""Settings: arguments over the environment over defaults, checked at start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_arguments_win_over_the_environment_and_that_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_PORT", "9000")
    monkeypatch.setenv("GLAD_HOST", "0.0.0.0")
    monkeypatch.setenv("GLAD_REDIS_URL", "")
    settings = Settings(host="::1")
    assert (settings.port, settings.host, settings.redis_url, settings.device) == (9000, "::1", None, "auto")


def test_the_defaults_serve_one_machine_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GLAD_")]:
        monkeypatch.delenv(name)
    settings = Settings()
    assert (settings.host, settings.port, settings.worker_port) == ("127.0.0.1", 8000, 0)
    assert settings.data_dir == Path.home() / ".local" / "state" / "glad"
    assert settings.store_url == str(settings.data_dir / "store")
    assert (settings.redis_url, settings.artifacts_url) == (None, None)
    assert (settings.engine, settings.device, settings.max_pixels) == ("auto", "auto", 64_000_000)


def test_store_and_artifacts_lie_in_the_data_folder_unless_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert (settings.store_url, settings.artifacts) == (str(tmp_path / "store"), str(tmp_path / "artifacts"))
    named = Settings(data_dir=tmp_path, store="/bundles", artifacts_url="s3://bucket/glad")
    assert (named.store_url, named.artifacts) == ("/bundles", "s3://bucket/glad")
    assert Settings(data_dir=Path("~/glad")).data_dir == Path.home() / "glad"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GLAD_PORT", "99999"),
        ("GLAD_MAX_PIXELS", "0"),
        ("GLAD_ENGINE", "tf"),
        ("GLAD_POOL", "A B"),
        ("GLAD_POOLS", "slow=a,b fast=b"),
        ("GLAD_POOLS", "slow=a slow=b"),
        ("GLAD_POOLS", "slow=a, b"),
        ("GLAD_POOLS", "slow"),
        ("GLAD_POOLS", "Slow=a"),
        ("GLAD_MAX_WAIT_S", "inf"),
        ("GLAD_RATE_PER_S", "nan"),
    ],
)
def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_product_has_the_pool_that_names_it_and_else_that_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_POOLS", "slow=casting,gear fast=lid")
    settings = Settings(pool="rest")
    assert [settings.pool_of(name) for name in ("casting", "gear", "lid", "toy")] == ["slow", "slow", "fast", "rest"]
    assert settings.pool_names == ("rest", "slow", "fast")
    assert Settings(pool="slow").pool_names == ("slow", "fast")
    taken = [
        [name for name in ("casting", "lid", "toy") if Settings(pool=pool).takes(name)] for pool in ("slow", "rest")
    ]
    assert taken == [["casting"], ["toy"]]
    monkeypatch.delenv("GLAD_POOLS")
    assert (Settings().pool_of("casting"), Settings().pool_names) == ("default", ("default",))


def test_pools_that_cannot_be_understood_say_how_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_POOLS", "slow: casting")
    with pytest.raises(ValidationError, match="'slow:' is no pool with its products: write pool=product,product"):
        Settings()
    with pytest.raises(ValidationError, match="product 'b' is in pools 'slow' and 'fast': choose one"):
        Settings(pools={"slow": ("a", "b"), "fast": ("b",)})

"""The outbox's settings: nothing by default, wrong ones stop the start, no message repeats a secret."""

from __future__ import annotations

import base64
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.outbox.settings import OutboxSettings
from tests.service.outbox.conftest import SECRET


def refused(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """What is said of an environment that is refused."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as error:
        OutboxSettings()
    assert "Sesame" not in str(error.value)
    return OutboxSettings.describe_errors(error.value)


def test_nothing_is_delivered_unless_it_is_asked_for() -> None:
    assert not OutboxSettings().delivers


def test_the_environment_says_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_WEBHOOK_URLS", "https://a.example/x, https://b.example:8443/y?z=1")
    monkeypatch.setenv("GLAD_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("GLAD_WEBHOOK_ALLOW", "10.20.0.0/16 fd00::/8")
    monkeypatch.setenv("GLAD_MQTT_URL", "mqtts://broker.example")
    monkeypatch.setenv("GLAD_ARCHIVE", "on")
    settings = OutboxSettings()
    assert settings.webhook_urls == ("https://a.example/x", "https://b.example:8443/y?z=1")
    assert settings.webhook_keys == (b"0123456789abcdef0123456789abcdef",)
    assert settings.webhook_allow == (ip_network("10.20.0.0/16"), ip_network("fd00::/8"))
    assert (settings.mqtt_topic, settings.archive, settings.delivers) == ("glad", True, True)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_WEBHOOK_URLS", "https://a.example/token-Sesame")
    monkeypatch.setenv("GLAD_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("GLAD_MQTT_USERNAME", "glad")
    monkeypatch.setenv("GLAD_MQTT_PASSWORD", "Sesame")
    shown = repr(OutboxSettings())
    assert "Sesame" not in shown
    assert SECRET not in shown


@pytest.mark.parametrize("url", ["http://a.example/Sesame", "a.example/Sesame", "https:///Sesame", "https://[x/Sesame"])
def test_a_webhook_that_is_not_https_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    said = refused(monkeypatch, GLAD_WEBHOOK_URLS=url, GLAD_WEBHOOK_SECRET=SECRET)
    assert said.startswith("GLAD_WEBHOOK_URLS: ")
    assert "https://" in said


def test_a_user_in_a_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, GLAD_WEBHOOK_URLS="https://me:Sesame@a.example/", GLAD_WEBHOOK_SECRET=SECRET)
    assert "leave user and password out" in said
    monkeypatch.delenv("GLAD_WEBHOOK_URLS")
    assert "GLAD_MQTT_PASSWORD instead" in refused(monkeypatch, GLAD_MQTT_URL="mqtts://me:Sesame@b.example")


@pytest.mark.parametrize(
    "secret", ["Sesame", "whsec_", "whsec_Sesame!", "whsec_" + base64.b64encode(b"Sesame" * 3).decode()]
)
def test_a_weak_or_malformed_secret_is_refused_with_the_way_to_a_good_one(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    said = refused(monkeypatch, GLAD_WEBHOOK_URLS="https://a.example/x", GLAD_WEBHOOK_SECRET=secret)
    assert "24 to 64 random bytes" in said
    assert "head -c 32 /dev/urandom" in said
    assert secret not in said.replace("whsec_ and", "").replace("whsec_$", "") or secret == "whsec_"


def test_webhooks_without_a_secret_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GLAD_WEBHOOK_SECRET is not" in refused(monkeypatch, GLAD_WEBHOOK_URLS="https://a.example/x")


@pytest.mark.parametrize("topic", ["/glad", "glad/", "glad/#", "+/glad", "$SYS"])
def test_what_is_no_topic_is_refused(monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    assert refused(monkeypatch, GLAD_MQTT_TOPIC=topic).startswith("GLAD_MQTT_TOPIC: ")


@pytest.mark.parametrize("url", ["tcp://b.example", "mqtts://b.example/topic", "mqtts://"])
def test_what_is_no_brokers_url_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert refused(monkeypatch, GLAD_MQTT_URL=url).startswith("GLAD_MQTT_URL: ")


def test_a_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = refused(monkeypatch, GLAD_MQTT_CA_FILE=str(tmp_path / "none.pem"))
    assert f"GLAD_MQTT_CA_FILE is '{tmp_path / 'none.pem'}', which is not a file" in said


def test_a_password_without_a_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GLAD_MQTT_USERNAME" in refused(monkeypatch, GLAD_MQTT_PASSWORD="Sesame")

"""GLAD_WEBHOOK_*, GLAD_MQTT_*, GLAD_ARCHIVE*: where events are delivered. By default they are delivered nowhere.

Only the outbox process reads these settings, so neither the API nor a worker holds their secrets. No message shows a
secret.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

import httpx
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from service.settings import Folder, Settings

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""Lengths of a key that Standard Webhooks allows."""

Network = IPv4Network | IPv6Network


def split_words(given: object) -> object:
    """Return the words of a text with commas or spaces between; any other value as it is."""
    return tuple(given.replace(",", " ").split()) if isinstance(given, str) else given


def _check_webhook_url(text: str) -> str:
    parts = _split_url(text)
    if parts.scheme != "https":
        raise ValueError(f"a webhook's scheme is {parts.scheme!r}: only https:// is delivered to")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a webhook's URL names a user: the signature proves who sends, so leave user and password out")
    return text


def _check_mqtt_url(text: str) -> str:
    parts = _split_url(text)
    if parts.scheme not in {"mqtt", "mqtts"}:
        raise ValueError(f"the scheme is {parts.scheme!r}: give mqtts://host:8883, or mqtt:// for one without TLS")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL names a user: set GLAD_MQTT_USERNAME and GLAD_MQTT_PASSWORD instead")
    if parts.path.strip("/") or parts.query:
        raise ValueError("the URL has a path: the topic goes into GLAD_MQTT_TOPIC")
    return text


def _split_url(text: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        ValueError: if it is not a URL with a host; the message does not show the URL, which may hold a token.
    """
    try:
        parts, _ = urlsplit(text), httpx.URL(text)
        hostname, _ = parts.hostname, parts.port
    except (ValueError, httpx.InvalidURL):
        hostname = None
    if not hostname:
        raise ValueError("is not a URL with a host, such as https://mes.example/hooks/glad")
    return parts


def _check_topic(text: str) -> str:
    if not text or text.startswith(("/", "$")) or text.endswith("/") or set(text) & set("+#\0") or len(text) > 256:
        raise ValueError(f"{text[:50]!r} is not a topic to publish on: give words with slashes between, without + # $")
    return text


def decode_secret(text: str) -> bytes:
    """Return the key of `whsec_<base64>`.

    Raises:
        ValueError: if it has another form; the message does not show the secret.
    """
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise ValueError(
            "a webhook secret must be whsec_ and the base64 of 24 to 64 random bytes: make one with "
            "`echo whsec_$(head -c 32 /dev/urandom | base64)`"
        )
    return key


WebhookUrls = Annotated[tuple[Annotated[str, AfterValidator(_check_webhook_url)], ...], NoDecode]
Networks = Annotated[tuple[Annotated[Network, BeforeValidator(ip_network)], ...], NoDecode]


class OutboxSettings(Settings):
    """The service's settings together with those for the delivery of events."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    webhook_urls: Annotated[WebhookUrls, BeforeValidator(split_words)] = Field(
        (), repr=False, description="https URLs, with commas between; each gets every event; default: no webhooks"
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="`whsec_…`, the same for all URLs; the old and the new one, with a comma between, while receivers "
        "change over: each signs",
    )
    webhook_allow: Annotated[Networks, BeforeValidator(split_words)] = Field(
        (), description="networks that are not public and may be delivered to, with commas between: `10.20.0.0/16`"
    )
    webhook_ca_file: Folder | None = Field(
        None, description="PEM file of certificates to trust instead of the public ones"
    )
    webhook_timeout_s: float = Field(
        10, gt=0, le=60, description="for each part of an attempt (connecting, sending, the answer); all of it: 3 times"
    )
    webhook_give_up_after_s: float = Field(86_400, ge=0, description="from the first failure to the dead letter, in s")

    mqtt_url: Annotated[str, AfterValidator(_check_mqtt_url)] | None = Field(
        None, description="`mqtts://host[:8883]`, or `mqtt://host[:1883]` without TLS; default: no MQTT"
    )
    mqtt_topic: Annotated[str, AfterValidator(_check_topic)] = Field(
        "glad", description="events go to `{topic}/{station}`; those without a station to `{topic}`"
    )
    mqtt_username: str | None = Field(None, description="user at the broker")
    mqtt_password: SecretStr | None = Field(None, description="its password")
    mqtt_client_id: str = Field("", description="name of this client at the broker; default: the broker chooses one")
    mqtt_version: Literal["5", "3.1.1"] = Field(
        "5", description="of the protocol; with 3.1.1 a broker cannot report that it refused a message"
    )
    mqtt_ca_file: Folder | None = Field(
        None, description="PEM file of certificates to trust instead of the public ones"
    )
    mqtt_cert_file: Folder | None = Field(
        None, description="PEM file of this client's certificate, where the broker asks for one"
    )
    mqtt_key_file: Folder | None = Field(None, description="PEM file of its key")

    archive: bool = Field(False, description="keep every event, with its result, in the artifact store")
    archive_every_s: float = Field(60, gt=0, description="how long events wait for others, to be written together")

    outbox_port: int = Field(0, ge=0, le=65535, description="port of the outbox's metrics and health; 0: any free one")

    @classmethod
    def outbox_variables(cls, environment: Mapping[str, str]) -> frozenset[str]:
        """Return the names in this environment that only the outbox needs: among them secrets, and URLs with tokens."""
        added = {f"GLAD_{name.upper()}" for name in cls.model_fields.keys() - Settings.model_fields.keys()}
        return frozenset(name for name in environment if name.upper() in added)

    @classmethod
    def names_of_secrets(cls) -> frozenset[str]:
        """Return the settings whose values no message shows: all of the outbox, for a URL may hold a token."""
        return super().names_of_secrets() | (cls.model_fields.keys() - Settings.model_fields.keys())

    @property
    def delivers(self) -> bool:
        """Whether events are delivered anywhere."""
        return bool(self.webhook_urls or self.mqtt_url or self.archive)

    @property
    def webhook_keys(self) -> tuple[bytes, ...]:
        """The keys that sign webhooks."""
        text = "" if self.webhook_secret is None else self.webhook_secret.get_secret_value()
        return tuple(decode_secret(word) for word in text.replace(",", " ").split())

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if not self.webhook_keys and self.webhook_urls:
            raise ValueError(
                "GLAD_WEBHOOK_URLS is set and GLAD_WEBHOOK_SECRET is not: a receiver must be able to check who sends; "
                "make a secret with `echo whsec_$(head -c 32 /dev/urandom | base64)`"
            )
        if (self.mqtt_password is not None or self.mqtt_key_file is not None) and not (
            self.mqtt_username is not None or self.mqtt_cert_file is not None
        ):
            raise ValueError("a password or key for MQTT without GLAD_MQTT_USERNAME or GLAD_MQTT_CERT_FILE")
        for name in ("webhook_ca_file", "mqtt_ca_file", "mqtt_cert_file", "mqtt_key_file"):
            _check_readable(name, getattr(self, name))
        return self


def _check_readable(name: str, path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise ValueError(f"GLAD_{name.upper()} is {str(path)!r}, which is not a file: give a PEM file that can be read")

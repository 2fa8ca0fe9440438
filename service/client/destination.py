"""Whose images a camera command posts, and what it says of each: fields for all, and what each file's name holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pydantic import ValidationError

from service.client.client import Client
from service.contract import Result, Traceability

FIELDS = (*Traceability.model_fields, "priority", "deadline_ms")
"""What may be said of an image: see docs/api.md."""


class NameDoesNotMatch(Exception):
    """A file's name does not say what it has to say."""


@dataclass(frozen=True)
class Labels:
    """The fields that are sent with each image."""

    fixed: Mapping[str, str] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None
    """Searched in the file's path within the folder; its named groups are fields, and win over the fixed ones."""

    @classmethod
    def parse(cls, given: Sequence[str], pattern: str | None) -> Self:
        """Of `name=value` words and a regular expression. ValueError says what is wrong with which."""
        if wrong := next((word for word in given if "=" not in word), None):
            raise ValueError(f"{wrong!r} is no field: give NAME=VALUE, such as lot=L-42")
        fixed = dict(word.split("=", 1) for word in given)
        compiled = None if pattern is None else _compiled(pattern)
        named = set(compiled.groupindex) if compiled else set()
        if unknown := sorted((fixed.keys() | named) - set(FIELDS)):
            raise ValueError(f"unknown field {', '.join(unknown)}: there are {', '.join(FIELDS)}")
        _check(fixed)
        return cls(fixed, compiled)

    def of(self, file: str) -> dict[str, str]:
        """The fields of one file, by its path within the folder. NameDoesNotMatch."""
        if self.pattern is None:
            return dict(self.fixed)
        found = self.pattern.search(file)
        if found is None:
            raise NameDoesNotMatch(f"not sent: its name does not match {self.pattern.pattern!r}")
        return {**self.fixed, **{name: value for name, value in found.groupdict().items() if value}}


@dataclass(frozen=True)
class Destination:
    """A product, a station, or a product's station; and the labels of its images."""

    product: str | None = None
    """None: the one that the station is set to."""
    station: str | None = None
    labels: Labels = field(default_factory=Labels)

    def post(self, client: Client, file: str, image: bytes, key: str) -> Result:
        """Posts one image. ClientError; NameDoesNotMatch."""
        fields = self.labels.of(file)
        if self.product is None:
            return client.submit(None, image, station=self.station, idempotency_key=key, fields=fields)
        station = {} if self.station is None else {"station": self.station}
        return client.submit(self.product, image, idempotency_key=key, fields=station | fields)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if not compiled.groupindex:
        raise ValueError(f"{pattern!r} names no field: give one such as '(?P<serial>SN[0-9]+)'")
    return compiled


def _check(fixed: Mapping[str, str]) -> None:
    """What every image would be refused for is found before the first."""
    try:
        Traceability.model_validate({name: value for name, value in fixed.items() if name in Traceability.model_fields})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][0]} is {fixed[str(first['loc'][0])]!r}: {first['msg']}") from error

"""Where a camera command posts its images, and the fields that it sends with each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pydantic import ValidationError

from glad_client.client import Client
from glad_client.results import Result, Traceability

FIELDS = (*Traceability.model_fields, "priority", "deadline_ms")
"""Fields that an image may have: see docs/api.md."""


class NameDoesNotMatch(Exception):
    """A file's name does not match the pattern that its fields are taken from."""


@dataclass(frozen=True)
class Labels:
    """The fields that are sent with each image: some for all images, others taken from each file's name."""

    fixed: Mapping[str, str] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None
    """Searched in the file's path within the folder; its named groups are fields and override the fixed ones."""

    @classmethod
    def parse(cls, given: Sequence[str], pattern: str | None) -> Self:
        """Return the labels of `name=value` words and a regular expression.

        Raises:
            ValueError: if a word, a field or the expression is not valid; the message says which.
        """
        if wrong := next((word for word in given if "=" not in word), None):
            raise ValueError(f"{wrong!r} is not a field: give NAME=VALUE, such as lot=L-42")
        fixed = dict(word.split("=", 1) for word in given)
        compiled = None if pattern is None else _compiled(pattern)
        named = set(compiled.groupindex) if compiled else set()
        if unknown := sorted((fixed.keys() | named) - set(FIELDS)):
            raise ValueError(f"unknown field {', '.join(unknown)}: choose from {', '.join(FIELDS)}")
        _check(fixed)
        return cls(fixed, compiled)

    def fields_for(self, file: str) -> dict[str, str]:
        """Return the fields of one file, given its path within the folder.

        Raises:
            NameDoesNotMatch: if the pattern is not in the path.
        """
        if self.pattern is None:
            return dict(self.fixed)
        match = self.pattern.search(file)
        if match is None:
            raise NameDoesNotMatch(f"not sent: its name does not match {self.pattern.pattern!r}")
        return {**self.fixed, **{name: value for name, value in match.groupdict().items() if value}}


@dataclass(frozen=True)
class Destination:
    """The address that images are posted to: a product, a station, or both; and the labels of the images."""

    product: str | None = None
    """None: the product that is set for the station."""
    station: str | None = None
    labels: Labels = field(default_factory=Labels)

    def post(self, client: Client, file: str, image: bytes, key: str) -> Result:
        """Post one image and return its inspection.

        Raises:
            NameDoesNotMatch: if the file's name lacks the fields that it must hold.
            ClientError: if the service refuses the image or cannot be reached.
        """
        fields = self.labels.fields_for(file)
        if self.product is None:
            return client.submit(None, image, station=self.station, idempotency_key=key, fields=fields)
        station = {} if self.station is None else {"station": self.station}
        return client.submit(self.product, image, idempotency_key=key, fields=station | fields)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    if not compiled.groupindex:
        raise ValueError(f"{pattern!r} names no field: give one such as '(?P<serial>SN[0-9]+)'")
    return compiled


def _check(fixed: Mapping[str, str]) -> None:
    """Raise ValueError for a value that the service would refuse with every image."""
    try:
        Traceability.model_validate({name: value for name, value in fixed.items() if name in Traceability.model_fields})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][0]} is {fixed[str(first['loc'][0])]!r}: {first['msg']}") from error

"""The fields of a submission, and the defaults that a station lends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from service.contract import Traceability
from service.errors import FieldProblem, InvalidFields


class InspectionFields(Traceability):
    """The fields of a submission: query parameters of a raw body, form fields of a multipart one."""

    model_config = ConfigDict(extra="forbid")

    priority: Literal["normal", "high"] = Field("normal", description="claims look at `high` first")
    deadline_ms: int | None = Field(
        None, ge=1, le=86_400_000, description="milliseconds after acceptance; after it nobody waits for the result"
    )


@dataclass(frozen=True)
class Origin:
    """The station to whose address an image came."""

    station: str
    defaults: Mapping[str, Any]
    """Values of fields that the image does not name."""

    @property
    def key_scope(self) -> str:
        """Return the scope within which an Idempotency-Key counts as one. No product has such a name."""
        return f"station/{self.station}"


def read_fields(given: Mapping[str, Any]) -> InspectionFields:
    """Return the fields as they were given.

    Raises:
        InvalidFields: if one is unknown, or its value is not allowed.
    """
    try:
        return InspectionFields.model_validate(given)
    except ValidationError as error:
        raise InvalidFields.from_validation(error.errors()) from error


def with_defaults(given: Mapping[str, Any], origin: Origin) -> InspectionFields:
    """Return the fields given, completed by the station's defaults.

    Raises:
        InvalidFields: if a field is not allowed, or names another station.
    """
    if given.get("station", origin.station) != origin.station:
        message = f"is not the station of this address, {origin.station!r}: leave the field out"
        raise InvalidFields.from_problems([FieldProblem(field="station", message=message)])
    return read_fields({**origin.defaults, **given, "station": origin.station})

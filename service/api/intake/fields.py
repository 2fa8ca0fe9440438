"""The fields of a submission, and the station that lends it its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from service.contract import Traceability
from service.errors import FieldProblem, InvalidFields, field_problems


class InspectionFields(Traceability):
    """The fields of a submission: query parameters of a raw body, form fields of a multipart one."""

    model_config = ConfigDict(extra="forbid")

    priority: Literal["normal", "high"] = Field("normal", description="claims look at `high` first")
    deadline_ms: int | None = Field(
        None, ge=1, le=86_400_000, description="milliseconds after acceptance; after it nobody waits for the result"
    )


@dataclass(frozen=True)
class Origin:
    """The station whose address an image came to."""

    station: str
    defaults: Mapping[str, Any]
    """Fields of images that do not name them."""

    @property
    def scope(self) -> str:
        """Where an Idempotency-Key is one. No product has this name."""
        return f"station/{self.station}"


def with_defaults(given: Mapping[str, Any], origin: Origin) -> InspectionFields:
    """The fields given, over those of the station. InvalidFields."""
    if given.get("station", origin.station) != origin.station:
        message = f"is not the station of this address, {origin.station!r}: leave the field out"
        raise invalid_fields([FieldProblem(field="station", message=message)])
    return read_fields({**origin.defaults, **given, "station": origin.station})


def read_fields(given: Mapping[str, Any]) -> InspectionFields:
    """The fields as they were given. InvalidFields."""
    try:
        return InspectionFields.model_validate(given)
    except ValidationError as error:
        raise invalid_fields(field_problems(list(error.errors()))) from error


def invalid_fields(problems: list[FieldProblem]) -> InvalidFields:
    """The refusal of these fields."""
    return InvalidFields("; ".join(f"{one.field}: {one.message}" for one in problems)[:1000], errors=problems)

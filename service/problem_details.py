"""How an error is said over HTTP: RFC 9457 problem+json, or the form of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:glad:problem:"
MOST_SHOWN = 16
"""Of the fields that one request has wrong."""


class FieldProblem(BaseModel):
    """One field that was refused."""

    field: str = Field(examples=["metadata"])
    message: str = Field(examples=["is 1300 bytes; at most 1024 are allowed"])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem details; `type` is stable."})

    type: str = Field(examples=["urn:glad:problem:unknown-product"])
    title: str = Field(examples=["Unknown product"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no product 'brackt'; known: bracket"])
    instance: str = Field(examples=["/v1/products/brackt/inspections"])
    errors: list[FieldProblem] | None = Field(None, description="the refused fields, for type invalid-fields")


class InferenceError(BaseModel):
    """The Open Inference Protocol's form of an error."""

    error: str = Field(examples=["no product 'brackt'; known: bracket"])


def speaks_oip(path: str) -> bool:
    """What lies under /v2 answers in the form of the Open Inference Protocol, errors included."""
    return path == "/v2" or path.startswith("/v2/")


def error_body(problem: Problem) -> tuple[str, BaseModel]:
    """(media type, body) of an answer, in the form of the call that was made."""
    if speaks_oip(problem.instance):
        return "application/json", InferenceError(error=problem.detail)
    return PROBLEM_JSON, problem


def field_problems(errors: list[Any]) -> list[FieldProblem]:
    """Pydantic's or FastAPI's error list, in the words of the contract: at most `MOST_SHOWN`, and no long value."""
    return [
        FieldProblem(field=_field_name(error["loc"]), message=_message(error["type"], str(error["msg"])))
        for error in errors[:MOST_SHOWN]
    ]


def _field_name(location: tuple[str | int, ...]) -> str:
    words = [str(part) for part in location if part not in {"query", "path", "header", "body"}]
    return ".".join(words)[:100] or "request"


def _message(kind: str, text: str) -> str:
    if kind == "extra_forbidden":
        return "is not a field of this call: see the OpenAPI document for those that are"
    return text.removeprefix("Value error, ")[:300]

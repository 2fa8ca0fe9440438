"""The OpenAPI document: an example for every answer in JSON, and none that the service could not send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from tests.service.conftest import Running

JSON = {"application/json", "application/problem+json"}


def answers(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(call and status, media type object) of every answer in JSON."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for media, content in response.get("content", {}).items():
                    if media in JSON:
                        yield f"{method.upper()} {path} {status}", content


def examples(content: dict[str, Any]) -> list[Any]:
    """All examples of one answer."""
    named = [one["value"] for one in content.get("examples", {}).values()]
    return named + ([content["example"]] if "example" in content else [])


async def test_every_answer_in_json_has_an_example(api: Running) -> None:
    document = (await api.http.get("/openapi.json")).json()
    assert [name for name, content in answers(document) if not examples(content)] == []


async def test_every_example_fits_the_schema_of_its_answer(api: Running) -> None:
    document = (await api.http.get("/openapi.json")).json()
    for name, content in answers(document):
        validator = Draft202012Validator(content["schema"] | {"components": document["components"]})
        for example in examples(content):
            assert [error.message for error in validator.iter_errors(example)] == [], name

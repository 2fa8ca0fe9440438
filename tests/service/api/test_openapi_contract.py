"""The OpenAPI document names what it named when clients were generated from it: calls, schemas, statuses, parameters.

`recorded_openapi.json` was made by `summary` from the document of version 0.1.0. A call or schema that is added on
purpose is added to it by hand; one that changes or goes breaks generated clients.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.api.app import create_app
from service.settings import Settings

RECORDED = Path(__file__).with_name("recorded_openapi.json")


def summary(document: dict[str, Any]) -> dict[str, Any]:
    """What generated clients depend on: names of schemas, and each operation's id, statuses and parameters."""
    operations = {
        f"{method.upper()} {path}": {
            "operationId": operation["operationId"],
            "statuses": sorted(operation["responses"]),
            "parameters": sorted(f"{one['in']}:{one['name']}" for one in operation.get("parameters", ())),
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    return {"operations": dict(sorted(operations.items())), "schemas": sorted(document["components"]["schemas"])}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of an application that is not started: it needs no Redis."""
    return create_app(Settings(redis_url="redis://127.0.0.1:1")).openapi()


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """What is recorded of the document."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def test_every_operation_keeps_its_id_its_statuses_and_its_parameters(
    document: dict[str, Any], recorded: dict[str, Any]
) -> None:
    assert summary(document)["operations"] == recorded["operations"]


def test_every_schema_keeps_its_name(document: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert summary(document)["schemas"] == recorded["schemas"]


def test_every_reference_names_a_schema(document: dict[str, Any]) -> None:
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert _references(document) <= schemas


def _references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()

"""The OpenAPI document: an example for every answer in JSON, and none that the service could not send. Building it
keeps nobody waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import redis
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from pydantic import BaseModel, GetJsonSchemaHandler

from service.api.app import ROUTE_MODULES, create_app
from service.api.dependencies import field_names
from service.settings import Settings
from tests.service.conftest import Running
from tests.support.redis_server import RedisServer

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


class SlowToDescribe(BaseModel):
    """An answer whose schema waits: the document is in the making until then."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        began.set()
        assert goes_on.wait(10), "nothing else was answered meanwhile"
        return handler(schema)


began, goes_on = threading.Event(), threading.Event()


async def test_other_calls_are_answered_while_the_document_is_built(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    app = create_app(Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path))
    app.add_api_route("/v1/slow", lambda: None, response_model=SlowToDescribe)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
    ):
        documents = [asyncio.create_task(http.get("/openapi.json")) for _ in range(2)]
        while not began.is_set():
            await asyncio.sleep(0.01)
        refused = await http.put("/v1/products/toy/gate", json={"om": True})
        assert (refused.status_code, (await http.get("/health/live")).status_code) == (422, 200)
        assert "is not a field of this call: it has by, note, on" in refused.json()["detail"]
        goes_on.set()
        first, second = [(await document).json() for document in documents]
    assert first == second
    assert "/v1/slow" in first["paths"]


def test_a_refusal_names_the_fields_that_the_document_gives_the_call() -> None:
    document = create_app(Settings(redis_url="redis://127.0.0.1:1")).openapi()
    routes = [route for module in ROUTE_MODULES for route in module.router.routes if isinstance(route, APIRoute)]
    for route in routes:
        for method in route.methods or ():
            assert field_names(route) == documented_fields(document, route.path_format, method.lower())


def documented_fields(document: dict[str, Any], path: str, method: str) -> list[str]:
    """The names of a call's query parameters, and of the fields of its JSON body."""
    call = document["paths"][path][method]
    in_query = [one["name"] for one in call.get("parameters", ()) if one["in"] == "query"]
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    schema = document["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
    return [*in_query, *schema.get("properties", {})]

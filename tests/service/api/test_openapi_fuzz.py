"""schemathesis over the OpenAPI document, against a real server: no server error, and no undocumented answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.settings import Settings
from tests.service.conftest import write_toy
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
IMAGES = [picture(kind=kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP")]
EXAMPLES = 15
"""Requests per call and per kind: well-formed, and not."""


@pytest.fixture(scope="module")
def url(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a product, for all these tests."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    folder = tmp_path_factory.mktemp("fuzz")
    write_toy(folder / "store" / "toy" / "1")  # a store of its own: its thresholds will be changed
    chosen = Settings(redis_url=shared_redis.url, data_dir=folder, max_backlog=100_000)
    with server_on(chosen) as url:
        yield url


@pytest.fixture(scope="module")
def operations(url: str) -> dict[str, Any]:
    """Every call of the document, by method and path."""
    for kind in ("jpeg", "png", "bmp", "tiff", "webp"):
        schemathesis.openapi.media_type(f"image/{kind}", st.sampled_from(IMAGES) | st.binary(max_size=200))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found: list[Any] = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    # An event stream never ends, and so has no answer to look at as a whole.
    return {f"{one.method.upper()} {one.path}": one for one in found if one.path != "/v1/events"}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_no_call_answers_what_its_document_does_not_say(
    operations: dict[str, Any], url: str, mode: GenerationMode
) -> None:
    seen = {name: statuses_of(operation, url, mode) for name, operation in operations.items()}
    submitted = seen["POST /v1/products/{product}/inspections"]
    # What is malformed may be refused before its product is looked for.
    assert submitted >= ({202, 404} if mode is GenerationMode.POSITIVE else {422})


def statuses_of(operation: Any, url: str, mode: GenerationMode) -> set[int]:
    """The statuses that a call answered, all of them as documented. Empty where nothing can be malformed."""
    seen = set()

    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers_as_documented(case: Any, known: bool) -> None:
        if known and "product" in (case.path_parameters or {}):
            case.path_parameters["product"] = "toy"
        seen.add(case.call_and_validate(base_url=url, checks=CHECKS, timeout=60).status_code)

    with suppress(Unsatisfiable):
        answers_as_documented()
    return seen

"""What a careless integrator sends is refused: a misspelt name, a true for a number, a name that nobody sees.

Each would be taken for something else: `?preveiw=true` would change what it was to preview, and `?expected_views=top`
would let a part pass without that view.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from service.api.app import ROUTE_MODULES
from service.api.dependencies import query_names
from tests.service.conftest import Running

TOY = "/v1/products/toy"
PLAN = {"defect_codes": [{"code": "scratch", "title": "Scratch"}]}


@pytest.fixture
async def station(api: Running) -> str:
    """The address of a station."""
    (await api.http.put("/v1/stations/line", json={"product": "toy"})).raise_for_status()
    return "/v1/stations/line"


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("PATCH", f"{TOY}/thresholds?preveiw=true", {"fail": 2}),
        ("PUT", f"{TOY}/gate?on=true", {"on": False}),
        ("PUT", f"{TOY}/review-plan?by=ann", PLAN),
        ("DELETE", "/v1/stations/line/hold?bye=ann", None),
        ("POST", "/v1/reviews/next?station=line", {"by": "ann"}),
        ("GET", f"{TOY}/scores?sicne=2026-01-01T00:00:00Z", None),
        ("GET", f"{TOY}/gate?lastt=5", None),
        ("GET", "/v1/shifts?cuont=3", None),
        ("GET", "/v1/parts/SN-1?expected_views=top", None),
    ],
)
async def test_a_query_parameter_that_a_call_has_not_is_refused(
    api: Running, station: str, method: str, url: str, body: Any
) -> None:
    before = (await api.http.get(TOY)).json()["revision"]
    answer = await api.http.request(method, url, json=body)
    name = url.partition("?")[2].partition("=")[0]
    assert (answer.status_code, [one["field"] for one in answer.json().get("errors", [])]) == (422, [name])
    assert (await api.http.get(TOY)).json()["revision"] == before


async def test_what_has_nothing_to_misspell_takes_any_query(api: Running, station: str) -> None:
    # Displays add the time to the address of what they show, so that nothing keeps an old one.
    assert (await api.http.get(f"{TOY}?t=1764478800")).status_code == 200
    assert (await api.http.get(f"{station}?t=1764478800")).status_code == 200
    assert (await api.http.head(f"{TOY}/scores?version=1")).status_code == 200


@pytest.mark.parametrize(
    ("call", "body", "field"),
    [
        ("line/limit-samples", {"samples": [{"serial": "L-1", "expected": "good", "notes": "x"}]}, "samples.0"),
        ("review-plan", {"defect_codes": [{"code": "a", "title": "A", "kye": "x"}]}, "defect_codes.0"),
        ("review-plan", {"audit_share": True}, "audit_share"),
        ("review-plan", {"double_read_share": True}, "double_read_share"),
    ],
)
async def test_a_field_inside_that_nobody_knows_and_a_true_for_a_number_are_refused(
    api: Running, station: str, call: str, body: Any, field: str
) -> None:
    url = f"/v1/stations/{call}" if "line" in call else f"{TOY}/{call}"
    answer = await api.http.put(url, json=body)
    assert (answer.status_code, [one["field"] for one in answer.json().get("errors", [])]) == (422, [field])


@pytest.mark.parametrize("nobody", [" ", "\u200b", "\u2060\ufeff", "\u3164", "\u2028"])
async def test_a_name_or_a_reason_that_nobody_sees_is_refused(api: Running, station: str, nobody: str) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/session", {"person": nobody}),
        ("PUT", f"{station}/hold", {"reason": nobody, "by": "ann"}),
        ("PUT", f"{station}/hold", {"reason": "dark", "by": nobody}),
        ("PUT", station, {"product": "toy", "by": nobody}),
        ("PUT", station, {"product": "toy", "hold": nobody}),
        ("PUT", f"{TOY}/review-plan", {**PLAN, "by": nobody}),
        ("PUT", f"{TOY}/gate", {"on": False, "by": nobody}),
        ("PATCH", f"{TOY}/thresholds", {"fail": 2, "by": nobody}),
        ("PUT", f"{TOY}/active", {"version": "1", "by": nobody}),
        ("PUT", f"{station}/limit-samples", {"samples": [], "by": nobody}),
        ("POST", f"{station}/limit-samples/check", {"by": nobody}),
        ("POST", "/v1/reviews/next", {"by": nobody}),
    ]
    answers = [await api.http.request(method, url, json=body) for method, url, body in calls]
    answers.append(await api.http.delete(f"{station}/hold", params={"by": nobody}))
    assert [answer.status_code for answer in answers] == [422] * len(answers)


def names_of_changes() -> Iterator[tuple[str, set[str]]]:
    for module in ROUTE_MODULES:
        for route in module.router.routes:
            if isinstance(route, APIRoute) and (names := query_names(route)) is not None:
                yield route.path_format, names


def test_every_call_with_fields_knows_its_query() -> None:
    known = dict(names_of_changes())
    assert known["/v1/parts/{serial}"] == {"expected_view"}
    assert known["/v1/parts/{serial}/disposition"] == set()
    assert "/v1/products/{product}/inspections" not in known  # its fields may stand in the query

"""What becomes of a part: recorded, told, found, and taken back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from service.queue import keys
from tests.service.conftest import Running
from tests.support.ended import end


async def put(api: Running, serial: str, disposition: str | None, **fields: Any) -> dict[str, Any]:
    """The part after the decision."""
    body = {"disposition": disposition, "by": "mes", **fields}
    answer = await api.http.put(f"/v1/parts/{serial}/disposition", json=body)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


@pytest.fixture
async def ended(client: redis.Redis) -> list[str]:
    """Two ended images of part SN/1."""
    return await asyncio.to_thread(end, client, 2, serial="SN/1", lot="L-1")


async def found(api: Running, disposition: str) -> list[str]:
    """Ids in the history with this disposition."""
    page = (await api.http.get("/v1/inspections", params={"disposition": disposition})).json()
    return [one["id"] for one in page["inspections"]]


async def test_the_last_decision_is_in_force_and_all_are_kept(
    api: Running, ended: list[str], client: redis.Redis
) -> None:
    before = (await api.http.get("/v1/parts/SN%2F1")).json()
    assert (before["disposition"], before["dispositions"]) == (None, [])
    await put(api, "SN%2F1", "rework", note="polish")
    shown = await put(api, "SN%2F1", "use_as_is", by="q")
    assert (shown["disposition"]["disposition"], shown["disposition"]["by"]) == ("use_as_is", "q")
    assert [one["disposition"] for one in shown["dispositions"]] == ["rework", "use_as_is"]
    assert shown["verdict"] == before["verdict"]
    assert (await found(api, "rework"), await found(api, "use_as_is")) == ([], ended)
    back = await put(api, "SN%2F1", None)
    assert (back["disposition"], len(back["dispositions"])) == (None, 3)
    assert await found(api, "use_as_is") == []
    assert (await api.http.get("/v1/parts/SN%2F1")).json() == back
    assert 0 < client.ttl(keys.disposition("SN/1")) <= 7 * 86_400


async def test_a_later_image_of_the_part_is_found_under_its_disposition(
    api: Running, ended: list[str], client: redis.Redis
) -> None:
    await put(api, "SN%2F1", "scrap")
    [later] = await asyncio.to_thread(end, client, 1, serial="SN/1")
    assert await found(api, "scrap") == [*ended, later]


async def test_a_decision_is_an_event_of_no_single_image(api: Running, ended: list[str], client: redis.Redis) -> None:
    await put(api, "SN%2F1", "scrap")
    rows: Any = client.xrevrange(keys.EVENTS, count=1)
    event = rows[0][1]["event"]
    assert '"type":"part.disposition"' in event
    assert '"product":"toy","serial":"SN/1","lot":"L-1"' in event
    assert '"disposition":"scrap"' in event
    assert "inspection_id" not in event


async def test_a_part_of_which_nothing_is_kept_and_a_word_that_is_none_are_refused(
    api: Running, ended: list[str]
) -> None:
    unknown = await api.http.put("/v1/parts/SN-9/disposition", json={"disposition": "scrap"})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:glad:problem:unknown-part")
    refused = await api.http.put("/v1/parts/SN%2F1/disposition", json={"disposition": "burn"})
    assert (refused.status_code, [one["field"] for one in refused.json()["errors"]]) == (422, ["disposition"])

"""What an older version wrote is read, served and finished by this one. Each schema's recording stays for good.

Made by `python -m tests.support.record_installation`; see there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from glad_client.client import Client
from service.contract import State
from service.queue.keys import SCHEMA_VERSION
from tests.service.host.test_supervisor import serve
from tests.support.record_installation import SETTINGS, STATION
from tests.support.shell import glad

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

RECORDED = sorted((Path(__file__).parent / "recorded").iterdir())


def test_the_schema_of_now_is_recorded() -> None:
    """A new schema needs a recording of its own, and a way from the older ones."""
    assert f"schema-{SCHEMA_VERSION}" in [one.name for one in RECORDED]


def as_far_as(then: Any, now: Any) -> Any:
    """What of `now` has a name in `then`, at any depth."""
    if isinstance(then, dict) and isinstance(now, dict):
        return {name: as_far_as(then[name], now[name]) for name in then if name in now}
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [as_far_as(one, other) for one, other in zip(then, now, strict=True)]
    return now


def check_what_came_later(http: httpx.Client, ended: list[dict[str, Any]]) -> None:
    """Calls that the older version did not have show and take its inspections."""
    days = {one["finished_at"][:10] for one in ended}
    since, until = f"{min(days)}T00:00:00Z", f"{max(days)}T23:59:59Z"
    counts = http.get("/v1/statistics", params={"since": since, "until": until}).json()
    assert counts["images"] == len(ended)
    assert counts["parts"] == counts["pass"] + counts["review"] + counts["fail"] > 0
    product = ended[0]["product"]
    shown = http.get(f"/v1/products/{product}/scores").json()
    assert sum(one["pass"] + one["review"] + one["fail"] for one in shown["bins"]) == shown["compared"] > 0
    assert http.get(f"/v1/products/{product}/changes").status_code == 200
    for one in ended:
        assert http.get(f"/v1/inspections/{one['id']}/thumbnail.jpg").content[:3] == b"\xff\xd8\xff"
        if one["serial"]:
            assert http.get(f"/v1/parts/{one['serial']}").json()["disposition"] is None
        review = {"decision": "defect", "by": "ann", "defect_code": "scratch"}
        if one["verdict"]:
            assert http.post(f"/v1/inspections/{one['id']}/review", json=review).status_code == 200
            withdrawn = http.delete(f"/v1/inspections/{one['id']}/review", params={"by": "ann"}).json()
            assert [review["withdrawn_by"] for review in withdrawn["reviews"]][-1] == "ann"
    assert http.get("/v1/reviews/summary").json()["withdrawn"] > 0
    assert http.post("/v1/reviews/next", json={"by": "ann"}).status_code in {200, 204}


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one.name)
def test_what_was_queued_then_ends_now_and_what_had_ended_reads_as_it_did(
    recorded: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    expected: dict[str, Any] = json.loads((recorded / "expected.json").read_text())
    restored = glad("restore", str(recorded / "backup"), "--data-dir", str(tmp_path / "data"))
    assert restored.returncode == 0, restored.stderr
    served = serve(tmp_path, **SETTINGS)
    request.addfinalizer(served.process.kill)
    served.wait_for_banner()
    bearer = {"Authorization": f"Bearer {expected['key']}"}
    with (
        httpx.Client(base_url=served.url, headers=bearer) as http,
        Client(served.url, api_key=expected["key"]) as client,
    ):
        for then in expected["ended"]:
            now = http.get(f"/v1/inspections/{then['id']}").json()
            assert as_far_as(then, now) == then  # fields may have come, none may have gone or changed
            assert client.artifact(then["id"], "heatmap.png").startswith(b"\x89PNG")
        for name in expected["queued"]:
            ended = client.wait(name, 120)
            assert ended.state is State.DONE
            assert ended.verdict is not None
        history = [one.id for one in client.history()]
        station = http.get("/v1/stations/line-1").json()
        check_what_came_later(http, expected["ended"])
    assert sorted(history) == sorted([*(one["id"] for one in expected["ended"]), *expected["queued"]])
    assert {name: station[name] for name in STATION} == STATION
    assert served.stop() == 0, served.text

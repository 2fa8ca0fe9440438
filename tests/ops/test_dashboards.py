"""The dashboards are what the script makes, and ask only for what the service shows."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard

from scripts.dashboards import CLUSTER_TARGET, DASHBOARDS, TARGET
from scripts.grafana import text_of
from service.api.app import create_app
from service.settings import Settings
from tests.support.exported import SUFFIXES, families
from tests.support.promql import names_in

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(TARGET.glob("*.json"))


def panels() -> Iterator[Any]:
    for file in FILES:
        for panel in json.loads(file.read_text())["panels"]:
            yield pytest.param(panel, id=f"{file.stem}-{panel['title']}")


def exported(kinds: Collection[str] = ("histogram", "counter", "gauge")) -> set[str]:
    """The series names of API, worker and outbox."""
    return {family.name + suffix for family in families() if family.type in kinds for suffix in SUFFIXES[family.type]}


def recorded() -> set[str]:
    files = (ROOT / "docker" / "prometheus" / "rules").glob("*.yml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def rule_queries() -> Iterator[Any]:
    for file in sorted((ROOT / "docker" / "prometheus" / "rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield pytest.param(rule["expr"], id=rule.get("alert") or rule["record"])


def test_the_files_are_what_the_script_makes() -> None:
    made = {f"{dashboard.name}.json": text_of(dashboard) for dashboard in DASHBOARDS}
    for folder in (TARGET, CLUSTER_TARGET):
        assert {file.name: file.read_text() for file in folder.glob("*.json")} == made, "run `make dashboards`"
    assert set(made) == {"line.json", "engine.json", "service.json", "models.json"}


def unknown_to_grafana(dashboard: dict[str, Any]) -> list[str]:
    """Where Grafana's own models (11.6), read and written again, leave something out or say something else."""
    plugins.register_default_plugins()
    back = json.loads(JSONEncoder().encode(GrafanaDashboard.from_json(dashboard)))
    return list(differences(dashboard, back))


def differences(given: Any, back: Any, place: str = "") -> Iterator[str]:
    if isinstance(given, dict) and isinstance(back, dict):
        for name, value in given.items():
            yield from differences(value, back.get(name), f"{place}/{name}")
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for number, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from differences(one, other, f"{place}/{number}")
    elif given != back:
        yield place


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.stem))
def test_grafanas_own_models_know_every_field(file: Path) -> None:
    assert unknown_to_grafana(json.loads(file.read_text())) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("templating", "tempating"), ("gridPos", "gridpos"), ("legendFormat", "legend"), ("stacking", "stackin")],
)
def test_a_field_that_grafana_does_not_know_is_found(right: str, wrong: str) -> None:
    text = (TARGET / "line.json").read_text()
    assert [place for place in unknown_to_grafana(json.loads(text.replace(right, wrong))) if place.endswith(wrong)]


@pytest.mark.parametrize("panel", list(panels()))
def test_every_panel_has_a_title_a_unit_and_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert {source["uid"] for source in sources} == {"${datasource}"}


@pytest.mark.parametrize("panel", list(panels()))
def test_every_panel_asks_for_what_is_shown_over_the_interval_that_fits(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert names_in(target["expr"])
        assert names_in(target["expr"]) <= exported() | recorded()
        assert set(re.findall(r"\[([^\]]*)\]", target["expr"])) <= {"$__rate_interval"}
        growing = names_in(target["expr"]) & exported(("histogram", "counter"))
        assert not growing or "[$__rate_interval]" in target["expr"]


@pytest.mark.parametrize("expression", list(rule_queries()))
def test_every_rule_asks_for_what_is_shown(expression: str) -> None:
    assert names_in(expression) <= exported() | recorded() | {"up"}


def test_a_metric_that_nobody_shows_is_caught() -> None:
    assert names_in('sum by (le) (rate(glad_made_up_total{a="glad_b"}[5m])) or glad_lane_used') == {
        "glad_made_up_total",
        "glad_lane_used",
    }
    assert "glad_made_up_total" not in exported()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: str(dashboard.name))
def test_no_two_panels_lie_over_each_other(dashboard: Any) -> None:
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"])
        for panel in json.loads(text_of(dashboard))["panels"]
        for x in range(panel["gridPos"]["w"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def links() -> list[str]:
    """Where the panels lead."""
    return [
        link["url"]
        for dashboard in DASHBOARDS
        for panel in json.loads(text_of(dashboard))["panels"]
        for link in panel["fieldConfig"]["defaults"]["links"]
    ]


def followed(link: str) -> str:
    """As Grafana fills it in, for the product `toy`, the station `line-3` and failed parts."""
    times = {"${__from:date:iso}": "2026-11-27T06:00:00.000Z", "${__to:date:iso}": "2026-11-27T14:00:00.000Z"}
    values = {"product": "toy", "station": "line-3", "verdict": "fail"}
    places = times | {f"${{__field.labels.{name}}}": value for name, value in values.items()}
    for place, value in places.items():
        link = link.replace(place, value)
    return link.removeprefix("${api:raw}")


async def test_panels_lead_to_the_inspections_behind_them(tmp_path: Path) -> None:
    assert len(links()) == 6
    assert all(link.startswith("${api:raw}/v1/inspections?") for link in links())
    app = create_app(Settings(redis_url="redis://127.0.0.1:1/0", data_dir=tmp_path, auth="off"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://glad") as http:
        for link in links():
            assert "$" not in followed(link)
            # Redis is away: 503 where the filter is understood.
            assert (await http.get(followed(link))).status_code == 503, link
            assert (await http.get(followed(link).replace("since=", "sinse="))).status_code == 422, link


def test_a_panel_of_an_objective_draws_it() -> None:
    (panel,) = [panel.values[0] for panel in panels() if panel.values[0]["title"] == "Images without a verdict"]
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["thresholds"]["steps"][-1]["value"] == 0.001
    assert defaults["custom"]["thresholdsStyle"] == {"mode": "line"}

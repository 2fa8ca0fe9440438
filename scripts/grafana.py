"""Grafana's form of a dashboard: panels and PromQL in, the JSON of a file out. What they show: dashboards.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, HEIGHT = 24, 8
PRODUCT = 'product=~"$product"'
"""The label of those products that are chosen at the top."""


@dataclass(frozen=True)
class Query:
    """One PromQL expression and how its series are named."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture of a dashboard."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    told: str = ""
    kind: str = "timeseries"
    width: int = 12
    stacked: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)
    """Series name -> colour."""
    inspections: str = ""
    """Filter of the history that its data link opens, such as verdict=fail; empty: no link."""
    most: float | None = None
    """Drawn as a line: beyond it something is wrong."""


@dataclass(frozen=True)
class Dashboard:
    """One file."""

    name: str
    title: str
    told: str
    panels: tuple[Panel, ...]


def rate(metric: str, labels: str = "") -> str:
    """How fast a counter grows."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def share(metric: str, part: str, by: str, labels: str = "") -> str:
    """A part of a counter as a share of the whole."""
    both = ",".join(filter(None, (labels, part)))
    return f"sum by ({by}) ({rate(metric, both)}) / sum by ({by}) ({rate(metric, labels)})"


def quantile(value: float, metric: str, by: str = "", labels: str = "") -> str:
    """A quantile of a histogram."""
    kept = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({value}, sum by ({kept}) ({rate(metric + '_bucket', labels)}))"


def mean(metric: str, by: str = "", labels: str = "") -> str:
    """The mean of a histogram."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} ({rate(metric + '_sum', labels)}) / {grouped} ({rate(metric + '_count', labels)})"


def heatmap(metric: str, labels: str = "") -> str:
    """A histogram over time."""
    return f"sum by (le) (increase({metric}_bucket{{{labels}}}[$__rate_interval]))"


def text_of(dashboard: Dashboard) -> str:
    """The file's content."""
    return json.dumps(model_of(dashboard), indent=2, ensure_ascii=False) + "\n"


def model_of(dashboard: Dashboard) -> dict[str, Any]:
    """Grafana's dashboard model."""
    return {
        "uid": f"glad-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.told,
        "tags": ["glad"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [{"title": "GLAD", "type": "dashboards", "tags": ["glad"], "keepTime": True, "includeVars": True}],
        "templating": {"list": list(variables())},
        "panels": list(placed(dashboard.panels)),
    }


def variables() -> Iterator[dict[str, Any]]:
    """What is chosen at the top: the data source, products, and where the service's API is."""
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "product",
        "label": "Product",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": "label_values(glad_bundle_active, product)", "refId": "products"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
    address = "http://localhost:8000"
    yield {
        "name": "api",
        "label": "API",
        "type": "textbox",
        "query": address,
        "current": {"text": address, "value": address},
    }


def placed(panels: tuple[Panel, ...]) -> Iterator[dict[str, Any]]:
    """The panels from left to right, row by row."""
    x = y = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        yield {"id": number, "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT}, **panel_of(panel)}
        x += panel.width


def panel_of(panel: Panel) -> dict[str, Any]:
    """One panel without its place."""
    stacking = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    links = [inspections_link(panel.inspections)] if panel.inspections else []
    line, limit = limit_line(panel.most)
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.told,
        "datasource": DATASOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": {**stacking, **line}, "links": links, **limit},
            "overrides": [coloured(name, colour) for name, colour in panel.colours.items()],
        },
        "options": {"calculate": False, "yAxis": {"unit": panel.unit}} if panel.kind == "heatmap" else {},
        "targets": [target(query, number, panel.kind) for number, query in enumerate(panel.queries)],
    }


def inspections_link(wanted: str) -> dict[str, Any]:
    """From a point to the inspections of the time shown, newest first."""
    time = "since=${__from:date:iso}&until=${__to:date:iso}"
    url = f"${{api:raw}}/v1/inspections?{wanted}&order=newest&{time}"
    return {"title": "Inspections", "url": url, "targetBlank": True}


def limit_line(most: float | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """How a panel draws its limit, and where; nothing without one."""
    if most is None:
        return {}, {}
    steps = [{"color": "green", "value": None}, {"color": "red", "value": most}]
    return {"thresholdsStyle": {"mode": "line"}}, {"thresholds": {"mode": "absolute", "steps": steps}}


def coloured(name: str, colour: str) -> dict[str, Any]:
    """A series in its own colour."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }


def target(query: Query, number: int, kind: str) -> dict[str, Any]:
    """A query as a panel holds it."""
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "format": "heatmap" if kind == "heatmap" else "time_series",
    }

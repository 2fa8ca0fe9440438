"""The ingress lets the plant reach every call of the interface, and nothing that is meant for the cluster alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from service.api.app import create_app
from service.api.page import PUBLIC_TEMPLATES
from service.auth.scopes import PUBLIC_PATHS
from service.settings import Settings
from tests.support.manifests import OVERLAYS, documents, named

INSIDE = {"/metrics", "/health/live"}
"""Prometheus scrapes each pod, kubelet probes each pod: neither goes through the ingress."""


def paths() -> set[str]:
    """Every path that the API answers, by its template."""
    calls = set(create_app(Settings(redis_url="redis://127.0.0.1:1/0")).openapi()["paths"])
    return calls | PUBLIC_PATHS | PUBLIC_TEMPLATES


def rules(overlay: str) -> Iterator[Mapping[str, Any]]:
    for rule in named(documents(overlay), "Ingress", "glad")["spec"]["rules"]:
        yield from rule["http"]["paths"]


def is_routed(path: str, rule: Mapping[str, Any]) -> bool:
    """As the Ingress API defines Exact and Prefix: a prefix ends where an element of the path does."""
    if rule["pathType"] == "Exact":
        return path == str(rule["path"])
    return f"{path}/".startswith(f"{rule['path']}/")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_plant_reaches_every_call_but_those_of_the_cluster(overlay: str) -> None:
    found = list(rules(overlay))
    assert {"/v1/inspections", "/v2", "/docs"} < paths()
    assert {path for path in paths() if not any(is_routed(path, rule) for rule in found)} == INSIDE


def test_an_api_without_its_prefix_would_be_found() -> None:
    rule = {"path": "/v1", "pathType": "Prefix"}
    assert is_routed("/v1/products", rule)
    assert not is_routed("/v2", rule)
    assert not is_routed("/v10", rule)


def test_everything_is_in_the_namespace_of_its_services() -> None:
    """A ServiceMonitor in another one would find nothing."""
    cluster_wide = {"Namespace", "PriorityClass"}
    for overlay in OVERLAYS:
        places = {one["metadata"].get("namespace") for one in documents(overlay) if one["kind"] not in cluster_wide}
        assert places == {"glad"}, overlay

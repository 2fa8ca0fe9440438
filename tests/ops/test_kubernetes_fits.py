"""k8s/ fits the images and the policies fit the traffic: ports, users, folders, and who may call whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from model_store.store import SHIPPED_BUNDLES, Store
from tests.support.manifests import (
    EVERYTHING,
    OVERLAYS,
    ROOT,
    TRAININGS,
    Document,
    documents,
    image_stages,
    named,
    pods,
)

WORKLOADS = {"glad-api": "api", "glad-worker": "worker", "glad-outbox": "api"}
"""Deployment -> its image."""


def environment(image: str) -> dict[str, str]:
    """What an image sets."""
    stages = image_stages()
    text = f"{stages['run']}\n{stages[image]}".replace("\\\n", " ")
    words = [word for line in re.findall(r"^ENV (.+)$", text, re.MULTILINE) for word in line.split()]
    return dict(word.partition("=")[::2] for word in words)


def pod(name: str) -> Any:
    return named(documents(EVERYTHING), "Deployment", name)["spec"]["template"]


@pytest.mark.parametrize(("name", "setting"), [("glad-api", "GLAD_PORT"), ("glad-worker", "GLAD_WORKER_PORT")])
def test_a_pod_listens_where_its_image_does(name: str, setting: str) -> None:
    (container,) = pod(name)["spec"]["containers"]
    (port,) = container["ports"]
    assert str(port["containerPort"]) == environment(WORKLOADS[name])[setting]
    (service,) = named(documents(EVERYTHING), "Service", name)["spec"]["ports"]
    assert (service["port"], service["targetPort"]) == (port["containerPort"], port["name"])


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_runs_as_its_images_user_and_writes_where_that_says(name: str) -> None:
    spec, user = pod(name)["spec"], re.findall(r"^USER (\d+):(\d+)$", image_stages()["run"], re.MULTILINE)
    context = spec["securityContext"]
    assert [(str(context["runAsUser"]), str(context["fsGroup"]))] == user
    (container,) = spec["containers"]
    written = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert written == {environment(WORKLOADS[name])["GLAD_DATA_DIR"], "/tmp"}
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in spec["volumes"]}
    claims = {one["metadata"]["name"] for one in documents(EVERYTHING) if one["kind"] == "PersistentVolumeClaim"}
    assert {
        one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "persistentVolumeClaim" in one
    } <= claims


def gpus(kustomization: str) -> set[str]:
    """What pods ask for: "1" of a GPU, "0" without one."""
    containers = [one for _, spec in pods(documents(kustomization)) for one in spec["containers"]]
    return {one["resources"]["limits"].get("nvidia.com/gpu", "0") for one in containers}


def test_a_training_asks_for_no_gpu_where_workers_have_none_and_for_one_where_they_do() -> None:
    assert [gpus(training) for training in TRAININGS] == [{"0"}, {"1"}]
    assert {overlay: "1" in gpus(overlay) for overlay in OVERLAYS} == {
        overlay: "cpu-only" not in overlay for overlay in OVERLAYS
    }


def test_a_training_writes_no_version_that_ships() -> None:
    shipped = Store(SHIPPED_BUNDLES, records=False)
    for training in TRAININGS:
        ((_, spec),) = pods(documents(training))
        options = dict(word[2:].partition("=")[::2] for word in spec["containers"][0]["args"] if word.startswith("--"))
        # Those that ship are numbered: a name that is no number is none that any release will have.
        assert not options["version"].isdigit()
        assert options["version"] not in [ref.version for ref in shipped.versions(options["product"])]


def labels(name: str) -> dict[str, str]:
    """Of a workload's pods."""
    kind = "StatefulSet" if name == "glad-redis" else "Deployment"
    return dict(named(documents(EVERYTHING), kind, name)["spec"]["template"]["metadata"]["labels"])


def policies(direction: str, of: Mapping[str, str]) -> list[Any]:
    """The rules of one direction that hold for pods with these labels."""
    found: list[Document] = [one for one in documents(EVERYTHING) if one["kind"] == "NetworkPolicy"]
    return [
        rule for one in found if is_selected(one["spec"]["podSelector"], of) for rule in one["spec"].get(direction, ())
    ]


def is_selected(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))


def calls(name: str, to: str, port: int) -> bool:
    """Whether a pod may call another one, or a namespace (`ns:…`): both sides must say so within ours."""
    ours = not to.startswith("ns:")
    leaves = any(reaches(rule, "to", to, port) for rule in policies("egress", labels(name)))
    return leaves and (not ours or any(reaches(rule, "from", name, port) for rule in policies("ingress", labels(to))))


def is_called_from(name: str, namespace: str, port: int) -> bool:
    """Whether pods of another namespace may call a pod."""
    return any(reaches(rule, "from", f"ns:{namespace}", port) for rule in policies("ingress", labels(name)))


def reaches(rule: Mapping[str, Any], side: str, who: str, port: int) -> bool:
    if port not in [one["port"] for one in rule["ports"]]:
        return False
    for peer in rule[side]:
        if who.startswith("ns:"):
            if peer.get("namespaceSelector", {}).get("matchLabels") == {
                "kubernetes.io/metadata.name": who.removeprefix("ns:")
            }:
                return True
        elif "podSelector" in peer and is_selected(peer["podSelector"], labels(who)):
            return True
    return False


@pytest.mark.parametrize("name", WORKLOADS)
def test_whoever_needs_redis_and_names_reaches_them(name: str) -> None:
    assert calls(name, "glad-redis", 6379)
    assert calls(name, "ns:kube-system", 53)


@pytest.mark.parametrize("name", WORKLOADS)
def test_names_are_reached_where_a_cache_on_the_node_answers(name: str) -> None:
    """NodeLocal DNSCache is no pod behind a selector: it is an address of the node."""
    cache = {"ipBlock": {"cidr": "169.254.20.10/32"}}
    asked = [rule for rule in policies("egress", labels(name)) if cache in rule["to"]]
    assert [{one["port"] for one in rule["ports"]} for rule in asked] == [{53}]


def test_who_is_scraped_asked_and_scaled_is_reached_by_the_one_who_does_it() -> None:
    assert is_called_from("glad-api", "ingress-nginx", 8000)
    for name, port in (("glad-api", 8000), ("glad-worker", 9100), ("glad-outbox", 9200)):
        assert is_called_from(name, "monitoring", port)
    assert is_called_from("glad-redis", "keda", 6379)
    for name in ("glad-api", "glad-worker"):
        assert calls(name, "ns:observability", 4318)


def test_nobody_else_is_reached() -> None:
    assert not calls("glad-worker", "glad-api", 8000)
    assert not calls("glad-api", "glad-worker", 9100)
    assert not calls("glad-api", "glad-redis", 6380)
    assert not is_called_from("glad-redis", "ingress-nginx", 6379)
    assert not is_called_from("glad-worker", "ingress-nginx", 9100)
    assert policies("egress", labels("glad-redis")) == policies("egress", {})


def test_every_secret_and_map_of_a_pod_is_told_to_be_made_or_is_there() -> None:
    found, told = documents(EVERYTHING), (ROOT / "docs" / "deploy.md").read_text()
    maps = {one["metadata"]["name"] for one in found if one["kind"] == "ConfigMap"}
    for name, spec in pods(found):
        text = yaml.safe_dump(spec)
        for secret in re.findall(r"secretKeyRef:\n\s+key: \S+\n\s+name: (\S+)|secretName: (\S+)", text):
            assert f"secret generic {''.join(secret)}" in told or f"`{''.join(secret)}`" in told, name
        for reference in re.findall(r"configMapRef:\n\s+name: (\S+)", text):
            assert reference in maps, name

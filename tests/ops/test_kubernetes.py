"""k8s/: built by kubectl, judged by Kubernetes' own schemas and those of the operators, and by what we promise."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from scripts.dashboards import DASHBOARDS
from scripts.prometheus_rules import RULES, TARGET, prometheus_rules
from service.api.routes.health import router as health
from service.contract import Priority
from service.host.child_process import API_DRAIN_S
from service.host.supervisor import SupervisorTimeouts
from service.outbox.main import DRAIN_S
from service.queue.keys import PoolKeys
from service.settings import Settings
from tests.support.manifests import (
    EVERYTHING,
    KUSTOMIZATIONS,
    OVERLAYS,
    ROOT,
    documents,
    named,
    pods,
    rendered,
    run,
    snippet,
)

SCHEMAS = Path(__file__).parent / "schemas"
"""JSON Schemas of the custom resources: KEDA 2.16.1 and the Prometheus operator 0.80.1, taken from the models in
cloudcoil-models-keda 2.16.1.0 and cloudcoil-models-prometheus-operator 0.80.1.0 (Apache-2.0), closed to unknown
keys."""
CUSTOM = {file.stem for file in SCHEMAS.glob("*.json")}


def check_custom(document: Any) -> None:
    """ValidationError if its operator would not understand this custom resource."""
    schema = json.loads((SCHEMAS / f"{document['kind']}.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_kubernetes_knows_every_field(kustomization: str, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    standard = [one for one in documents(kustomization) if one["kind"] not in CUSTOM]
    file.write_text(yaml.safe_dump_all(standard))
    outcome = run("kubernetes-validate", "--strict", "--quiet", file)
    assert (outcome.returncode, outcome.stdout + outcome.stderr) == (0, "")


def test_kubernetes_knows_no_misspelt_field(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(rendered(OVERLAYS[0]).replace("terminationGracePeriodSeconds", "terminationGraceSeconds"))
    outcome = run("kubernetes-validate", "--strict", "--quiet", "--no-warn", file)
    assert outcome.returncode != 0
    assert "terminationGraceSeconds" in outcome.stdout + outcome.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_operators_know_every_field_of_their_resources(overlay: str) -> None:
    custom = [one for one in documents(overlay) if one["kind"] in CUSTOM]
    assert custom
    for one in custom:
        check_custom(one)


def test_an_operator_knows_no_misspelt_field() -> None:
    scaled = named(documents("k8s/overlays/multi-node"), "ScaledObject", "glad-worker")
    misspelt = {**scaled, "spec": {**scaled["spec"], "maxReplicas": 3}}
    with pytest.raises(jsonschema.ValidationError, match="maxReplicas"):
        check_custom(misspelt)


def test_a_patch_that_meets_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [one.yaml]\npatches:\n  - patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}'\n"
    )
    outcome = run("kubectl", "kustomize", tmp_path)
    assert outcome.returncode != 0
    assert "no matches" in outcome.stderr


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_every_pod_keeps_to_pod_security_restricted(kustomization: str) -> None:
    found = dict(pods(documents(kustomization)))
    assert found
    for name, spec in found.items():
        assert restricted_violations(spec) == [], name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]) & set(container["resources"]["limits"])


def test_a_pod_that_may_gain_privileges_is_found() -> None:
    (_, spec), *_ = pods(documents(OVERLAYS[0]))
    container = {**spec["containers"][0], "securityContext": {"allowPrivilegeEscalation": True}}
    assert restricted_violations({**spec, "containers": [container]}) == ["allowPrivilegeEscalation", "capabilities"]
    assert restricted_violations({**spec, "hostNetwork": True}) == ["hostNetwork"]


def restricted_violations(pod: Any) -> list[str]:
    """What of a pod's spec the Pod Security Standard "restricted" forbids (Kubernetes documentation, 1.34)."""
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    allowed = {"name", "configMap", "emptyDir", "persistentVolumeClaim", "secret", "projected"}
    found += [f"volume {one['name']}" for one in pod.get("volumes", []) if not set(one) <= allowed]
    context = pod["securityContext"]
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        found.append("runAsNonRoot")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("seccompProfile")
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            found.append("capabilities")
        if own.get("privileged"):
            found.append("privileged")
    return found


@pytest.mark.parametrize("overlay", ["k8s/overlays/multi-node", "k8s/overlays/cpu-only"])
def test_keda_counts_the_entries_of_every_stream_that_workers_read(overlay: str) -> None:
    found = documents(overlay)
    pool = named(found, "ConfigMap", settings_map(found))["data"]["GLAD_POOL"]
    triggers = named(found, "ScaledObject", "glad-worker")["spec"]["triggers"]
    assert [one["metadata"]["stream"] for one in triggers] == [
        PoolKeys(pool).jobs(priority) for priority in (Priority.NORMAL, Priority.HIGH)
    ]
    assert set(Priority) == {Priority.NORMAL, Priority.HIGH}
    for one in triggers:
        assert one["type"] == "redis-streams"
        assert "consumerGroup" not in one["metadata"], "with it KEDA would count what is pending or lags, not XLEN"


def test_a_second_pool_has_its_own_workers_and_its_own_streams() -> None:
    found = documents(EVERYTHING)
    settings = named(found, "ConfigMap", settings_map(found))["data"]
    assert Settings(pools=settings["GLAD_POOLS"]).pool_of("casting") == "slow"
    worker = named(found, "Deployment", "glad-worker-slow")["spec"]["template"]["spec"]["containers"][0]
    sources = [one["configMapRef"]["name"] for one in worker["envFrom"] if "configMapRef" in one]
    data = [named(found, "ConfigMap", name)["data"] for name in sources]
    assert [one.get("GLAD_POOL") for one in data] == ["default", "slow"], "of two maps the last one counts"
    scaled = named(found, "ScaledObject", "glad-worker-slow")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "glad-worker-slow"
    assert [one["metadata"]["stream"] for one in scaled["triggers"]] == [
        PoolKeys("slow").jobs(priority) for priority in (Priority.NORMAL, Priority.HIGH)
    ]
    asked = {one["authenticationRef"]["name"] for one in scaled["triggers"]}
    assert asked == {one["metadata"]["name"] for one in found if one["kind"] == "TriggerAuthentication"}


@pytest.mark.parametrize("kustomization", [*OVERLAYS, EVERYTHING])
def test_no_two_workloads_and_no_two_budgets_choose_the_same_pods(kustomization: str) -> None:
    found = documents(kustomization)
    workloads = [one for one in found if one["kind"] in {"Deployment", "StatefulSet"}]
    for one in workloads:
        labels = one["spec"]["template"]["metadata"]["labels"].items()
        for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget", "Service"):
            choosing = [other for other in found if other["kind"] == kind and _chosen(other).items() <= labels]
            assert len(choosing) <= 1, [other["metadata"]["name"] for other in choosing]
    assert len(workloads) >= 3


def _chosen(one: Any) -> Any:
    selector = one["spec"]["selector"]
    return selector.get("matchLabels", selector)


def settings_map(found: Any) -> str:
    """The name of the settings' map: kustomize adds a digest of what is in it."""
    return next(
        str(one["metadata"]["name"])
        for one in found
        if one["kind"] == "ConfigMap" and one["metadata"]["name"].startswith("glad-settings")
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_may_take_as_long_to_end_as_its_work(overlay: str) -> None:
    found = documents(overlay)
    api = named(found, "Deployment", "glad-api")["spec"]["template"]["spec"]
    (sleep, pause) = api["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert api["terminationGracePeriodSeconds"] > int(pause) + API_DRAIN_S
    worker = named(found, "Deployment", "glad-worker")["spec"]["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] > Settings().drain_s + SupervisorTimeouts().hand_back_s


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_for_what_exists(overlay: str) -> None:
    known = {route.path for route in health.routes if hasattr(route, "path")}
    for name in ("glad-api", "glad-worker"):
        container = named(documents(overlay), "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
        assert asked["readiness"] == "/health/ready"
        assert asked["liveness"] == "/health/live"
        assert set(asked.values()) <= known


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_and_secrets_are_known(overlay: str) -> None:
    found = documents(overlay)
    known = {f"GLAD_{name.upper()}" for name in Settings.model_fields}
    given = set(named(found, "ConfigMap", settings_map(found))["data"])
    assert {name for name in given if name.startswith("GLAD_")} <= known
    assert not [one for one in found if one["kind"] == "Secret"], "secrets are made by hand, and are in no file"
    assert set(re.findall(r"secretKeyRef:\s+key: \S+\s+name: (\S+)", rendered(overlay))) == {"glad-redis"}


def test_a_gpu_is_asked_for_where_there_is_one() -> None:
    def limits(overlay: str) -> Any:
        worker = named(documents(overlay), "Deployment", "glad-worker")
        return worker["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]

    assert limits("k8s/overlays/single-gpu-node")["nvidia.com/gpu"] == "1"
    assert limits("k8s/overlays/multi-node")["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in limits("k8s/overlays/cpu-only")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_reached_unless_a_policy_says_so(overlay: str) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in documents(overlay) if one["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed = policies["glad-redis"]["ingress"][0]["from"]
    assert allowed[0] == {"podSelector": {"matchLabels": {"glad/redis": "client"}}}


def test_a_managed_redis_takes_the_place_of_ours(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{relative(root / 'k8s/base', tmp_path)}]\n"
        f"components: [{relative(root / 'k8s/components/outbox', tmp_path)}, "
        f"{relative(root / 'k8s/components/managed-redis', tmp_path)}]\n"
    )
    outcome = run("kubectl", "kustomize", tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    found = list(yaml.safe_load_all(outcome.stdout))
    assert not [one for one in found if one["kind"] == "StatefulSet"]
    for name in ("glad-api", "glad-worker", "glad-outbox"):
        environment = named(found, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]["env"]
        assert environment == [
            {"name": "GLAD_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "glad-redis", "key": "url"}}}
        ]
    for one in named(found, "ScaledObject", "glad-worker")["spec"]["triggers"]:
        assert one["metadata"]["enableTLS"] == "true"


def relative(target: Path, start: Path) -> str:
    """kustomize takes no absolute path."""
    return os.path.relpath(target, start)


def test_the_operators_rules_are_prometheus_rules() -> None:
    assert TARGET.read_text() == prometheus_rules(RULES), "run `make rules`"
    groups = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    objects = [one for one in documents(OVERLAYS[0]) if one["kind"] == "PrometheusRule"]
    in_objects = [group for one in objects for group in one["spec"]["groups"]]
    assert sorted(in_objects, key=lambda group: str(group["name"])) == sorted(
        groups, key=lambda group: str(group["name"])
    )


CHECKOV_ACCEPTED = {
    "CKV_K8S_15": "imagePullPolicy Always: a plant's registry may be away when a pod restarts, and tags are immutable",
    "CKV_K8S_35": "secrets as files: GLAD_REDIS_URL is read from the environment, and logs strike passwords out",
    "CKV2_K8S_6": "a NetworkPolicy for every pod: the overlay's default-deny is the training job's",
    "CKV_K8S_43": "digests of our own images: known when somebody has pushed them",
}


def test_checkov_finds_nothing_but_what_is_accepted_and_a_privileged_container(tmp_path: Path) -> None:
    """One run for all, because its start takes longest."""
    for kustomization in KUSTOMIZATIONS:
        (tmp_path / f"{kustomization.replace('/', '-')}.yaml").write_text(rendered(kustomization))
    privileged = rendered(OVERLAYS[0]).replace("allowPrivilegeEscalation: false", "privileged: true")
    (tmp_path / "privileged.yaml").write_text(privileged)
    found = checkov(tmp_path)
    assert found["summary"]["parsing_errors"] == 0
    failed = found["results"]["failed_checks"]
    assert {one["file_path"] for one in failed} == {"/privileged.yaml"}, failed
    assert "CKV_K8S_16" in {one["check_id"] for one in failed}


def checkov(folder: Path) -> Any:
    """checkov's report on rendered manifests, offline. Heavy, so in no extra: `make checkov` installs it apart."""
    options = ("--skip-download", "--quiet", "--compact", "--framework", "kubernetes", "--output", "json")
    outcome = run("checkov", *options, "--skip-check", ",".join(CHECKOV_ACCEPTED), "--directory", folder)
    return json.loads(outcome.stdout)


def test_the_outbox_reaches_redis_and_the_outside_and_is_scraped() -> None:
    found = documents(EVERYTHING)
    pod = named(found, "Deployment", "glad-outbox")["spec"]["template"]
    assert pod["metadata"]["labels"]["glad/redis"] == "client"
    (container,) = pod["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    (port,) = container["ports"]
    assert environment["GLAD_OUTBOX_PORT"] == str(port["containerPort"])
    assert pod["spec"]["terminationGracePeriodSeconds"] > DRAIN_S
    policy = named(found, "NetworkPolicy", "glad-outbox")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert [one["port"] for one in policy["ingress"][0]["ports"]] == [port["containerPort"]]
    assert [one["port"] for one in policy["egress"][0]["ports"]] == [443, 8883]
    monitor = named(found, "ServiceMonitor", "glad-outbox")["spec"]
    service = named(found, "Service", "glad-outbox")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_what_is_to_be_traced_reaches_the_collector() -> None:
    found = documents(EVERYTHING)
    endpoint = named(found, "ConfigMap", settings_map(found))["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert urlsplit(endpoint).hostname == "otel-collector.observability.svc"
    [egress] = named(found, "NetworkPolicy", "tracing")["spec"]["egress"]
    assert [one["port"] for one in egress["ports"]] == [urlsplit(endpoint).port]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_grafanas_sidecar_finds_every_dashboard(overlay: str) -> None:
    found = named(documents(overlay), "ConfigMap", "glad-dashboards")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    titles = {json.loads(text)["title"] for text in found["data"].values()}
    assert titles == {dashboard.title for dashboard in DASHBOARDS}


def test_whoever_keeps_or_reads_artifacts_knows_the_object_store_and_gets_there() -> None:
    everything = documents(EVERYTHING)
    policy = named(everything, "NetworkPolicy", "object-store")
    allowed = policy["spec"]["podSelector"]["matchExpressions"][0]["values"]
    (way,) = policy["spec"]["egress"]
    assert way["ports"] == [{"protocol": "TCP", "port": 443}]
    assert way["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]
    for name in ("glad-api", "glad-worker", "glad-outbox"):
        template = named(everything, "Deployment", name)["spec"]["template"]
        assert {"secretRef": {"name": "glad-object-store"}} in template["spec"]["containers"][0]["envFrom"]
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] in allowed
    settings = next(one for one in everything if one["metadata"]["name"].startswith("glad-settings"))
    assert settings["data"]["GLAD_ARTIFACTS_URL"].startswith("s3://")


def test_the_second_pool_of_the_deployment_page_can_be_applied(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    mine = tmp_path / "k8s" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(snippet("docs/deploy.md", "../../pools/slow"))
    outcome = run("kubectl", "kustomize", mine)
    assert outcome.returncode == 0, outcome.stderr
    found = [one for one in yaml.safe_load_all(outcome.stdout) if one]
    assert (
        Settings(pools=named(found, "ConfigMap", settings_map(found))["data"]["GLAD_POOLS"]).pool_of("casting")
        == "slow"
    )
    assert named(found, "Deployment", "glad-worker-slow")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_memory_for_as_many_images_at_the_limit_as_it_decodes_at_a_time(overlay: str) -> None:
    settings, decoder_mib = Settings(redis_url="redis://redis:6379/0"), 100
    image_mib = (settings.decode_memory_bytes >> 20) + decoder_mib
    api = settings.decode_threads * image_mib + (settings.held_bytes >> 20) + 512
    found = documents(overlay)
    assert memory_mib(named(found, "Deployment", "glad-api")) >= api
    assert memory_mib(named(found, "Deployment", "glad-worker")) >= settings.codec_threads * image_mib + 8192


def memory_mib(workload: Any) -> int:
    """The memory that the first container of a workload may take."""
    limit = workload["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    return int(limit.removesuffix("Gi")) * 1024 if limit.endswith("Gi") else int(limit.removesuffix("Mi"))

"""Alerts fire when they should and stay quiet when they should not; each leads to its page of the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.errors import ServiceError

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "docker" / "prometheus"
RULES = PROMETHEUS / "rules"
TESTS = sorted(Path(__file__).parent.glob("*.test.yml"))
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is missing")


def alerts() -> Iterator[dict[str, Any]]:
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, timeout=150)


@needs_promtool
def test_every_alert_fires_when_it_should_and_stays_quiet_when_it_should_not() -> None:
    outcome = promtool("test", "rules", *TESTS)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@needs_promtool
def test_an_alert_with_another_threshold_is_caught(tmp_path: Path) -> None:
    for file in RULES.glob("*.yml"):
        text = file.read_text().replace("0.4 * glad_worker_stuck_after", "4 * glad_worker_stuck_after")
        (tmp_path / file.name).write_text(text)
    [cases] = [yaml.safe_load(file.read_text()) for file in TESTS if file.name == "glad.rules.test.yml"]
    # Of all cases the one that should notice: the others take a day of samples each.
    tests = [test for test in cases["tests"] if test["name"] == "no step completed"]
    one = {**cases, "rule_files": ["glad.rules.yml"], "tests": tests}
    (tmp_path / "one.test.yml").write_text(yaml.safe_dump(one))
    outcome = promtool("test", "rules", tmp_path / "one.test.yml")
    assert outcome.returncode != 0
    assert "GladNoStepCompleted" in outcome.stdout + outcome.stderr


@needs_promtool
@pytest.mark.parametrize("file", sorted(RULES.glob("*.yml")), ids=lambda path: path.name)
def test_the_rules_are_well_formed(file: Path) -> None:
    outcome = promtool("check", "rules", file)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@needs_promtool
def test_a_rule_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text((RULES / "glad-targets.yml").read_text().replace("== 1)", "== 1"))
    outcome = promtool("check", "rules", bad)
    assert outcome.returncode != 0
    assert "unclosed left parenthesis" in outcome.stdout + outcome.stderr


@needs_promtool
@pytest.mark.parametrize("name", ["prometheus.yml", "one-machine.yml"])
def test_prometheus_understands_its_configuration_and_no_misspelt_one(name: str, tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    config = tmp_path / "prometheus" / name
    good = promtool("check", "config", config)
    assert good.returncode == 0, good.stdout + good.stderr
    config.write_text(config.read_text().replace("scrape_interval:", "scrape_intervall:"))
    bad = promtool("check", "config", config)
    assert bad.returncode != 0
    assert "scrape_intervall" in bad.stdout + bad.stderr


def test_both_configurations_name_the_jobs_that_the_rules_and_dashboards_ask_for() -> None:
    compose, one_machine = (
        yaml.safe_load((PROMETHEUS / name).read_text())["scrape_configs"]
        for name in ("prometheus.yml", "one-machine.yml")
    )
    jobs = {job["job_name"] for job in compose}
    assert jobs == {"glad-api", "glad-worker", "glad-outbox", "prometheus"}
    assert {job["job_name"] for job in one_machine} == jobs - {"glad-outbox"}  # a comment: few have one


def test_refusals_and_failures_that_rules_name_are_the_services_own() -> None:
    text = "".join(file.read_text() for file in RULES.glob("*.yml"))
    kinds = {error.slug: int(error.status) for error in subclasses(ServiceError)}
    (reasons,) = set(re.findall(r'reason=~"([^"]+)"', text))
    # A bundle that is gone is a 404 to the camera, and no fault of its image.
    named = {reason: kinds[reason] for reason in reasons.split("|")}
    assert named.pop("product-unusable") == 404
    assert set(named.values()) == {429, 503}
    (codes,) = set(re.findall(r'code!~"([^"]+)"', text))
    source = (ROOT / "service" / "worker" / "codec_threads.py").read_text()
    assert all(f'"{code}"' in source for code in codes.split("|"))


def subclasses(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


@pytest.mark.parametrize("alert", list(alerts()), ids=lambda alert: str(alert["alert"]))
def test_every_alert_leads_to_a_page_that_says_what_it_means_what_to_look_at_and_what_to_do(
    alert: dict[str, Any],
) -> None:
    text = (ROOT / alert["annotations"]["runbook_url"]).read_text()
    assert f"`{alert['alert']}`" in text
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it means", "What to look at", "What to do"]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description"} <= set(alert["annotations"])

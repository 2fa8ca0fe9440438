"""What the runbook tells people to type exists: commands, calls, settings, metrics and services, by their own names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main
import yaml

from glad.__main__ import GROUP
from service.api.app import create_app
from service.outbox.settings import OutboxSettings
from service.settings import Settings
from tests.support.exported import families, name_of
from tests.support.manifests import ROOT, composed, documents

FOLDER = ROOT / "docs" / "runbook"
PAGES = sorted(FOLDER.glob("*.md"))
PLACEHOLDER = re.compile(r"…$|^[A-Z]+$")


def quoted(page: Path) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", page.read_text())


def problem_of(words: list[str]) -> str | None:
    """Why `glad` with these words is no call; None: it is one, as far as its words tell."""
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if words[0] not in points:
        return f"no command {words[0]}"
    target = points[words[0]].load()
    if isinstance(target, typer.Typer):
        command: Any = typer.main.get_command(target)
    else:
        app = typer.Typer(add_completion=False)
        app.command()(target)
        command = typer.main.get_command(app)
    rest = words[1:]
    if rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"no command {' '.join(words[:2])}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    return next((f"no option {word}" for word in rest if word.startswith("--") and word not in known), None)


def commands() -> Iterator[Any]:
    for page in PAGES:
        for text in quoted(page):
            found = re.match(r"(?:.* -- |docker compose exec \w+ )?glad (?P<words>.+)", text)
            words = shlex.split(found["words"]) if found else []
            if words and words != ["…"]:
                yield pytest.param(words, id=f"{page.stem}-{' '.join(words)}")


def calls() -> Iterator[Any]:
    for page in PAGES:
        for text in quoted(page):
            if text.startswith("GET /"):
                yield pytest.param(text.removeprefix("GET "), id=f"{page.stem}-{text}")


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_of_the_pages_is_one(words: list[str]) -> None:
    assert problem_of([word for word in words if not PLACEHOLDER.search(word)]) is None


def test_a_command_or_an_option_that_does_not_exist_is_found() -> None:
    assert problem_of(["queues", "dead"]) == "no command queues"
    assert problem_of(["queue", "dad"]) == "no command queue dad"
    assert problem_of(["outbox", "replay", "--everything"]) == "no option --everything"
    assert problem_of(["outbox", "replay", "--all"]) is None


@pytest.mark.parametrize("path", list(calls()))
async def test_every_call_of_the_pages_is_understood(path: str, tmp_path: Path) -> None:
    """Redis is away, and there is no image: who understands a call says so."""
    url = path.replace("PRODUCT", "bracket").replace("CURSOR", "").replace("&after=", "").replace("?after=", "")
    app = create_app(Settings(redis_url="redis://127.0.0.1:1/0", data_dir=tmp_path, auth="off"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://glad"
        ) as http,
    ):
        answer = await http.get(url)
        assert answer.status_code == 503 or answer.json()["type"].endswith((":unknown-inspection", ":unknown-artifact"))
        assert (await http.get("/v1/inspektions")).json()["type"] == "about:blank"
        assert (await http.get("/v1/inspections?state=broken")).status_code == 422


def test_every_setting_and_metric_of_the_pages_exists() -> None:
    settings = {f"GLAD_{name.upper()}" for name in OutboxSettings.model_fields}
    metrics = {name_of(family) for family in families()}
    text = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"\bGLAD_[A-Z_]*[A-Z]\b", text)) <= settings
    assert set(re.findall(r"\bglad_[a-z]+_[a-z_]+\b", text)) <= metrics


def test_every_service_and_workload_of_the_pages_exists() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    services = set(composed("cpu", "gpu", "outbox")["services"])
    named = set(re.findall(r"docker compose (?:exec|ps|up -d|kill -s KILL|logs --since 1h) ([a-z-]+)", text))
    assert {"api", "worker", "redis"} <= named <= services
    found = documents("tests/ops/everything")
    workloads = {one["metadata"]["name"] for one in found if one["kind"] in {"Deployment", "StatefulSet"}}
    asked = set(re.findall(r"(?:deploy/|deployment |exec )(glad-[a-z]+)(?:-0)?", text))
    assert {"glad-api", "glad-worker", "glad-redis"} <= asked <= workloads


def test_every_alert_has_its_line_in_the_table() -> None:
    rules = (ROOT / "docker" / "prometheus" / "rules").glob("*.yml")
    groups = [group for file in rules for group in yaml.safe_load(file.read_text())["groups"]]
    pages = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for group in groups
        for rule in group["rules"]
        if "alert" in rule
    }
    table = re.findall(
        r"^\| `(\w+)` \| \[[\w-]+\]\(([\w-]+\.md)\) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE
    )
    assert {name: f"docs/runbook/{page}" for name, page in table} == pages
    assert {page.name for page in PAGES} == {"README.md", *(page for _, page in table)}

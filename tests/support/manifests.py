"""What docker/, docker-compose.yml and k8s/ say, and the programs that judge it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
OVERLAYS = ("k8s/overlays/single-gpu-node", "k8s/overlays/multi-node", "k8s/overlays/cpu-only")
EVERYTHING = "tests/ops/everything"
"""All components at once, also those that no overlay uses."""
TRAININGS = ("k8s/training", "k8s/training-gpu")
KUSTOMIZATIONS = (*OVERLAYS, *TRAININGS, EVERYTHING)
DOCKERFILE = ROOT / "docker" / "Dockerfile"
Document = Mapping[str, Any]


def tool(name: str) -> str:
    """The program beside this Python, or on PATH; the test is skipped where it is missing."""
    beside = Path(sys.executable).parent / name
    apart = ROOT / "build" / name / "bin" / name  # in a virtual environment of its own: `make checkov`
    found = next((str(path) for path in (beside, apart) if path.exists()), None) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def run(name: str, *arguments: str | Path, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a program and returns what became of it."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False)


@cache
def rendered(kustomization: str) -> str:
    """What `kubectl apply --kustomize` would send."""
    outcome = run("kubectl", "kustomize", kustomization)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def documents(kustomization: str) -> list[Document]:
    """Its objects."""
    return [document for document in yaml.safe_load_all(rendered(kustomization)) if document]


def snippet(page: str, word: str) -> str:
    """The one fenced block of a page that holds this word."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if word in block]
    return found


def named(found: Sequence[Document], kind: str, name: str) -> Any:
    """The one object of this kind and name."""
    return next(one for one in found if one["kind"] == kind and one["metadata"]["name"] == name)


def pods(found: Sequence[Document]) -> Iterator[tuple[str, Any]]:
    """Every pod template's spec, with the name of what makes such pods."""
    for one in found:
        if one["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


@cache
def composed(*profiles: str) -> Any:
    """The compose file as Docker Compose reads it, with nothing set in the environment."""
    options = [word for profile in profiles for word in ("--profile", profile)]
    outcome = run(
        "docker-compose", "--env-file", os.devnull, *options, "config", "--format", "json", GLAD_ENV=os.devnull
    )
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)


def image_stages() -> dict[str, str]:
    """The text of every stage of the image file, by its name."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def pod_memory_bytes(deployment: str) -> int:
    """Return the memory that the pod of this deployment may take, by k8s/base."""
    file = ROOT / "k8s" / "base" / f"{deployment.removeprefix('glad-')}.yaml"
    (found,) = (
        one["spec"]["template"]["spec"]["containers"]
        for one in yaml.safe_load_all(file.read_text())
        if one["kind"] == "Deployment" and one["metadata"]["name"] == deployment
    )
    (limit,) = (str(container["resources"]["limits"]["memory"]) for container in found)
    return int(limit[:-2]) << {"Mi": 20, "Gi": 30}[limit[-2:]]

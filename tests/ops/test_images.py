"""The image file: judged by hadolint, and by what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.requirements import main, requirements
from tests.support.manifests import DOCKERFILE, ROOT, image_stages, run

IMAGES = ("api", "worker", "worker-cpu", "train", "camera")


def test_hadolint_finds_nothing_in_the_image_file() -> None:
    outcome = run("hadolint", DOCKERFILE)
    assert (outcome.returncode, outcome.stdout) == (0, "")


def test_hadolint_finds_an_unpinned_package(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text().replace("tini=0.19.0-1*", "tini"))
    assert "DL3008" in run("hadolint", bad).stdout


def test_every_base_image_is_pinned_by_tag_and_digest() -> None:
    text = DOCKERFILE.read_text()
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}", "build", "run"}
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", text, re.MULTILINE)


def test_what_runs_is_not_root_and_says_whether_it_is_healthy() -> None:
    stages = image_stages()
    assert "USER 10001:10001" in stages["run"]
    for image in IMAGES:
        assert "USER" not in stages[image]
        assert "HEALTHCHECK" in stages[image]
        assert "org.opencontainers.image.description" in stages[image]
        assert f"--from=build-{image} /opt/glad" in stages[image]


def test_a_container_lets_nobody_in_without_a_key() -> None:
    assert "GLAD_AUTH=keys" in image_stages()["run"]


def test_every_image_carries_its_bill_of_materials() -> None:
    for image in IMAGES:
        assert "--output-file /opt/glad/sbom.cdx.json" in image_stages()[f"build-{image}"]


def test_the_api_image_has_no_torch_and_what_serves_can_be_traced() -> None:
    stages = image_stages()
    asked = {image: re.findall(r"requirements\.py ([\w ]*) >", stages[f"build-{image}"]) for image in IMAGES}
    assert asked == {
        "api": ["otel s3 signing"],
        "worker": ["gpu otel s3 signing"],
        "worker-cpu": ["cpu otel s3 signing"],
        "train": ["train s3 signing"],
        "camera": ["sample"],
    }
    assert not [
        line for line in requirements(["otel", "s3", "signing", "sample"]) if line.startswith(("torch", "diffusers"))
    ]


def test_requirements_of_an_extra_include_those_of_the_extras_in_it() -> None:
    found = requirements(["gpu"])
    assert {"torch>=2.6", "onnxruntime-gpu>=1.20", "tensorrt>=10.7"} < set(found)
    assert len(found) == len(set(found))
    assert not [line for line in found if line.startswith("glad-inspect")]


def test_an_unknown_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cuda"]) == 1
    assert "no extra 'cuda'" in capsys.readouterr().err


def test_all_that_the_image_file_copies_reaches_the_builder() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
        for source in line.split()
    }
    assert copied == let_in
    assert all((ROOT / path).exists() for path in copied)

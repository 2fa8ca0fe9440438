"""What a container is told to run finds in its image what it imports: all else is out of reach here, as it is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest

from scripts.image_sizes import IMAGES, needed
from scripts.requirements import requirements
from tests.support.manifests import ROOT, composed

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

OURS = "glad-inspect-"
BLOCKED = """
import sys
from importlib.machinery import PathFinder

absent = set(sys.argv.pop(1).split(","))

class InReach(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = InReach
"""


def in_image(image: str) -> set[str]:
    """The distributions that an image's requirements bring, with all that those require."""
    todo = requirements(IMAGES[image])
    found: set[str] = set()
    while todo:
        line = todo.pop()
        for name in needed(line):
            chosen = re.search(r"\[([\w,-]+)\]", line)
            if name not in found or chosen:
                found.add(name)
                todo += required(name, chosen[1].split(",") if chosen else ())
    return found


def required(name: str, extras: Sequence[str]) -> Iterator[str]:
    """What a distribution requires, and what these of its extras do."""
    for line in metadata.requires(name) or ():
        extra = re.search(r"extra == [\"']([\w-]+)[\"']", line)
        if extra is None:
            yield line
        elif extra[1] in extras:
            yield line.partition(";")[0]


def absent_from(image: str) -> set[str]:
    """Importable here, and not there."""
    present = {"glad-inspect", *in_image(image)}
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {owner.lower().replace("_", "-").replace(".", "-") for owner in owners} & present
    }


def run_as(image: str, code: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """This code, with these arguments, where only an image's packages can be imported."""
    command = [sys.executable, "-c", BLOCKED + code, ",".join(sorted(absent_from(image))), *map(str, words)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=150)


def glad(image: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The `glad` command of an image."""
    return run_as(image, "from glad.__main__ import main\nsys.exit(main())", *words)


def image_of(service: str) -> str:
    name: str = composed("camera")["services"][service]["image"]
    return name.removeprefix(OURS).partition(":")[0]


def test_the_sample_cameras_image_draws_its_parts_and_posts_them(tmp_path: Path) -> None:
    drawn = glad(image_of("camera-setup"), "sample", tmp_path / "sample", "--seed", "7", "--good", "1")
    assert drawn.returncode == 0, drawn.stderr
    posted = glad(
        image_of("camera"), "camera", tmp_path / "sample" / "test", "--product", "x", "--url", "http://[::1]:9"
    )
    assert "not installed" not in posted.stderr


def test_what_an_image_lacks_is_out_of_reach(tmp_path: Path) -> None:
    drawn = glad("api", "sample", tmp_path / "sample", "--seed", "7", "--good", "1")
    assert drawn.returncode == 1
    assert "scipy is not installed" in drawn.stderr


@pytest.mark.parametrize("image", ["api", "worker-cpu"])
def test_what_serves_can_keep_artifacts_in_an_object_store(image: str) -> None:
    opened = run_as(image, "import fsspec; print(fsspec.get_filesystem_class('s3').__name__)")
    assert opened.stdout.strip() == "S3FileSystem", opened.stderr


def imports(image: str, modules: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return run_as(image, "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)", *modules)


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        (
            "api",
            (
                "service.api.app",
                "service.api.server",
                "service.outbox.main",
                "service.cli.backup",
                "service.telemetry.otel",
            ),
        ),
        ("worker-cpu", ("service.worker.main", "service.telemetry.otel", "onnxruntime")),
        ("train", ("training.pipeline", "training.evaluation.evaluate", "training.export.make")),
    ],
)
def test_what_an_image_is_for_can_be_imported_in_it(image: str, modules: Sequence[str]) -> None:
    outcome = imports(image, modules)
    assert outcome.returncode == 0, outcome.stderr

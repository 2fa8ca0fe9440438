"""In a folder where the user has packages of his own by our names, ours are used, or he is told which is in the way."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.environments import ROOT, Environment, build_wheel, make_environment
from tests.support.processes import eventually
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import TINY_TOML, draw_parts

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

OURS = ("bench", "demo", "glad", "glad_inspect", "model_store", "service", "tests", "training")
EXAMPLE = ROOT / "model_store" / "bundles" / "bracket-example.jpg"
FIVE_LINES = f"""
import glad_inspect as glad
result = glad.load("bracket", device="cpu")({str(EXAMPLE)!r})
print(result.verdict)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """As `pip install 'glad-inspect[cpu,train]'` leaves it: no checkout, no PYTHONPATH."""
    wheel = build_wheel(tmp_path_factory.mktemp("dist"))
    return make_environment(tmp_path_factory.mktemp("installed"), wheel, "cpu", "train")


def folder_with(folder: Path, *packages: str) -> Path:
    """A folder with packages of the user's own, which end every process that takes them for ours."""
    for name in packages:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise SystemExit('this is the {name} of the user')\n")
    return folder


@contextmanager
def serving(installed: Environment, folder: Path, data: Path) -> Iterator[str]:
    """`glad serve`, started in a folder; its address once it serves."""
    log = folder / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [installed.folder / "bin" / "glad", "serve", "--port", "0", "--data-dir", str(data)],
            cwd=folder,
            env=installed.variables(GLAD_DEVICE="cpu"),
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: "glad serves at" in log.read_text() or server.poll() is not None, patience_s=180)
        assert server.poll() is None, log.read_text()[-3000:]
        yield log.read_text().partition("glad serves at ")[2].split()[0]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def test_a_service_started_there_inspects_and_a_camera_posts_to_it(installed: Environment, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "mine", *OURS)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "part.jpg").write_bytes(EXAMPLE.read_bytes())
    with serving(installed, folder, tmp_path / "data") as address:
        answer = httpx.post(
            f"{address}/v1/products/bracket/inspections",
            content=EXAMPLE.read_bytes(),
            headers={"Prefer": "wait=60"},
            timeout=90,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["verdict"] == "fail", "a part with a defect"
        words = ("camera", photographs, "--product", "bracket", "--url", address, "--json", folder / "told.json")
        posted = installed.glad(*words, cwd=folder)
        assert posted.returncode == 0, posted.stderr
        assert "fail" in posted.stdout
        assert json.loads((folder / "told.json").read_text())


def test_a_training_and_an_evaluation_run_there_with_processes_of_their_own(
    installed: Environment, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path / "mine", *OURS)
    draw_parts(folder / "parts")
    (folder / "tiny.toml").write_text(TINY_TOML)
    trained = installed.glad("train", "tiny.toml", "--data", "parts", "--version", "1", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    words = ("evaluate", "bundles/parts/1", "--data", "parts", "--yardstick", "none")
    evaluated = installed.glad(*words, cwd=folder, GLAD_DEVICE="cpu")
    assert evaluated.returncode == 0, evaluated.stderr
    drawn = installed.glad("sample", "drawn", "--good", "8", cwd=folder)  # enough for several processes
    assert drawn.returncode == 0, drawn.stderr


@pytest.mark.parametrize("start", [("glad",), ("python", "-m", "glad")])
def test_images_are_inspected_there(installed: Environment, tmp_path: Path, start: tuple[str, ...]) -> None:
    """`python -m glad` looks for `glad` in the working folder first, so there it must be the user's to be found."""
    names = OURS if start == ("glad",) else tuple(name for name in OURS if name != "glad")
    folder = folder_with(tmp_path / "mine", *names)
    bundle = make_tiny_bundle(tmp_path / "store", resolution=32)
    outcome = installed.run(*start, "inspect", bundle, EXAMPLE, "--no-pictures", cwd=folder, GLAD_DEVICE="cpu")
    assert outcome.returncode == 0, outcome.stderr
    assert EXAMPLE.name in outcome.stdout


def test_a_program_beside_a_service_and_a_training_of_its_own_judges_images(
    installed: Environment, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path / "mine", "service", "training", "bench", "demo", "tests")
    (folder / "program.py").write_text(FIVE_LINES)
    outcome = installed.run("python", folder / "program.py", cwd=tmp_path)
    assert (outcome.returncode, outcome.stdout) == (0, "fail\n"), outcome.stderr


@pytest.mark.parametrize("place", ["glad.py", "glad/__init__.py", "model_store.py", "model_store/__init__.py"])
@pytest.mark.parametrize("imported", ["", "import glad, model_store"])
def test_a_file_that_is_in_the_way_is_named(installed: Environment, tmp_path: Path, place: str, imported: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    (tmp_path / "program.py").write_text(f"{imported}\n{FIVE_LINES}")
    outcome = installed.run("python", "program.py", cwd=tmp_path)
    last, name = outcome.stderr.splitlines()[-1], place.removesuffix(".py").partition("/")[0]
    assert last == (
        f"ImportError: {tmp_path / place} is in the way: Python finds it before the package {name} of glad-inspect, "
        f"which lies in {installed.packages}. Rename it, or start your program from another folder"
    )


def test_importing_the_public_package_imports_no_framework(installed: Environment, tmp_path: Path) -> None:
    code = "import sys, glad_inspect; print(*sorted(name for name in sys.modules if '.' not in name))"
    outcome = installed.run("python", "-c", code, cwd=tmp_path)
    loaded = set(outcome.stdout.split())
    assert "glad_inspect" in loaded, outcome.stderr
    assert loaded & {"PIL", "diffusers", "httpx", "matplotlib", "numpy", "pydantic", "torch", "typer"} == set()

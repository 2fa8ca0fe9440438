"""The client's wheel alone, in an empty environment, in a folder with packages of the user that have names of ours."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from service.contract import Job
from service.queue.jobs import JobQueue
from tests.glad_client.test_real_service import MakeQueue
from tests.support.line import picture

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, json, sys
from importlib import metadata
from pathlib import Path
from glad_client import AsyncClient, Client, State

url, image = sys.argv[1], Path("part.png")
with Client(url) as client:
    first = client.submit("toy", image, fields={"serial": "SN-1"})
    assert client.get(first.id).state is State.QUEUED

async def post():
    async with AsyncClient(url) as client:
        return await client.submit("toy", image.read_bytes(), fields={"serial": "SN-2"})

import glad_client.camera
ours = ("glad", "glad_inspect", "model_store", "service", "training", "bench")
print(json.dumps({
    "serials": [first.serial, asyncio.run(post()).serial],
    "installed": sorted(one.name for one in metadata.distributions()),
    "ours": [name for name in sys.modules if name.partition(".")[0] in ours],
}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the client's wheel, what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("client")
    wheels = folder / "wheels"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    fetched = subprocess.run(
        [*pip, "wheel", "--wheel-dir", wheels, "httpx>=0.28", "pydantic>=2.10", "hatchling>=1.27"],
        check=False,
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        pytest.skip(f"no package index within reach of pip: {fetched.stderr.strip().splitlines()[-1]}")
    offline: list[str | Path] = ["--no-index", "--find-links", wheels]
    subprocess.run([*pip, "wheel", *offline, "--no-deps", "--wheel-dir", wheels, ROOT / "glad_client"], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", *offline, "glad-inspect-client"], check=True)
    return python


def test_the_wheel_alone_posts_to_a_service_whatever_packages_the_user_has(
    environment: Path, url: str, tmp_path: Path, client: redis.Redis, make_queue: MakeQueue
) -> None:
    for name in ("glad", "model_store", "service", "training"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the package of the user was taken for ours')")
    (tmp_path / "part.png").write_bytes(picture())
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [str(environment), "program.py", url]
    outcome = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, env={}, timeout=120)
    assert outcome.returncode == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert (found["serials"], found["ours"]) == (["SN-1", "SN-2"], [])
    assert {"glad-inspect-client", "httpx", "pydantic"} <= set(found["installed"])
    assert not {"glad-inspect", "numpy", "redis", "fastapi", "typer"} & set(found["installed"])
    assert [job.serial for job in queued(make_queue())] == ["SN-1", "SN-2"]


def queued(queue: JobQueue) -> list[Job]:
    """The jobs that wait, in their order."""
    return [claimed.job for claimed in (*queue.claim(2), *queue.claim(2))]


def test_the_wheel_holds_the_package_and_its_types(environment: Path) -> None:
    (package,) = (environment.parents[1] / "lib").glob("python*/site-packages/glad_client")
    shipped = {file.relative_to(package).as_posix() for file in package.rglob("*") if file.suffix != ".pyc"}
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT / "glad_client", check=True, capture_output=True)
    assert {one for one in shipped if "." in one} == {*tracked.stdout.decode().split(), "py.typed"}


def test_the_old_name_still_leads_to_the_client_and_warns() -> None:
    sys.modules.pop("service.client", None)
    with pytest.warns(DeprecationWarning, match="from glad_client import Client"):
        old = importlib.import_module("service.client")
    new = importlib.import_module("glad_client")
    assert all(getattr(old, name) is getattr(new, name) for name in old.__all__)


def test_the_types_of_the_contract_load_no_http(environment: Path) -> None:
    code = "import sys, glad_client.results, glad_client.answers; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([environment, "-c", code], check=False).returncode == 0


def test_no_module_hides_one_of_the_standard_library_from_a_python_that_runs_in_its_folder() -> None:
    modules = {file.stem for file in (ROOT / "glad_client").rglob("*.py")} - {"__init__"}
    assert modules & sys.stdlib_module_names == set()

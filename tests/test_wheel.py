"""The wheel holds what a customer needs and nothing else, and its commands work where no checkout is near."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.environments import ROOT, Environment, build_wheel, make_environment
from tests.support.tried_commands import listed_commands

pytestmark = pytest.mark.timeout(600)  # a process for every command: slow where other work shares the machine

CODE = re.compile(r"(?:glad_inspect|glad|model_store|training|service)/(?:\w+/)*\w+\.py")
BENCH = re.compile(r"bench/(?:__init__|cli|(?:speed|support)/\w+)\.py")
DATA = re.compile(
    r"glad_inspect/py\.typed"
    r"|model_store/bundles/[a-z-]+-example\.jpg"
    r"|model_store/bundles/[a-z-]+/_evaluations\.jsonl"
    r"|model_store/bundles/[a-z-]+/\d+/(?:\w+/)*[\w.-]+\.(?:json|safetensors|onnx|html|jpg)"
    r"|service/queue/scripts/\w+\.lua"
    r"|service/page/(?:\w+/)*[\w.]+\.(?:html|js|css|svg|json|d\.ts|md|LICENSE)"
    r"|training/templates/\w+\.(?:html\.j2|txt\.j2|css)"
    r"|training/recipes/(?:[\w-]+\.toml|recipe\.schema\.json)"
)
METADATA = re.compile(r"glad_inspect-[\d.]+\.dist-info/(?:METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)")
SOURCE = re.compile(r"(?:CHANGELOG|README)\.md|LICENSE|PKG-INFO|pyproject\.toml|\.gitignore|constraints/\w+\.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """With all that training and serving on a CPU need."""
    return make_environment(tmp_path_factory.mktemp("installed"), wheel, "cpu", "train")


def names_in(wheel: Path) -> set[str]:
    """Its files."""
    with zipfile.ZipFile(wheel) as files:
        return set(files.namelist())


def foreign(names: set[str], *kinds: re.Pattern[str]) -> list[str]:
    """What is of none of these kinds."""
    return sorted(name for name in names if not any(kind.fullmatch(name) for kind in kinds))


def test_every_file_of_the_wheel_is_code_data_of_the_product_or_metadata(wheel: Path) -> None:
    assert foreign(names_in(wheel), CODE, BENCH, DATA, METADATA) == []


def test_every_file_of_the_product_is_in_the_wheel(wheel: Path) -> None:
    """What git ignores is left out without a word, so a rule of .gitignore could take a recipe along."""
    packages = ("glad_inspect", "glad", "model_store", "training", "service")
    files = [file for package in packages for file in (ROOT / package).rglob("*") if file.is_file()]
    files += [*(ROOT / "bench" / "speed").rglob("*.py"), *(ROOT / "bench" / "support").rglob("*.py")]
    there = {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}
    assert there - names_in(wheel) == set()


def test_the_source_distribution_holds_the_same_and_makes_the_same_wheel(tmp_path: Path, wheel: Path) -> None:
    source = build_wheel(tmp_path / "source", target="sdist")
    with tarfile.open(source) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
        files.extractall(tmp_path, filter="data")
    assert foreign(names, CODE, BENCH, DATA, SOURCE) == []
    again = build_wheel(tmp_path / "again", tmp_path / source.name.removesuffix(".tar.gz"))
    assert names_in(again) == names_in(wheel)


def test_every_command_that_help_lists_explains_itself(installed: Environment, tmp_path: Path) -> None:
    commands = listed_commands(installed, tmp_path)
    assert {"serve", "inspect", "bundle list", "bench engines"} <= set(commands)
    for command in commands:
        outcome = installed.glad(*command.split(), "--help", cwd=tmp_path)
        assert outcome.returncode == 0, outcome.stderr
        assert f"glad {command}" in outcome.stdout


def test_measurements_that_need_a_checkout_are_listed_in_a_checkout_alone(
    installed: Environment, tmp_path: Path
) -> None:
    from typer.main import get_command

    from bench.cli import SPEED, app, of_a_checkout

    told = installed.glad("bench", "--help", cwd=tmp_path).stdout
    listed = set(re.findall(r"^│ ([a-z]+)  +\w", told.partition(" Commands ")[2], re.MULTILINE))
    assert listed == {command.__name__ for command in SPEED}
    assert of_a_checkout()
    assert set(get_command(app).commands) == listed | {command.__name__ for command in of_a_checkout()}  # type: ignore[attr-defined]


def test_an_installed_version_knows_nothing_of_the_checkout(installed: Environment, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('demo', 'tests', 'scripts') if u.find_spec(n)])"
    outcome = installed.run("python", "-c", code, cwd=tmp_path)
    assert outcome.stdout == "[]\n", outcome.stderr

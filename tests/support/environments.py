"""Virtual environments as pip would make them of the wheel and an extra, without pip: links to what is installed here.

    wheel = build_wheel(tmp_path / "dist")
    environment = make_environment(tmp_path / "base", wheel)              # the base; "train": with that extra
    environment.glad("serve", "--help", cwd=empty_folder)

A distribution that is not installed here is left out, and named in `missing`.
"""

from __future__ import annotations

import atexit
import csv
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "glad-inspect"
CLIENT = "glad-inspect-client"
"""The other distribution of this project, which the first requires."""


def build_wheel(folder: Path, project: Path = ROOT, target: str = "wheel") -> Path:
    """Builds the project's wheel, or its sdist, as a release does, with the backend that is installed: no network."""
    command = [sys.executable, "-P", "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=project, check=True, capture_output=True, env=environment)
    (made,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@cache
def client_wheel() -> Path:
    """The wheel of the client's distribution, built once in this process."""
    folder = tempfile.TemporaryDirectory(prefix="glad-client-wheel-")
    atexit.register(folder.cleanup)
    return build_wheel(Path(folder.name), ROOT / "glad_client")


@dataclass(frozen=True)
class Environment:
    """A virtual environment with our wheel and what one extra requires."""

    folder: Path
    missing: tuple[str, ...]
    """What the extra requires and this machine does not have."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages lie."""
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def variables(self, **more: str) -> dict[str, str]:
        """The environment variables of a shell in which it is active; nothing of this process's settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GLAD_", "PYTHON"))}
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, "HOME": str(self.folder), "COLUMNS": "200", **more}

    def run(self, *words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of it by its name."""
        command = [str(self.folder / "bin" / words[0]), *map(str, words[1:])]
        settings = self.variables(**variables)
        return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=600, env=settings)

    def glad(self, *words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs its `glad` command."""
        return self.run("glad", *words, cwd=cwd, **variables)


def make_environment(folder: Path, wheel: Path, *extras: str) -> Environment:
    """Makes an environment of the wheel, of the client's and of these extras."""
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder, ())
    for one in (wheel, client_wheel()):
        with zipfile.ZipFile(one) as files:
            files.extractall(made.packages)
    ours = {
        name: next(iter(metadata.distributions(name=name, path=[str(made.packages)])))
        for name in (DISTRIBUTION, CLIENT)
    }
    found, missing = closure(ours, extras)
    owners = _owners()
    for distribution in found:
        _link(distribution, made.packages, owners)
    for point in ours[DISTRIBUTION].entry_points.select(group="console_scripts"):
        script = folder / "bin" / point.name
        script.write_text(
            f"#!{made.python}\nimport sys\nfrom {point.module} import {point.attr}\n"
            f"if __name__ == '__main__':\n    sys.exit({point.attr}())\n"
        )
        script.chmod(0o755)
    return Environment(folder, missing)


def closure(
    ours: Mapping[str, metadata.Distribution], extras: Sequence[str]
) -> tuple[list[metadata.Distribution], tuple[str, ...]]:
    """All that our distribution with these extras requires beside `ours`, and what of it is not installed here."""
    todo = [(ours[DISTRIBUTION], extra) for extra in ("", *extras)]
    seen: set[tuple[str, str]] = set()
    found: dict[str, metadata.Distribution] = {}
    missing: set[str] = set()
    while todo:
        distribution, extra = todo.pop()
        for requirement in _required(distribution, extra):
            name = canonicalize_name(requirement.name)
            wanted = [one for one in ("", *sorted(requirement.extras)) if (name, one) not in seen]
            seen |= {(name, one) for one in wanted}
            try:
                brought = ours[name] if name in ours else metadata.distribution(name)
            except metadata.PackageNotFoundError:
                missing.add(name)
                continue
            if name not in ours:
                found[name] = brought
            todo += [(brought, one) for one in wanted]
    return list(found.values()), tuple(sorted(missing))


def _required(distribution: metadata.Distribution, extra: str) -> Iterator[Requirement]:
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None:
            if not extra:
                yield requirement
        elif requirement.marker.evaluate({"extra": extra}) and (not extra or not _in_base(requirement)):
            yield requirement


def _in_base(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


@cache
def _owners() -> Mapping[str, set[str]]:
    """Top-level file or folder of the installed packages -> the distributions that have a share in it."""
    owners: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        for top in {file.partition("/")[0] for file in _files(distribution)}:
            owners.setdefault(top, set()).add(canonicalize_name(distribution.name))
    return owners


def _files(distribution: metadata.Distribution) -> list[str]:
    """The files of a distribution's packages; `Distribution.files` would look at each on disk."""
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    return [row[0] for row in rows if not row[0].startswith("..")]  # programs and manuals lie elsewhere


def _link(distribution: metadata.Distribution, packages: Path, owners: Mapping[str, set[str]]) -> None:
    """Links a distribution's files: a folder that is its own as a whole, else file by file."""
    shared = {file: len(owners[file.partition("/")[0]]) > 1 for file in _files(distribution)}
    places = {file if apart else file.partition("/")[0] for file, apart in shared.items()}
    for place in places:
        link = packages / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(str(distribution.locate_file(place)))

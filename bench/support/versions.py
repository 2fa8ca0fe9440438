"""Versions of this project beside the one that runs: what git keeps, as a folder."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def check_out(reference: str, folder: Path) -> Path:
    """All files of this commit or tag, in a new folder. RuntimeError if git or the checkout does not have it."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", name_of(reference)))) as files:
        files.extractall(folder, filter="data")
    return folder


def name_of(reference: str) -> str:
    """The commit's short name. RuntimeError as `check_out`."""
    return _git("rev-parse", "--verify", "--short", "--end-of-options", f"{reference}^{{commit}}").decode().strip()


def _git(*words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(CHECKOUT), *words], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise RuntimeError("git is not installed: an older version is read from the checkout's history") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise RuntimeError(
            f"git {words[0]} found no {words[-1]} in {CHECKOUT}: {said}; `git log` lists commits"
        ) from error

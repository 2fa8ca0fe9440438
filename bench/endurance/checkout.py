"""What a measurement takes from a checkout of the project: the tests' toy bundle, an older version."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tomllib
from pathlib import Path

KEPT = 300
"""Results and events."""
SMALL = {
    "GLAD_DEVICE": "cpu",
    "GLAD_TORCH_THREADS": "1",
    "GLAD_MAX_RESULTS": str(KEPT),
    "GLAD_MAX_EVENTS": str(KEPT),
    "GLAD_ARTIFACTS_MAX_BYTES": str(64 << 20),
}
"""Settings of a service whose stores are full within minutes: trims and sweeps are at work, and nothing else grows."""


def toy_bundle(store: Path) -> Path:
    """Make a bundle of product "toy" in this store that takes a few milliseconds an image."""
    from tests.support.tiny_bundle import QUICK, make_tiny_bundle

    return make_tiny_bundle(store, **QUICK)


CHECKOUT = Path(__file__).resolve().parents[2]


def check_out(reference: str, folder: Path) -> Path:
    """Write all files of this commit or tag into a new folder, and return it.

    Raises:
        RuntimeError: if git or the checkout does not have it.
    """
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", name_of(reference)))) as files:
        files.extractall(folder, filter="data")
    write_entry_points(folder, folder)
    return folder


def write_entry_points(checkout: Path, folder: Path) -> None:
    """Write the metadata of a checkout into a folder that goes before the installed version's on the path.

    `glad` finds its commands by the metadata of the distribution, and in another version they may lie elsewhere. Of two
    distributions of one name the first on the path counts.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = [
        line
        for group, commands in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in commands.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


def name_of(reference: str) -> str:
    """Return the commit's short name.

    Raises:
        RuntimeError: if git or the checkout does not have it.
    """
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

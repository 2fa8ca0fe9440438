"""Estimates how large the images of docker/Dockerfile are, from installed packages: nothing is built.

    python scripts/image_sizes.py                  from this environment
    python scripts/image_sizes.py --wheels DIR     and, for the images with CUDA, all wheels of a folder, unpacked

Counts the files of every package that an image's requirements bring, on top of the base image. Compiled Python
(about a tenth more) and file system overhead are left out. What was found nowhere is named, and makes the sum a least.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.requirements import requirements  # noqa: E402 - this script is run by its path

IMAGES = {
    "api": ("otel", "s3", "signing"),
    "worker-cpu": ("cpu", "otel", "s3", "signing"),
    "worker": ("gpu", "otel", "s3", "signing"),
    "train": ("train", "s3", "signing"),
    "camera": ("sample",),
}
CUDA_IMAGES = {"worker", "train"}
FOREIGN = re.compile(r"== *[\"'](win32|Windows|Darwin|darwin|emscripten)[\"']")
"""In the marker of what another system needs."""
PYTHON_MINOR = 11
"""Of the base image's Python 3."""
BASE_MB = 130
"""python:3.11-slim-bookworm unpacked, as its publisher shows it; not measured here."""


@dataclass(frozen=True)
class SizeEstimate:
    """The size of an image's packages."""

    image: str
    megabytes: float
    packages: int
    missing: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for every image."""
    parser = argparse.ArgumentParser(description="Estimate the images' sizes; nothing is built.")
    parser.add_argument("--wheels", type=Path, help="folder of torch's CUDA wheels and what they need")
    options = parser.parse_args(arguments)
    for image, extras in IMAGES.items():
        found = estimate(image, requirements(extras), options.wheels if image in CUDA_IMAGES else None)
        total = f"{BASE_MB + found.megabytes:7,.0f} MB"
        lacking = f"; at least, without {', '.join(found.missing)}" if found.missing else ""
        print(f"{image:<11}{total}   estimated, not built: {found.packages} packages{lacking}")
    return 0


def estimate(image: str, lines: Sequence[str], wheels: Path | None) -> SizeEstimate:
    """Return the packages that these requirements bring, with all that those require, here or in the wheels."""
    unpacked = {} if wheels is None else {normal(file.name.split("-")[0]): file for file in wheels.glob("*.whl")}
    todo = [*unpacked, *(name for line in lines for name in needed(line))]
    sizes, missing = dict[str, int](), list[str]()
    while todo:
        name = todo.pop()
        if name in sizes or name in missing:
            continue
        if name in unpacked:
            with zipfile.ZipFile(unpacked[name]) as wheel:
                sizes[name] = sum(info.file_size for info in wheel.infolist())
                todo += [other for line in wheel_requirements(wheel) for other in needed(line)]
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        sizes[name] = installed_bytes(found)
        todo += [other for line in found.requires or () for other in needed(line)]
    return SizeEstimate(image, sum(sizes.values()) / 1e6, len(sizes), tuple(sorted(missing)))


def installed_bytes(found: metadata.Distribution) -> int:
    """Return the bytes of the files that a distribution brought, less compiled Python."""
    files = [Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc"]
    return sum(file.stat().st_size for file in files if file.is_file())


def wheel_requirements(wheel: zipfile.ZipFile) -> list[str]:
    """Return the Requires-Dist lines of a wheel."""
    name = next(one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
    head = wheel.read(name).decode().split("\n\n", 1)[0]
    return re.findall(r"^Requires-Dist: (.+)$", head, re.MULTILINE)


def needed(line: str) -> Iterator[str]:
    """Return the name in a requirement, unless it is one of an extra, of another Python or of another system."""
    name, _, marker = line.partition(";")
    older = re.search(r"python_(?:full_)?version *< *[\"']3\.(\d+)", marker)
    if "extra ==" in marker or FOREIGN.search(marker) or (older and int(older[1]) <= PYTHON_MINOR):
        return
    found = re.match(r"\s*([A-Za-z0-9._-]+)", name)
    if found:
        yield normal(found[1])


def normal(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())

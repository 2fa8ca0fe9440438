"""Data folders behind a URL: a local copy of what lies there, of which only what has changed is fetched again.

Any file system that fsspec knows will do. Trainings read each image several times, and a run must find the same images
when it goes on; so all of it is copied first, and the copy is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import fsspec
from filelock import FileLock

from model_store.files import replace_file
from training.data.image_files import DataError
from training.progress import Count, progress_bar

CACHE_VARIABLE = "GLAD_DATA_CACHE"
DEFAULT_CACHE = Path("~/.cache/glad/data")
AT_ONCE = 32
"""Files that are asked for together: a store with a long way answers many as fast as one."""
INDEX = "index.json"
"""What the copy was made of: beside the folder, so that the folder holds the data alone."""
VERSION_KEYS = ("ETag", "etag", "md5Hash", "checksum", "sha256", "LastModified", "last_modified", "mtime", "updated")
"""How file systems of fsspec tell one version of a file from another; the first one that is there counts."""


@dataclass(frozen=True)
class RemoteFile:
    """A file behind the URL."""

    path: str
    """As the file system takes it."""
    version: str
    """Another one when the file has changed, as far as the file system tells."""
    bytes: int


def cache_folder() -> Path:
    """Return where copies are kept: GLAD_DATA_CACHE, or a folder of the user's cache."""
    return Path(os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE).expanduser()


def local_copy(url: str, cache: Path | None = None, *, progress: Count | None = None) -> Path:
    """Return a local folder with the files that lie behind the URL, under the same names.

    Files that are there already, in the same version, are not fetched again; those that are gone are removed. An
    interrupted copy goes on where it stopped. Two commands on one URL wait for each other.

    Args:
        url: such as s3://bucket/parts/bracket; its last part becomes the folder's name.
        cache: the folder of all copies; None: `cache_folder()`.
        progress: called with the files done and in all; None: a bar is shown.

    Raises:
        DataError: if nothing lies there, it cannot be read, or its names are no file names here.
    """
    place = (cache or cache_folder()) / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = place / (PurePosixPath(urlsplit(url).path).name or "data")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):
        try:
            system, root = fsspec.core.url_to_fs(url)
            system.invalidate_cache()
            files = _listed(system.find(root, detail=True), root)
        except Exception as error:  # each file system has errors of its own
            raise DataError(
                f"{without_password(url)} cannot be read: {_reason(error)}{_offline(place, folder)}"
            ) from error
        if not files:
            raise DataError(
                f"{without_password(url)} holds no files: give the folder that holds train/good, such as "
                "s3://bucket/parts/bracket"
            )
        _fetch(system, files, place, folder, progress=progress, url=url)
    return folder


def without_password(url: str) -> str:
    """Return the URL without user and password, for messages and records."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _listed(found: Mapping[str, Mapping[str, Any]], root: str) -> dict[str, RemoteFile]:
    """Return the files by their names below the root."""
    files = {}
    prefix = root.rstrip("/") + "/"
    for path, about in found.items():
        name = path.removeprefix(prefix)
        if about.get("type") == "directory" or not name or name.endswith("/"):
            continue
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise DataError(f"{path!r} is no name of a file below {root!r}: rename it")
        version = next((str(about[key]) for key in VERSION_KEYS if about.get(key) is not None), "")
        files[name] = RemoteFile(path, f"{about.get('size')} {version}", int(about.get("size") or 0))
    return files


def _fetch(
    system: fsspec.AbstractFileSystem,
    files: Mapping[str, RemoteFile],
    place: Path,
    folder: Path,
    *,
    progress: Count | None,
    url: str,
) -> None:
    index = place / INDEX
    known = _known(index)
    _remove_others(folder, files)
    present = {name for name, file in files.items() if known.get(name) == file.version and (folder / name).is_file()}
    missing = [name for name in files if name not in present]
    needed = sum(files[name].bytes for name in missing)
    if needed > (free := shutil.disk_usage(place).free):
        raise DataError(
            f"{without_password(url)}: {needed} bytes are to be copied to {place}, which has {free} bytes free: free "
            f"space, or set {CACHE_VARIABLE} to a folder on a larger disk"
        )
    versions = {name: files[name].version for name in present}
    with progress_bar() as bar:
        task = bar.add_task("copying data", total=len(files), completed=len(present), note="") if missing else None
        for start in range(0, len(missing), AT_ONCE):
            names = missing[start : start + AT_ONCE]
            _get(system, [files[name].path for name in names], [folder / name for name in names], url)
            versions |= {name: files[name].version for name in names}
            _write_index(index, versions)
            if task is not None:
                bar.update(task, advance=len(names))
            if progress is not None:
                progress(len(versions), len(files))
    _write_index(index, versions)


def _get(system: fsspec.AbstractFileSystem, paths: list[str], targets: list[Path], url: str) -> None:
    """Copy files, each in one step: what is there under its name is whole."""
    drafts = [target.with_name(f".{target.name}.part") for target in targets]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        system.get(paths, [str(draft) for draft in drafts])
    except Exception as error:
        raise DataError(
            f"{without_password(url)} cannot be copied: {_reason(error)}; the same command goes on where it stopped"
        ) from error
    for draft, target in zip(drafts, targets, strict=True):
        draft.replace(target)


def _remove_others(folder: Path, files: Mapping[str, RemoteFile]) -> None:
    """Remove what no longer lies behind the URL, and what an interruption left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in files:
            path.unlink()


def _known(index: Path) -> dict[str, str]:
    """Return the versions of the files that were copied."""
    try:
        found: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _write_index(index: Path, versions: Mapping[str, str]) -> None:
    replace_file(index, json.dumps(versions, indent=1, sort_keys=True).encode())


def _reason(error: Exception) -> str:
    """Return why it failed; a file system whose library is absent says which package to install."""
    if isinstance(error, ImportError) and "s3fs" in str(error):
        return "it needs the [s3] extra: pip install 'glad-inspect[s3]'"
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    return str(error) or type(error).__name__


def _offline(place: Path, folder: Path) -> str:
    """Return a hint where an earlier copy lies."""
    return f"; a copy made earlier lies in {folder}: give that folder to work with it" if _known(place / INDEX) else ""

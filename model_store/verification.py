"""The checks of a bundle's files: present, named, of their size and hash, no links, JSON or safetensors. No torch.

Each check raises the BundleError that says what is wrong, and returns nothing where all is well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from model_store.errors import BundleError, ForeignFormat, HashMismatch, MissingFile, SymlinkFound, UnknownFile
from model_store.manifest import (
    CONFIG_NAME,
    EXPORTS,
    MANIFEST_NAME,
    REPORT,
    WEIGHTS_NAME,
    Component,
    Dtype,
    FileEntry,
    Kind,
    Manifest,
)
from model_store.signing import SUFFIX

MAX_JSON_BYTES = 8 << 20

_TENSOR_DTYPES: Mapping[Dtype, str] = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
REPUBLISH = "restore the bundle from where it was published, or publish it again"


def check_files_present(folder: Path, manifest: Manifest) -> None:
    """Check that every needed file is there, and every named one of its size.

    Quick enough for a listing: reads no content.
    """
    for name, entry in (*manifest.files.items(), *report_present(folder, manifest).items()):
        path = folder / name
        _refuse_link(path.parent)
        require_file(path, f"a file of {entry.bytes} bytes", REPUBLISH)
        if (size := path.lstat().st_size) != entry.bytes:
            raise HashMismatch(path, expected=f"{entry.bytes} bytes", found=f"{size} bytes", fix=REPUBLISH)


def report_present(folder: Path, manifest: Manifest) -> dict[str, FileEntry]:
    """Return the files of the report that lie in a bundle's folder: no inspection needs it, so any may be missing."""
    return {name: entry for name, entry in manifest.report.items() if os.path.lexists(folder / name)}


def check_component(folder: Path, component: Component) -> None:
    """Check that a component holds its configuration and its weights, both in the only formats that are ever read."""
    expected = {CONFIG_NAME, WEIGHTS_NAME[component.kind]}
    named = {Path(file).name for file in component.files}
    for file in sorted(named - expected):
        raise foreign_file(folder / file, component.kind)
    for file in sorted(expected - named):
        raise MissingFile(
            folder / file,
            expected=f"in the manifest: the {file} of a {component.kind}",
            found="no entry",
            fix=REPUBLISH,
        )
    _check_config(folder / CONFIG_NAME)
    _check_weights(folder / WEIGHTS_NAME[component.kind], component.dtype)


def foreign_file(path: Path, kind: Kind) -> ForeignFormat:
    """Return the error for a file that has no place in a component of this kind."""
    return ForeignFormat(
        path,
        expected=f"only {CONFIG_NAME} and {WEIGHTS_NAME[kind]} in a {kind}",
        found=f"file {path.name!r}",
        fix="remove it; pickled weights (.bin, .pt, .ckpt) must be saved again as safetensors",
    )


def _check_config(path: Path) -> None:
    try:
        config = json.loads(read_json_bytes(path, ForeignFormat))
    except ValueError as error:
        raise ForeignFormat(path, expected="JSON", found=str(error), fix="save the model again") from error
    if not isinstance(config, dict):
        raise ForeignFormat(path, expected="a JSON object", found=type(config).__name__, fix="save the model again")
    if "auto_map" in config:
        raise ForeignFormat(
            path,
            expected="a configuration of a built-in model class",
            found="'auto_map', which would load Python code",
            fix="use a model class of diffusers or transformers and save it again",
        )


def _check_weights(path: Path, dtype: Dtype) -> None:
    """Read the safetensors header; refuse a pickle under this name, and weights of another precision."""
    size = path.lstat().st_size
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        header = stream.read(header_bytes) if 2 <= header_bytes <= min(MAX_JSON_BYTES, size - 8) else b""
    try:
        tensors = json.loads(header)
        dtypes = {tensor["dtype"] for name, tensor in tensors.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ForeignFormat(
            path,
            expected="safetensors",
            found="a file without a safetensors header (a pickle?)",
            fix="save the model again as safetensors",
        ) from error
    floats = {name for name in dtypes if name.startswith(("F", "BF"))}
    if floats - {_TENSOR_DTYPES[dtype]}:
        raise ForeignFormat(
            path,
            expected=f"floating-point tensors of {dtype} ({_TENSOR_DTYPES[dtype]})",
            found=", ".join(sorted(floats)),
            fix="save the model in the precision that the manifest declares",
        )


def refuse_unknown(folder: Path, manifest: Manifest) -> None:
    """Refuse every file or folder in a bundle that its manifest does not name, and every link.

    Allowed beside them are the manifest's signature and the exports in `engines/`, which have manifests of their own:
    see `model_store.engines.export_manifest`.
    """
    files = {MANIFEST_NAME, MANIFEST_NAME + SUFFIX, *manifest.files, *manifest.report}
    folders = {*manifest.components, *((REPORT,) if manifest.report else ())}
    for path in _walk(folder):
        if path.relative_to(folder).parts[0] == EXPORTS and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        _refuse_link(path)
        known = name in (folders if path.is_dir() else files)
        if not known:
            raise UnknownFile(
                path,
                expected="only files that the manifest names",
                found=f"{'folder' if path.is_dir() else 'file'} {name!r}",
                fix="move it out of the bundle; a bundle is never changed after it was published",
            )


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def check_hash(path: Path, found: FileEntry, expected: FileEntry) -> None:
    """Check that a file is what the manifest says, to the byte."""
    if found != expected:
        raise HashMismatch(
            path,
            expected=f"SHA-256 {expected.sha256} of {expected.bytes} bytes",
            found=f"{found.sha256} of {found.bytes} bytes",
            fix=REPUBLISH,
        )


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise SymlinkFound(
            path,
            expected="a file or folder of its own",
            found=f"a symbolic link to {os.readlink(path)}",
            fix="copy what it points to into the bundle and publish again",
        )


def require_file(path: Path, expected: str, fix: str) -> None:
    """Check that a file is there, and no link; `expected` and `fix` are for the error if it is not."""
    _refuse_link(path)
    if not path.exists():
        raise MissingFile(path, expected=expected, found="nothing", fix=fix)
    if not path.is_file():
        raise MissingFile(path, expected=expected, found="a folder or device", fix=fix)


def read_json_bytes(path: Path, refusal: type[BundleError]) -> bytes:
    """Return the content of a JSON file.

    Raises:
        BundleError: of the class `refusal`, if the file is too large to be one.
    """
    if (size := path.lstat().st_size) > MAX_JSON_BYTES:
        raise refusal(path, expected=f"at most {MAX_JSON_BYTES} bytes", found=f"{size} bytes", fix="publish it again")
    return path.read_bytes()

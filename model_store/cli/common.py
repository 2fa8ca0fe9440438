"""Shared by the commands: errors as one sentence, which store a command works on, a new bundle's folder. No torch."""

from __future__ import annotations

import errno
import getpass
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from model_store.bundle_lookup import find_bundle
from model_store.errors import BundleError, StoreError
from model_store.manifest import check_name
from model_store.signing import TrustedKeys
from model_store.store import SHIPPED_BUNDLES, Store

Number = TypeVar("Number", int, float)


_KINDS: tuple[tuple[type[OSError], str], ...] = (
    (FileExistsError, "a file of this name exists already"),
    (NotADirectoryError, "a file is there, where a folder is needed"),
    (IsADirectoryError, "a folder is there, where a file is needed"),
    (FileNotFoundError, "there is no such file or folder"),
    (PermissionError, "this user may not read or write it"),
)


def in_words(reason: object) -> str:
    """Return an error as a sentence; one of the operating system with the file or folder that it is about."""
    if not isinstance(reason, OSError) or reason.filename is None:
        return str(reason)
    return f"{os.fsdecode(reason.filename)}: {what_is_wrong(reason)}"


def what_is_wrong(error: Exception) -> str:
    """Return what is wrong with a file or folder that was named already."""
    return next((text for kind, text in _KINDS if isinstance(error, kind)), str(error))


def give_up(reason: object) -> NoReturn:
    """End the command with this sentence and exit status 1; 2 is for a call that is not understood."""
    typer.secho(f"glad: {in_words(reason)}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


@contextmanager
def explained(*others: type[Exception]) -> Iterator[None]:
    """Report errors that a user can put right as a sentence, not as a traceback, and end the command.

    These are the errors of a store, a bundle or the disk, and `others`.
    """
    reported: tuple[type[Exception], ...] = (StoreError, BundleError, OSError, *others)
    try:
        yield
    except reported as error:
        give_up(error)


def command_line() -> str:
    """Return the command as it was called, for provenance and reports: what is not UTF-8 in it is escaped."""
    return "glad " + os.fsencode(shlex.join(sys.argv[1:])).decode(errors="backslashreplace")


def user_name() -> str:
    """Return the name of the user that runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return f"uid {os.getuid()}"


def new_bundle_folder(out: Path, product: str, version: str) -> Path:
    """Return OUT/PRODUCT/VERSION for a new bundle.

    Raises:
        ValueError: if a name is not allowed, or the folder exists.
        OSError: if it could not be made, which is told before the long work and not after it.
    """
    folder = out / _name_of("--product", product) / _name_of("--version", version)
    if folder.exists():
        raise ValueError(f"{folder} exists already, and bundles never change: give --version another name")
    lowest = next(above for above in folder.parents if above.exists())
    if not lowest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(lowest))
    if not os.access(lowest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "may not be written", str(lowest))
    return folder


def _name_of(option: str, name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def version_of_now() -> str:
    """Return a version's name by the time in UTC, such as 20261123-2359."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M}"


def numbers(option: str, text: str, kind: type[Number]) -> tuple[Number, ...] | None:
    """Return the numbers of a text such as `300,400,500`, ascending, each once; None for an empty one.

    Raises:
        ValueError: if the text is anything else.
    """
    if not text:
        return None
    try:
        return tuple(sorted({kind(part) for part in text.split(",")}))
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}: give numbers separated by commas, such as 300,400,500") from error


StoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--store", file_okay=False, envvar="GLAD_STORE", help="The store's folder. Default: the data folder's `store`."
    ),
]
DataFolder = Annotated[
    Path,
    typer.Option(
        "--data-dir", file_okay=False, envvar="GLAD_DATA_DIR", help="Holds the store unless --store is given."
    ),
]

DEFAULT_DATA_FOLDER = Path("~/.local/state/glad")


def chosen_store(store: Path | None, data_dir: Path) -> Store:
    """Return the store of these options, over the shipped bundles; signed ones alone if GLAD_BUNDLE_KEYS is set."""
    root = (store or data_dir / "store").expanduser()
    return Store(root, shipped=SHIPPED_BUNDLES, keys=keys_of_environment(), records=False)


def find_store(store: str | Path | None = None) -> Store:
    """Return the store in a folder; None: the one that GLAD_STORE or GLAD_DATA_DIR name, or the default one."""
    given = store or os.environ.get("GLAD_STORE")
    data_folder = Path(os.environ.get("GLAD_DATA_DIR", DEFAULT_DATA_FOLDER))
    return chosen_store(None if given is None else Path(given), data_folder)


def bundle_folder(given: str, store: Path | None = None) -> Path:
    """Return the folder of a bundle that was named as `find_bundle` takes it.

    Raises:
        StoreError, BundleError: if there is none.
    """
    return find_bundle(given, find_store(store)).ref.path


def own_bundle_folder(given: str, store: Path | None = None) -> Path:
    """As `bundle_folder`, of a bundle that is added to: of one that comes with the package, the store gets a copy."""
    opened = find_store(store)
    found = find_bundle(given, opened)
    return (opened.own_copy(found.ref) if found.in_store else found.ref).path


def parsed_bundle(given: str) -> Path:
    """Return the folder of a bundle, as a parser of arguments and options: a wrong one is a call not understood."""
    try:
        return bundle_folder(given)
    except (StoreError, BundleError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


BundleName = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A product's name, PRODUCT/VERSION, or a bundle's folder.")
]
BundleFolder = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        parser=parsed_bundle,
        help="A product's name, PRODUCT/VERSION, or a bundle's folder. The store is that of GLAD_STORE.",
    ),
]
"""For commands without --store."""
_BUNDLES = typer.Option(
    "--bundle",
    metavar="BUNDLE",
    parser=parsed_bundle,
    help="PRODUCT, PRODUCT/VERSION, or a bundle's folder; repeatable.",
)
BundleFolders = Annotated[list[Path] | None, _BUNDLES]
RequiredBundleFolders = Annotated[list[Path], _BUNDLES]


def keys_of_environment() -> TrustedKeys:
    """Return the keys of GLAD_BUNDLE_KEYS, those that the service on this machine would trust."""
    try:
        return TrustedKeys.from_text(os.environ.get("GLAD_BUNDLE_KEYS", ""))
    except ValueError as error:
        raise typer.BadParameter(f"GLAD_BUNDLE_KEYS: {error}") from error

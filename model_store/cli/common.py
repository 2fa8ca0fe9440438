"""What the commands share: an error as one sentence, the words of the call, a new bundle's place. No torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypeVar

import typer

from model_store.errors import BundleError, StoreError
from model_store.manifest import check_name

Number = TypeVar("Number", int, float)


def give_up(reason: object) -> NoReturn:
    """Ends the command with this sentence and exit status 1; 2 is for words that are no call at all."""
    typer.secho(f"glad: {reason}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


@contextmanager
def explained(*others: type[Exception]) -> Iterator[None]:
    """What a user can put right is a sentence, not a traceback: what a store, a bundle or the disk refuses, and
    `others`."""
    told: tuple[type[Exception], ...] = (StoreError, BundleError, OSError, *others)
    try:
        yield
    except told as error:
        give_up(error)


def command_line() -> str:
    """The command as it was called, for provenance and reports."""
    return "glad " + shlex.join(sys.argv[1:])


def new_bundle_folder(out: Path, product: str, version: str) -> Path:
    """OUT/PRODUCT/VERSION for a new bundle; ValueError where a name is not allowed or the place is taken."""
    folder = out / check_name(product) / check_name(version)
    if folder.exists():
        raise ValueError(f"{folder} exists already, and bundles never change: give --version another name")
    return folder


def version_of_now() -> str:
    """A version's name by the time in UTC, such as 20261123-2359."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M}"


def numbers(option: str, given: str, kind: type[Number]) -> tuple[Number, ...] | None:
    """`300,400,500` -> numbers in ascending order, each once; None for nothing given; else ValueError."""
    if not given:
        return None
    try:
        return tuple(sorted({kind(part) for part in given.split(",")}))
    except ValueError as error:
        raise ValueError(f"{option} is {given!r}: give numbers separated by commas, such as 300,400,500") from error

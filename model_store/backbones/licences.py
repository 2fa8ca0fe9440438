"""The licence of pretrained weights, as their package, model card or LICENSE file states it. Nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from pathlib import Path

_TEXTS = {
    "Apache-2.0": r"Apache (Software )?License,? (Version )?2\.0",
    "MIT": r"MIT License|Permission is hereby granted, free of charge",
    "BSD-3-Clause": r"BSD 3-Clause|Neither the name of .* nor the names of its contributors",
}
"""SPDX name -> words by which the text of a licence is known."""
_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
_UNSTATED = {"", "unknown", "other"}
_LONGEST_NAME = 80
"""Characters; what is longer is the text of a licence, not its name."""


def licence_of_package(distribution: Distribution) -> str | None:
    """Return the licence in a package's metadata, or that of its LICENSE file; None if it states none."""
    fields = distribution.metadata.get_all
    classifiers = [line.split(" :: ")[-1] for line in fields("Classifier", []) if line.startswith("License ::")]
    return _first((*fields("License-Expression", []), *fields("License", []), *classifiers, *_texts_of(distribution)))


def licence_of_folder(folder: Path) -> str | None:
    """Return the licence in the model card (README.md) of a folder, or that of its LICENSE file; None if there is none.

    A card that says `other` names the licence in `license_name`.
    """
    from huggingface_hub.repocard import metadata_load  # half a second, which a worker need not wait

    card = folder / "README.md"
    about = (metadata_load(card) or {}) if card.is_file() else {}
    return _first((about.get("license"), about.get("license_name"), *(_content(folder / name) for name in _FILES)))


def _texts_of(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        if file.name in _FILES and ".dist-info" in file.parts[0]:
            yield _content(Path(str(distribution.locate_file(file))))


def _content(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _first(stated: Iterable[object]) -> str | None:
    """Return the first statement that says something, by a short name."""
    names = (_short_name(" ".join(text.split())) for text in stated if isinstance(text, str))
    return next((name for name in names if name.lower() not in _UNSTATED), None)


def _short_name(text: str) -> str:
    """Return a licence's name as it is, or the name of the licence whose whole text this is; else an empty text."""
    if len(text) <= _LONGEST_NAME:
        return text
    return next((name for name, words in _TEXTS.items() if re.search(words, text)), "")

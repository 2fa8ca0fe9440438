"""What bundles of one store have in common lies on disk once: equal files are hard links. No torch.

Fifteen products of one multi-class model would otherwise keep fifteen copies of one UNet. It is safe because bundles
never change, and because removing one removes its own links only: the content stays as long as any bundle has it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from model_store.files import copy_file, hash_file
from model_store.manifest import MANIFEST_NAME, FileEntry, Manifest

Held = Mapping[FileEntry, Sequence[Path]]
"""Content -> where a store has it, according to its manifests."""


def held_files(root: Path) -> Held:
    """Every file of every readable bundle `<root>/<product>/<version>`. Reads manifests only."""
    held: dict[FileEntry, list[Path]] = {}
    for path in sorted(root.glob(f"[!.]*/[!.]*/{MANIFEST_NAME}")):
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):  # the store tells of it; here it only has nothing to give
            continue
        for name, entry in manifest.files.items():
            held.setdefault(entry, []).append(path.parent / name)
    return held


def link_or_copy(source: Path, target: Path, entry: FileEntry, held: Held) -> FileEntry:
    """Makes `target`: a hard link to a held file with exactly these bytes, else a copy; returns what it holds."""
    if any(_linked(present, target, entry) for present in held.get(entry, ())):
        return entry
    return copy_file(source, target)


def _linked(present: Path, target: Path, entry: FileEntry) -> bool:
    try:
        os.link(present, target, follow_symlinks=False)
    except OSError:  # another file system, one without links, too many of them, or the file is gone
        return False
    try:
        # The link is hashed, not the path that it was made from: nobody can exchange the file in between.
        whole = hash_file(target) == entry
    except OSError:  # a symlink, or unreadable
        whole = False
    if not whole:
        target.unlink()
    return whole

"""Bundles made from bundles: other versions, and spoilt ones whose manifest agrees with the damage. No torch."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from model_store.bundle import Bundle, BundleParts, open_bundle, write_bundle
from model_store.files import hash_file
from model_store.manifest import MANIFEST_NAME, Manifest


def parts_of(manifest: Manifest, **changes: Any) -> BundleParts:
    """What the manifest says besides its files, with some of it changed."""
    fields = {name: getattr(manifest, name) for name in BundleParts.__dataclass_fields__}
    return BundleParts(**{**fields, **changes})


def new_version(source: Path, target: Path, *, created_at: datetime | None = None, **changes: Any) -> Bundle:
    """The same weights under the version that `target` is named after."""
    bundle = open_bundle(source)
    provenance = bundle.manifest.provenance
    if created_at is not None:
        provenance = provenance.model_copy(update={"created_at": created_at})
    changes = {"product": target.parent.name, "version": target.name, "provenance": provenance, **changes}
    return write_bundle(target, parts_of(bundle.manifest, **changes), bundle.sources())


def agree(folder: Path) -> None:
    """Rewrites the manifest so that it names every file as it lies there: what a careful forger would do."""
    path = folder / MANIFEST_NAME
    content = json.loads(path.read_bytes())
    for name, component in content["components"].items():
        component["files"] = {
            file.relative_to(folder).as_posix(): hash_file(file).model_dump()
            for file in sorted((folder / name).iterdir())
        }
    path.write_text(json.dumps(content, indent=2) + "\n")

"""`glad gate`: a quality gate for a bundle, as a new version of it. No weight, setting or threshold changes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from model_store.bundle import Bundle, BundleParts, open_bundle, write_bundle
from model_store.manifest import Provenance
from training.calibration.recalibrate import recipe_of
from training.data.dataset import Split, good_split
from training.progress import Progress
from training.quality_gate import learn_gate


def regate(
    folder: Path, data: Path, target: Path, *, command: str, progress: Progress, workers: int | None = None
) -> Bundle:
    """Learn the gate from good images (see `training.data.dataset`) and write the bundle with it to `target`.

    DataError, BundleError or ValueError before anything long begins.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    recipe, _, seed = recipe_of(manifest.provenance)
    split = good_split(data, recipe.holdout, seed)
    learned = learn_gate(split, manifest.settings, progress=partial(progress, "quality gate"), workers=workers)
    parts = BundleParts(
        manifest.product,
        target.name,
        manifest.settings,
        manifest.calibration,
        _origin(bundle, data, split, command),
        title=manifest.title,
        quality={**manifest.quality, "gate": learned.report},
        gate=learned.gate,
    )
    return write_bundle(target, parts, bundle.sources())


def _origin(bundle: Bundle, data: Path, split: Split, command: str) -> Provenance:
    """The bundle's own origin, with where its gate is from."""
    own = bundle.manifest.provenance
    about = {
        **own.data,
        "gate_learned_on": {"folder": data.name, "images": len(split.train) + len(split.calibration)},
        "before_the_gate": {"hash": bundle.hash, "command": own.command},
    }
    changed = {"created_at": datetime.now(UTC).replace(microsecond=0), "command": command, "data": about}
    return own.model_copy(update=changed)

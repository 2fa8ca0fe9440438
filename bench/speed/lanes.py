"""Images through a worker's device loop, without queue, codec threads and HTTP: its Scheduler and its Runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glad.comparator import ImageComparator
from glad.protocols import Models
from model_store.bundle import Bundle
from service.settings import Settings
from service.worker.bundle_cache import LoadedBundle
from service.worker.picture_codec import Prepared, prepare
from service.worker.runner import Inspected, Runner
from service.worker.scheduler import Scheduler, Turn


def loaded_bundle(bundle: Bundle, models: Models) -> LoadedBundle:
    """Return a bundle as a worker holds it, on these models."""
    return LoadedBundle(
        hash=bundle.hash,
        manifest=bundle.manifest,
        models=models,
        comparator=ImageComparator(models.autoencoder, models.features),
        engine="",
        group="all",
    )


def prepared_images(files: Sequence[bytes], bundle: LoadedBundle) -> dict[str, Prepared]:
    """Return image files as a worker's lanes need them, by their number.

    Raises:
        ImageError: if an image cannot be inspected.
    """
    most = Settings.model_fields["max_pixels"].default
    return {str(number): prepare(data, bundle, most) for number, data in enumerate(files)}


def in_lanes(images: Mapping[str, Prepared], device: str, lanes: int) -> dict[str, Inspected]:
    """Inspect every image, at most `lanes` tiles at a time; an error that a model raises for one image ends all."""
    scheduler, runner = Scheduler(lanes, buffer=len(images), leaving=len(images)), Runner(device, lanes)
    for name, image in images.items():
        scheduler.claimed(name)
        scheduler.prepared(name, image.bundle.group, len(image.framed.tiles))
    found: dict[str, Inspected] = {}
    while not scheduler.empty:
        for name in scheduler.admit():
            runner.admit(name, images[name])
        turn = scheduler.turn()
        assert turn is not None, "images that are not done are walking"
        for name in _stepped(runner, scheduler, turn):
            found[name] = runner.finish(name)
            runner.release(name)
            scheduler.gone(name)
    return found


def _stepped(runner: Runner, scheduler: Scheduler, turn: Turn) -> tuple[str, ...]:
    """Take one step; return the jobs that are finished by it."""
    stepped = runner.step(turn.group, turn.jobs)
    for error in stepped.failed.values():
        raise error
    for name in stepped.freed:
        scheduler.freed(name)
    return stepped.finished

"""Images through a worker's device loop, without queue, codec threads and HTTP: its Scheduler and its Runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glad.models import Models
from model_store.bundle import Bundle
from service.settings import Settings
from service.worker.bundle_cache import LoadedBundle
from service.worker.picture_codec import PreparedInspection, prepare_inspection
from service.worker.runner import DeviceResult, Runner
from service.worker.scheduler import Scheduler, Turn


def loaded_bundle(bundle: Bundle, models: Models) -> LoadedBundle:
    """Return a bundle as a worker holds it, on these models."""
    return LoadedBundle(
        hash=bundle.hash,
        manifest=bundle.manifest,
        models=models,
        engine="",
        group="all",
    )


def prepared_images(files: Sequence[bytes], bundle: LoadedBundle) -> dict[str, PreparedInspection]:
    """Return image files as a worker's lanes need them, by their number.

    Raises:
        ImageError: if an image cannot be inspected.
    """
    most = Settings.model_fields["max_pixels"].default
    return {str(number): prepare_inspection(data, bundle, most) for number, data in enumerate(files)}


def in_lanes(images: Mapping[str, PreparedInspection], device: str, lanes: int) -> dict[str, DeviceResult]:
    """Inspect every image, at most `lanes` tiles at a time; an error that a model raises for one image ends all."""
    scheduler, runner = Scheduler(lanes, buffer=len(images), storing=len(images)), Runner(device, lanes)
    for name, image in images.items():
        scheduler.add(name)
        scheduler.mark_ready(name, image.bundle.group, len(image.framed.tiles))
    found: dict[str, DeviceResult] = {}
    while not scheduler.empty:
        while (admitted := scheduler.assign_lane()) is not None:
            runner.start_tile(admitted, images[admitted])
        turn = scheduler.next_turn()
        assert turn is not None, "images that are not done are walking"
        for finished in _stepped(runner, scheduler, turn):
            found[finished] = runner.finish(finished)
            runner.release(finished)
            scheduler.remove(finished)
    return found


def _stepped(runner: Runner, scheduler: Scheduler, turn: Turn) -> tuple[str, ...]:
    """Take one step; return the jobs that are finished by it."""
    stepped = runner.step(turn.group, turn.jobs)
    for error in stepped.failed.values():
        raise error
    for name in stepped.freed:
        scheduler.free_lane(name)
    return stepped.finished

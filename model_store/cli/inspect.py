"""`glad inspect`: verdicts and pictures of image files, without a server. Torch is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glad.quality_gate.limits import QualityGate
from model_store.bundle import Bundle, open_bundle
from model_store.cli.common import DEFAULT_DATA_FOLDER, DataFolder, StoreFolder, chosen_store, explained
from model_store.compatibility import ModelsDoNotFit
from model_store.manifest import MANIFEST_NAME, Verdict, VerdictThresholds
from model_store.store import Store


def inspect(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or a product's name.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files: JPEG, PNG, BMP, TIFF, WebP.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for one picture per image.")] = Path("inspected"),
    overview: Annotated[Path | None, typer.Option(help="Also all images in one PNG, two abreast.")] = None,
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Inspect image files without a server: verdicts and pictures; ends with 1 if any file could not be inspected."""
    from glad.image_codec import ImageError, decode_image, to_png
    from glad.quality_gate.measure import find_unfit, measure_quality
    from model_store.engines.engine_spec import offline_engine_spec
    from model_store.engines.loading import device_of_environment, load
    from model_store.errors import ModelLoadError
    from model_store.inspection import inspect as inspect_images
    from model_store.inspection import overview as draw_overview
    from model_store.inspection import sheet

    with explained(ModelLoadError, ModelsDoNotFit, ValueError):
        opened, limits, gate = _open_for_inspection(bundle, chosen_store(store, data_dir))
        device = device_of_environment()
        loaded = load(opened, device, offline_engine_spec())
        out.mkdir(parents=True, exist_ok=True)
    settings = opened.manifest.settings
    typer.echo(f"{opened.manifest.product} {opened.manifest.version}: review from {limits.review:.4f}, ", nl=False)
    typer.echo(f"fail from {limits.fail:.4f}; engine {loaded.engine}")
    inspected, failed = [], 0
    for number, path in enumerate(images, start=1):
        try:
            pixels = decode_image(path.read_bytes()).pixels
            if gate is not None and (unfit := find_unfit(gate, measure_quality(pixels, settings))):
                _print_verdict(Verdict.REVIEW, f"not inspected: {'; '.join(one.detail for one in unfit)}  {path}")
                continue
            (result,) = inspect_images([pixels], loaded.models, settings, device=device)
            verdict = limits.verdict(result.score)
            picture = out / f"{number:03d}_{path.stem}.png"
            picture.write_bytes(to_png(sheet(result, limits)))
        except (ImageError, OSError, ValueError) as error:
            failed += 1
            typer.secho(f"{'error':<7} {path}: {error}", fg=typer.colors.RED, err=True)
            continue
        if overview is not None:
            inspected.append(result)
        step = result.lane.denoising_step if result.lane.walked else "none"  # clear at its first reading
        _print_verdict(verdict, f"score {result.score:8.4f}  step {step:>4}  {path}  -> {picture}")
    if overview is not None and inspected:
        with explained():
            overview.write_bytes(to_png(draw_overview(inspected, limits)))
    if failed:
        raise typer.Exit(1)


def _print_verdict(verdict: Verdict, details: str) -> None:
    colours = {Verdict.PASS: typer.colors.GREEN, Verdict.REVIEW: typer.colors.YELLOW, Verdict.FAIL: typer.colors.RED}
    typer.secho(f"{verdict:<7}", fg=colours[verdict], nl=False)
    typer.echo(f" {details}")


def _open_for_inspection(bundle: str, store: Store) -> tuple[Bundle, VerdictThresholds, QualityGate | None]:
    """Return the bundle with the thresholds and the quality gate in force.

    Those of a folder are its own; those of a product of the store are the service's: with overrides of its thresholds,
    and without the quality gate where that is switched off.
    """
    folder = Path(bundle)
    if (folder / MANIFEST_NAME).is_file():
        opened = open_bundle(folder)
        return opened, opened.manifest.thresholds, opened.manifest.gate
    ref = store.resolve(bundle)
    return ref.open(), store.thresholds(ref), ref.manifest.gate if store.gated(ref) else None

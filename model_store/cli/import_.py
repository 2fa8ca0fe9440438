"""`glad bundle import`: published models become a bundle that `glad calibrate` can calibrate."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from model_store.cli.common import command_line, explained, new_bundle_folder
from model_store.manifest import Dtype

if TYPE_CHECKING:
    from glad.settings.presets import Preset


def import_command(
    *,
    base: Annotated[str, typer.Option(help="Stable Diffusion 1.x: a folder in Hugging Face layout, or a hub id.")],
    dino: Annotated[str, typer.Option(help="DINO's ViT: a folder in Hugging Face layout, or a hub id.")],
    product: Annotated[str, typer.Option(help="The product's name.")],
    licence: Annotated[str, typer.Option(help="Under which licences the models stand; kept in the manifest.")],
    unet: Annotated[
        Path | None,
        typer.Option(exists=True, help="Fine-tuned UNet: .bin or .safetensors in diffusers' names, or its folder."),
    ] = None,
    vae: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Fine-tuned autoencoder: names of LDM (.ckpt) or of diffusers, or its folder; or that of a small one.",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(exists=True, help="Fine-tuned DINO: names of timm (.pth) or of transformers, or its folder."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Published settings, such as mvtec-ad/carpet.")] = "",
    settings: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Settings of the method as JSON, instead.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="What the UNet was fine-tuned to be told. Default: the preset's.")] = "",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "imported",
    title: Annotated[str, typer.Option(help="What people call the product.")] = "",
    dtype: Annotated[str, typer.Option(help=f"Precision on disk: {', '.join(get_args(Dtype))}.")] = "float16",
    out: Annotated[Path, typer.Option(file_okay=False, help="The bundle becomes OUT/PRODUCT/VERSION.")] = Path(
        "bundles"
    ),
) -> None:
    """Make a bundle of published models: Stable Diffusion 1.x and DINO, with fine-tuned checkpoints in their place.

    Example: glad bundle import --base sd15 --dino dino-vitb8 --product carpet --licence MIT --preset mvtec-ad/carpet
    """
    if (preset == "") == (settings is None):
        raise typer.BadParameter("give the method's settings: either --preset or --settings")
    if dtype not in get_args(Dtype):
        raise typer.BadParameter(f"dtype is {dtype!r}; use one of {', '.join(get_args(Dtype))}")
    from model_store.importing.bundle import ImportSpec, Origins, import_bundle

    with explained(ValueError):
        chosen = _chosen(preset, settings)
        target = new_bundle_folder(out, product, version)
        spec = ImportSpec(
            product, version, chosen.settings, prompt or chosen.prompt, licence, title=title, dtype=_dtype(dtype)
        )
        with _stages() as say:
            origins = Origins(base, dino, unet=unet, vae=vae, features=features)
            made = import_bundle(target, origins, spec, command=command_line(), say=say)
    typer.echo(f"{made.path}  hash {made.hash[:12]}  not calibrated yet")
    typer.echo(f"next: {shlex.join(['glad', 'calibrate', str(target)])} --data DIR")


def _chosen(preset: str, settings: Path | None) -> Preset:
    from glad.settings.method import MethodSettings
    from glad.settings.presets import PROMPT, Preset
    from glad.settings.presets import preset as find_preset

    if settings is None:
        return find_preset(preset)
    return Preset(settings.name, MethodSettings.model_validate_json(settings.read_bytes()), PROMPT)


def _dtype(name: str) -> Dtype:
    return next(known for known in get_args(Dtype) if known == name)


@contextmanager
def _stages() -> Iterator[Callable[[str], None]]:
    """Show a bar that moves on as each stage begins; its clock shows that gigabytes are being read."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from model_store.importing.bundle import STAGES

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("importing", total=len(STAGES))

        def say(stage: str) -> None:
            bar.update(task, description=stage, completed=STAGES.index(stage))

        yield say
        bar.update(task, description="done", completed=len(STAGES))

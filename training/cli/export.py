"""`glad export`. Imports its needs when it is called."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from model_store.cli.common import BundleName, StoreFolder, command_line, explained, own_bundle_folder
from model_store.engines.engine_spec import NAMED_COMPONENTS
from model_store.engines.export_manifest import PARTS
from training.cli.data import images_folder

if TYPE_CHECKING:
    from model_store.engines.onnx import Provider

SHOWN = 12
"""Problems parity_sentence on the terminal; the report has all."""
PRECISIONS = {"onnx": ("float32", "float16", "int8"), "tensorrt": ("float32", "float16", "bfloat16")}
PROVIDERS = ("cpu", "openvino", "cuda", "tensorrt")


def export(
    bundle: BundleName,
    *,
    to: Annotated[Literal["onnx", "tensorrt"], typer.Option(help="The engine. TensorRT: for the GPU of this machine.")],
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Good images, arranged as for `glad train`: equality is shown on them.",
        ),
    ],
    precision: Annotated[
        str,
        typer.Option(
            help="Such as float32,float16,int8; TensorRT: bfloat16, no int8. Default: float32; on a GPU float16 too."
        ),
    ] = "",
    provider: Annotated[
        str,
        typer.Option(
            help="What runs ONNX files: cpu, cuda, tensorrt, openvino; several with commas. Default: the device's."
        ),
    ] = "",
    keep_float32: Annotated[
        str, typer.Option(help=f"Models that stay float32 in every precision, of {', '.join(PARTS)}.")
    ] = "",
    components: Annotated[
        str,
        typer.Option(
            help=f"Only these, of {', '.join(NAMED_COMPONENTS)}; PyTorch runs the others beside them. Default: all."
        ),
    ] = "",
    lanes: Annotated[
        int, typer.Option(min=1, max=256, envvar="GLAD_LANES", help="TensorRT: the worker's lanes: batch sizes.")
    ] = 16,
    images: Annotated[int, typer.Option(min=2, help="Good images to compare on, and as many with an anomaly.")] = 20,
    tolerance: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Another limit; again for more.")
    ] = None,
    report: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for parity.json and its pages, passed or not.")
    ] = Path("parity"),
    seed: Annotated[int, typer.Option(help="Of the synthetic anomalies.")] = 0,
    store: StoreFolder = None,
) -> None:
    """Export a bundle's models for a faster engine, compared with its own weights; over tolerance none is published.

    The export becomes part of the bundle. Of a bundle that comes with the package, the store gets a copy first.

    Example: glad export bracket --to onnx --data my-product
    """
    from model_store.engines.loading import device_of_environment
    from training.export.make import BundleExportPlan, make_export
    from training.export.onnx import ExportFailed
    from training.export.published import parity_sentence
    from training.progress import named_bars

    with explained(ValueError, ExportFailed), named_bars() as show:
        device = device_of_environment()
        on_gpu = device != "cpu"
        plan = BundleExportPlan(
            engine=to,
            precisions=_chosen("precision", precision or ("float32,float16" if on_gpu else "float32"), PRECISIONS[to]),  # type: ignore[arg-type]
            providers=_providers(provider, to, device),
            exact=_chosen("keep-float32", keep_float32, PARTS) if keep_float32 else (),  # type: ignore[arg-type]
            components=_chosen("components", components, NAMED_COMPONENTS) if components else (),  # type: ignore[arg-type]
            lanes=lanes,
            images=images,
            tolerance=tuple(tolerance or ()),
            device=device,
            seed=seed,
        )
        folder = own_bundle_folder(bundle, store)
        made = make_export(folder, data, report, plan, command=command_line(), progress=show, say=typer.echo)
    for parity in made.parities:
        typer.echo(parity_sentence(parity))
    if made.folder is None:
        _tell_problems(made.problems, report)
        raise typer.Exit(1)
    typer.echo(f"{made.folder}: {to} export; the report: {report}")


def export_new_bundle(bundle: Path, data: Path, report: Path) -> None:
    """Export a bundle that was just trained for ONNX Runtime on this device, and say what came of it.

    The bundle is whole without: whatever fails is told with what to do, and PyTorch serves.

    Args:
        bundle: its folder.
        data: the good images that it was trained on.
        report: folder of the parity's report.
    """
    from training.export.make import export_for_this_device
    from training.export.onnx import ExportFailed
    from training.progress import named_bars

    again = shlex.join(["glad", "export", str(bundle), "--to", "onnx", "--data", str(data)])
    try:
        with named_bars() as show:
            made = export_for_this_device(bundle, data, report, command=command_line(), progress=show)
    except (ValueError, ExportFailed) as error:
        typer.secho(
            f"warning: no export for ONNX Runtime, PyTorch serves: {error}. Again: {again}", fg="yellow", err=True
        )
        return
    if made.folder is None:
        _tell_problems(made.problems, report)
        return
    typer.echo(f"exported for ONNX Runtime, with equal verdicts; the report: {report}")


def _tell_problems(problems: tuple[str, ...], report: Path) -> None:
    for problem in problems[:SHOWN]:
        typer.secho(f"glad: {problem}", fg=typer.colors.RED, err=True)
    typer.secho(
        f"glad: not equal in {len(problems)} places, so nothing was published; all of them: {report}. What exceeds its "
        "limit in one model may stay float32: --keep-float32 MODEL",
        fg=typer.colors.RED,
        err=True,
    )


def _chosen(option: str, given: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(given.split(",")))
    if unknown := [name for name in names if name not in allowed]:
        raise ValueError(
            f"--{option} is {given!r}: {', '.join(unknown)} is not available; choose from {', '.join(allowed)}"
        )
    return names


def _providers(given: str, engine: str, device: str) -> tuple[Provider, ...]:
    """Return the providers to compare.

    Raises:
        ValueError: for providers of TensorRT's own engines, and for those of another kind of device.
    """
    if given and engine != "onnx":
        raise ValueError(f"--provider is {given!r}, and --to is {engine}: only ONNX files have providers; leave it out")
    kind = device.partition(":")[0]
    allowed = ("cpu", "openvino") if kind == "cpu" else ("cuda", "tensorrt")
    names = _chosen("provider", given or kind, PROVIDERS)
    if foreign := [name for name in names if name not in allowed]:
        raise ValueError(
            f"--provider is {given!r}, and the device is {device!r}: {', '.join(foreign)} runs on another; choose from "
            f"{', '.join(allowed)}, or set GLAD_DEVICE"
        )
    return names  # type: ignore[return-value]

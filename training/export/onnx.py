"""A bundle's models as ONNX files: dynamic batch, fixed resolution, a time step per sample, float32 in and out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from model_store.engines.export_manifest import ExportedPart, Part, Precision
from model_store.files import hash_file
from training.export.lower_precision import in_bfloat16, in_float16, write_quantised

OPSET = 20
PROTOBUF_LIMIT = 2_000_000_000
"""Bytes of weights from which they lie beside the ONNX file, which itself may not pass 2 GB."""
TRAINED_BATCH = 2
"""Batch of the example that is traced: any but one, which exporters take for a constant."""
LEFTOVERS = frozenset({"Dropout", "BatchNormalization"})


class ExportFailed(Exception):
    """A model that does not become a sound ONNX file; says which, and why."""


@dataclass(frozen=True)
class Piece:
    """A model to export: its module, and an example of its inputs."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]


def export_onnx(
    pieces: Mapping[Part, Piece],
    folder: Path,
    precisions: Sequence[Precision],
    *,
    exact: Collection[Part] = (),
    samples: Callable[[Part], Sequence[Mapping[str, Tensor]]],
    say: Callable[[str], None],
) -> tuple[ExportedPart, ...]:
    """Write every model in every precision to `folder`, each checked by onnx.

    Args:
        pieces: on the CPU, in float32.
        exact: parts that stay float32 in every precision.
        samples: returns inputs of a part as inference gives them, from which int8 learns its ranges.
        say: called with a line for each file.

    Raises:
        ExportFailed: if a model does not become a sound ONNX file.
    """
    made = []
    for part, piece in pieces.items():
        source = folder / f"{part}.float32.onnx"
        write_onnx(piece, source)
        for precision in precisions:
            file = source if part in exact else folder / f"{part}.{precision}.onnx"
            if file != source:
                _write_in(precision, source, file, partial(samples, part))
            made.append(exported(part, precision, file))
            say(f"{file.name}: {sum(entry.bytes for entry in made[-1].files.values()) / 1e6:.1f} MB")
        if source.name not in {one.file for one in made}:
            for path in _files_of(source):
                path.unlink()
    return tuple(made)


def _write_in(
    precision: Precision, source: Path, file: Path, samples: Callable[[], Sequence[Mapping[str, Tensor]]]
) -> None:
    if precision == "int8":
        write_quantised(source, file, samples())
    else:
        write_half(source, file, precision)


def exported(part: Part, precision: Precision, file: Path) -> ExportedPart:
    """Return the entry of a written file, and of its external data if there is any, in the export's manifest."""
    return ExportedPart(
        part=part,
        precision=precision,
        file=file.name,
        files={path.name: hash_file(path) for path in _files_of(file)},
    )


def write_onnx(piece: Piece, file: Path) -> None:
    """Trace one model and write it in float32.

    Raises:
        ExportFailed: if the result is not sound ONNX.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in piece.module.state_dict().values())
    names = tuple(piece.inputs)
    try:
        with _quietly(), torch.no_grad():
            torch.onnx.export(
                piece.module.eval(),
                tuple(piece.inputs.values()),
                file,
                input_names=names,
                output_names=piece.outputs,
                dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in names),
                opset_version=OPSET,
                external_data=weights > PROTOBUF_LIMIT,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever a model happens to break
        raise ExportFailed(f"{file.stem}: torch cannot export it: {str(error).splitlines()[0]}") from error
    _tidy(file)
    check(file)


def write_half(exact: Path, file: Path, precision: Precision) -> None:
    """Write a float32 file in float16 or bfloat16; see `training.export.lower_precision`.

    Raises:
        ExportFailed: if the result is not sound ONNX.
    """
    with _quietly():
        model = (in_bfloat16 if precision == "bfloat16" else in_float16)(exact)
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > PROTOBUF_LIMIT
    onnx.save(model, file, save_as_external_data=large, location=f"{file.name}.data")
    check(file)


def check(file: Path) -> None:
    """Check a file by onnx's own checker, for a dynamic batch everywhere, and for operators that only training needs.

    Raises:
        ExportFailed: if one of these does not hold.
    """
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed(f"{file.name} is not sound ONNX: {str(error).splitlines()[0]}") from error
    graph = onnx.load(file, load_external_data=False).graph
    if leftovers := sorted({node.op_type for node in graph.node} & LEFTOVERS):
        raise ExportFailed(f"{file.name} has {', '.join(leftovers)}: the model was exported in training mode")
    for value in (*graph.input, *graph.output):
        sizes = [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        if not isinstance(sizes[0], str) or any(isinstance(size, str) for size in sizes[1:]):
            raise ExportFailed(f"{file.name}: {value.name} has the shape {sizes}; only its batch may be open")


def _tidy(file: Path) -> None:
    """Remove what tells where the exporter ran: stack traces with local paths."""
    model = onnx.load(file, load_external_data=False)
    for holder in _holders(model):
        del holder.metadata_props[:]
        holder.doc_string = ""
    model.producer_version = ""
    file.write_bytes(model.SerializeToString(deterministic=True))


def _holders(model: Any) -> Iterator[Any]:
    yield model
    for graph in (model.graph, *model.functions):
        yield graph
        yield from graph.node
        yield from graph.value_info
    yield from (*model.graph.initializer, *model.graph.input, *model.graph.output)


def _files_of(file: Path) -> list[Path]:
    data = file.with_name(f"{file.name}.data")
    return [file, *([data] if data.exists() else [])]


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter's warnings of what it does not need: torchvision, deprecated calls of its own."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

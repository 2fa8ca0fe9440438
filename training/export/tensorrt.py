"""TensorRT engines from ONNX files.

The network is strongly typed: each tensor has the type that the file gives it, so that precision is decided once, in
the ONNX file, where normalisations and softmax can stay float32 and be seen to. The older way, builder flags such as
FP16 with constraints per layer, lets TensorRT choose types by speed, and is gone from TensorRT 11.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from glad.batching import BatchSizes
from model_store.engines.export_manifest import ExportedPart
from model_store.engines.tensorrt import GpuIdentity
from model_store.engines.tensorrt_protocols import (
    Builder,
    Config,
    Network,
    Parser,
    Profile,
    TensorRt,
    TimingCache,
    shape_of,
)
from model_store.files import hash_file, replace_file
from training.export.onnx import ExportFailed

TIMING_CACHE = "timing.cache"
"""TensorRT's measurements of kernels' speed on this device; lies beside the engines, and changes no answer."""


class BuildFailed(ExportFailed):
    """TensorRT could not make an engine of a file. Says which, and what TensorRT said."""


def build_engine(onnx: Path, target: Path, *, buckets: Sequence[int], timing_cache: Path, library: TensorRt) -> None:
    """Build `target` from `onnx` for the current device, with one optimisation profile per bucket.

    The caller records device and version beside the engine.

    Args:
        buckets: batch sizes, ascending.
        timing_cache: read where it exists, and written: it makes the next build on this device much faster. Its
            content changes no answer beyond the choice of kernels.

    Raises:
        BuildFailed: if the file does not parse, has a dynamic dimension other than the batch, or cannot be built.
    """
    logger = library.Logger()
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(onnx, library.OnnxParser(network, logger))
    config = builder.create_builder_config()
    # TF32 keeps 10 bits of a float32's 23: what the file keeps in float32 would not be.
    config.clear_flag(library.BuilderFlag.TF32)
    for bucket in buckets:
        config.add_optimization_profile(_profile(builder, network, bucket, onnx))
    cache = _timing_cache(config, timing_cache)  # kept until the engine is built
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BuildFailed(f"TensorRT {library.__version__} built no engine from {onnx}: its log above says why")
    replace_file(target, bytes(engine))
    replace_file(timing_cache, bytes(cache.serialize()))


def _parse(onnx: Path, parser: Parser) -> None:
    """Parse the file by its path, not from its bytes, because external data lies beside it."""
    if not parser.parse_from_file(str(onnx)):
        problems = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise BuildFailed(f"{onnx} does not parse in TensorRT: {problems or 'no error was given'}")


def _profile(builder: Builder, network: Network, bucket: int, onnx: Path) -> Profile:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        given = network.get_input(index)
        batch, *rest = shape_of(given.shape)
        if batch != -1 or -1 in rest:
            raise BuildFailed(
                f"{given.name} of {onnx} has shape {(batch, *rest)}; the batch alone must be dynamic (-1): "
                "export the file with a dynamic batch at the bundle's resolution"
            )
        shape = (bucket, *rest)
        profile.set_shape(given.name, shape, shape, shape)
    return profile


def _timing_cache(config: Config, file: Path) -> TimingCache:
    """Return the file's cache if it is one of this device and version, else an empty one."""
    if file.is_file():
        kept = config.create_timing_cache(file.read_bytes())
        if kept is not None and config.set_timing_cache(kept, ignore_mismatch=False):
            return kept
    fresh = config.create_timing_cache(b"")
    if fresh is None or not config.set_timing_cache(fresh, ignore_mismatch=False):
        raise BuildFailed("TensorRT takes no timing cache, not even an empty one: its log above says why")
    return fresh


def build_parts(
    onnx: Path,
    parts: Sequence[ExportedPart],
    target: Path,
    buckets: BatchSizes,
    *,
    place: GpuIdentity,
    say: Callable[[str], None],
) -> tuple[ExportedPart, ...]:
    """Build an engine in `target` for every exported file in `onnx`: the same parts in the same precisions.

    Args:
        buckets: the batch sizes of the worker's calls.
        say: called with a line before each build, which takes minutes, and after it.

    Raises:
        BuildFailed: if TensorRT makes no engine of a file.
    """
    for file, part in {part.file: part.part for part in parts}.items():  # one file may serve several precisions
        engine = target / _engine_name(file)
        say(f"{engine.name}: building for {place.device.name}, which may take minutes")
        with place.device.active():
            build_engine(
                onnx / file,
                engine,
                buckets=buckets.denoiser if part == "unet" else buckets.comparator,
                timing_cache=target / TIMING_CACHE,
                library=place.library,
            )
        say(f"{engine.name}: {engine.stat().st_size / 1e6:.1f} MB")
    return tuple(_as_engine(part, target) for part in parts)


def _as_engine(part: ExportedPart, folder: Path) -> ExportedPart:
    name = _engine_name(part.file)
    return ExportedPart(part=part.part, precision=part.precision, file=name, files={name: hash_file(folder / name)})


def _engine_name(file: str) -> str:
    return Path(file).with_suffix(".engine").name

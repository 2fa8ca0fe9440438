"""The calls that this project makes on the `tensorrt` package, as Protocols: it need not be installed.

Names and arguments follow the docstrings in the bindings of TensorRT 10.16.1 and 11.4.0, which agree on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, SupportsInt, cast

from model_store.engines.export_manifest import EngineUnusable


class Dims(Protocol):
    """A shape; -1 is a dynamic dimension."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> int: ...


class HostMemory(Protocol):
    """IHostMemory: `bytes(memory)` copies it."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class Context(Protocol):
    """IExecutionContext: one stream at a time. Setters answer False where they refuse."""

    @property
    def active_optimization_profile(self) -> int: ...
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def get_tensor_shape(self, name: str) -> Dims: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class CudaEngine(Protocol):
    """ICudaEngine."""

    @property
    def num_optimization_profiles(self) -> int: ...
    @property
    def num_io_tensors(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> object: ...
    def get_tensor_dtype(self, name: str) -> object: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Dims]: ...
    def create_execution_context(self) -> Context | None: ...


class Runtime(Protocol):
    """Runtime."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> CudaEngine | None: ...


class NetworkTensor(Protocol):
    """ITensor."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Dims: ...


class Network(Protocol):
    """INetworkDefinition."""

    @property
    def num_inputs(self) -> int: ...
    def get_input(self, index: int) -> NetworkTensor: ...


class Profile(Protocol):
    """IOptimizationProfile."""

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None: ...


class TimingCache(Protocol):
    """ITimingCache."""

    def serialize(self) -> HostMemory: ...


class Config(Protocol):
    """IBuilderConfig."""

    def add_optimization_profile(self, profile: Profile) -> int: ...
    def clear_flag(self, flag: object) -> None: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache | None: ...
    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool: ...


class Builder(Protocol):
    """Builder."""

    def create_network(self, flags: int) -> Network: ...
    def create_builder_config(self) -> Config: ...
    def create_optimization_profile(self) -> Profile: ...
    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None: ...


class Parser(Protocol):
    """OnnxParser. An error's text is its `str`."""

    @property
    def num_errors(self) -> int: ...
    def parse_from_file(self, model: str) -> bool: ...
    def get_error(self, index: int) -> object: ...


class DataTypes(Protocol):
    """DataType: those that an export's inputs and outputs have."""

    @property
    def FLOAT(self) -> object: ...  # noqa: N802 - TensorRT's names, here and below
    @property
    def INT64(self) -> object: ...  # noqa: N802


class IoModes(Protocol):
    """TensorIOMode."""

    @property
    def INPUT(self) -> object: ...  # noqa: N802


class CreationFlags(Protocol):
    """NetworkDefinitionCreationFlag."""

    @property
    def STRONGLY_TYPED(self) -> SupportsInt: ...  # noqa: N802


class BuilderFlags(Protocol):
    """BuilderFlag."""

    @property
    def TF32(self) -> object: ...  # noqa: N802


class TensorRt(Protocol):
    """The module `tensorrt`."""

    @property
    def __version__(self) -> str: ...
    @property
    def DataType(self) -> DataTypes: ...  # noqa: N802
    @property
    def TensorIOMode(self) -> IoModes: ...  # noqa: N802
    @property
    def NetworkDefinitionCreationFlag(self) -> CreationFlags: ...  # noqa: N802
    @property
    def BuilderFlag(self) -> BuilderFlags: ...  # noqa: N802
    def Logger(self) -> object: ...  # noqa: N802
    def Runtime(self, logger: object, /) -> Runtime: ...  # noqa: N802
    def Builder(self, logger: object, /) -> Builder: ...  # noqa: N802
    def OnnxParser(self, network: Network, logger: object, /) -> Parser: ...  # noqa: N802


def shape_of(dims: Dims) -> tuple[int, ...]:
    """Return the dimensions as a tuple."""
    return tuple(dims[index] for index in range(len(dims)))


def installed_tensorrt() -> TensorRt:
    """Return the package.

    Raises:
        EngineUnusable: if it is not installed; the message names the extra that brings it.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: its libraries are missing
        raise EngineUnusable(
            f"tensorrt is not installed ({error}): pip install 'glad-inspect[gpu]', or set GLAD_ENGINE to "
            "another engine"
        ) from error
    return cast(TensorRt, tensorrt)

"""A `tensorrt` that computes on the CPU's own addresses, as far as model_store.engines.tensorrt_protocols goes.

A "network file" is JSON: {"inputs": {name: [type, shape]}, "outputs": {name: [type, shape, scale]},
"errors": [text]}. An "engine file" is the same with "buckets" and "version". Every element of an output's row is
scale × the sum, over the inputs, of the mean of the same row: rows are independent of each other, as a batch's are.
A real ONNX file is taken too, and computed by ONNX Runtime.

As the real one does, it answers False or None where it refuses, and computes into the addresses that it was given.
"""

from __future__ import annotations

import base64
import ctypes
import json
import math
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from model_store.engines import tensorrt_protocols as api
from model_store.engines.tensorrt import GpuIdentity

__version__ = "10.16.1.11"

CALLS: list[tuple[str, Any]] = []
"""What was asked for that its results do not show: (call, arguments)."""


class DataType(Enum):
    FLOAT = "float32"
    HALF = "float16"
    INT64 = "int64"


class TensorIOMode(Enum):
    INPUT = "inputs"
    OUTPUT = "outputs"


class NetworkDefinitionCreationFlag(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class BuilderFlag(Enum):
    TF32 = "tf32"


class HostMemory(bytes):
    """A buffer, as IHostMemory is."""


class Logger:
    """Takes no message here."""


class Runtime:
    def __init__(self, logger: object) -> None:
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        try:
            plan = json.loads(serialized_engine)
        except ValueError:
            return None
        return Engine(plan) if plan.get("version") == __version__ else None


class Engine:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.tensors: dict[str, list[Any]] = {**plan["inputs"], **plan["outputs"]}
        self.session = onnxruntime.InferenceSession(base64.b64decode(plan["onnx"])) if "onnx" in plan else None

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.plan["buckets"])

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.plan["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self.tensors[name][0])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [(self.plan["buckets"][profile_index], *self.tensors[name][1][1:])] * 3

    def create_execution_context(self) -> Context | None:
        return None if self.plan.get("too_large") else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._profile = engine, 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        CALLS.append(("profile", (profile_index, stream_handle)))
        self._profile, self._shapes = profile_index, {}  # shapes must be given again after a switch
        return profile_index < self._engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if shape != self._engine.get_tensor_profile_shape(name, self._profile)[2]:
            return False
        self._shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = {shape[0] for shape in self._shapes.values()}
        return (batch.pop() if batch else -1, *self._engine.tensors[name][1][1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return name in self._engine.tensors

    def execute_async_v3(self, stream_handle: int) -> bool:
        inputs = self._engine.plan["inputs"]
        if set(self._addresses) != set(self._engine.tensors) or set(self._shapes) != set(inputs):
            return False
        CALLS.append(("execute", (self.get_tensor_shape(next(iter(inputs)))[0], stream_handle)))
        self._compute({name: self._array(name) for name in inputs})
        self._addresses.clear()  # an address is good for the call that it was given for
        return True

    def _compute(self, given: dict[str, NDArray[Any]]) -> None:
        outputs = self._engine.plan["outputs"]
        if self._engine.session is not None:
            for name, found in zip(outputs, self._engine.session.run(list(outputs), given), strict=True):
                self._array(name)[:] = found
            return
        means = sum(_rows(values).mean(axis=1) for values in given.values())
        for name, (_, _, scale) in outputs.items():
            _rows(self._array(name))[:] = (scale * means)[:, None]

    def _array(self, name: str) -> NDArray[Any]:
        shape, kind = self.get_tensor_shape(name), np.dtype(self._engine.tensors[name][0])
        memory = (ctypes.c_char * (math.prod(shape) * kind.itemsize)).from_address(self._addresses[name])
        return np.frombuffer(memory, kind).reshape(shape)


def _rows(values: NDArray[Any]) -> NDArray[Any]:
    """One row per entry of the batch; a view."""
    return values.reshape(len(values), -1)


class NetworkTensor:
    def __init__(self, name: str, shape: list[int]) -> None:
        self.name, self.shape = name, tuple(shape)


class Network:
    def __init__(self) -> None:
        self.plan: dict[str, Any] = {"inputs": {}, "outputs": {}}

    @property
    def num_inputs(self) -> int:
        return len(self.plan["inputs"])

    def get_input(self, index: int) -> NetworkTensor:
        name, (_, shape) = list(self.plan["inputs"].items())[index]
        return NetworkTensor(name, shape)


def _plan_of(content: bytes) -> dict[str, Any]:
    """The plan of a real ONNX file: its tensors, and itself."""
    session, types = onnxruntime.InferenceSession(content), {"tensor(float)": "float32", "tensor(int64)": "int64"}
    inputs, outputs = (
        {one.name: [types[one.type], [-1, *one.shape[1:]]] for one in some}
        for some in (session.get_inputs(), session.get_outputs())
    )
    return {"inputs": inputs, "outputs": outputs, "onnx": base64.b64encode(content).decode()}


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        self.shapes[input] = (min, opt, max)


class TimingCache:
    """JSON: the version that timed, and how many engines were built with it."""

    def __init__(self, content: bytes) -> None:
        self.content: dict[str, Any] = json.loads(content or b"{}") or {"version": __version__, "builds": 0}

    def serialize(self) -> HostMemory:
        return HostMemory(json.dumps(self.content).encode())


class Config:
    def __init__(self) -> None:
        self.profiles: list[Profile] = []
        self.cache: TimingCache | None = None

    def add_optimization_profile(self, profile: api.Profile) -> int:
        assert isinstance(profile, Profile)
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def clear_flag(self, flag: object) -> None:
        CALLS.append(("clear_flag", flag))

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache | None:
        try:
            return TimingCache(serialized_timing_cache)
        except ValueError:
            return None

    def set_timing_cache(self, cache: api.TimingCache, ignore_mismatch: bool) -> bool:
        assert isinstance(cache, TimingCache)
        self.cache = cache
        return ignore_mismatch or cache.content["version"] == __version__


class Builder:
    def __init__(self, logger: object) -> None:
        assert isinstance(logger, Logger)

    def create_network(self, flags: int) -> Network:
        CALLS.append(("create_network", flags))
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: api.Network, config: api.Config) -> HostMemory | None:
        assert isinstance(network, Network)
        assert isinstance(config, Config)
        CALLS.append(("build", [profile.shapes for profile in config.profiles]))
        if network.plan.get("unsupported"):
            return None
        if config.cache:
            config.cache.content["builds"] += 1
        first = next(iter(network.plan["inputs"]))
        buckets = [profile.shapes[first][1][0] for profile in config.profiles]
        return HostMemory(json.dumps({**network.plan, "buckets": buckets, "version": __version__}).encode())


class OnnxParser:
    def __init__(self, network: api.Network, logger: object) -> None:
        assert isinstance(network, Network)
        self._network = network
        self._errors: list[str] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def parse_from_file(self, model: str) -> bool:
        content = Path(model).read_bytes()
        self._network.plan = json.loads(content) if content.startswith(b"{") else _plan_of(content)
        self._errors = self._network.plan.pop("errors", [])
        return not self._errors

    def get_error(self, index: int) -> str:
        return self._errors[index]


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Host:
    """The CPU in the place of a GPU."""

    torch_device: torch.device = CPU
    name: str = "Toy GPU (9.0)"

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def stream(self) -> int:
        return STREAM


STREAM = 7
LIBRARY = cast(api.TensorRt, sys.modules[__name__])
PLACE = GpuIdentity(Host(), LIBRARY)


def find_gpu(device: str) -> GpuIdentity:
    """Everywhere."""
    return PLACE

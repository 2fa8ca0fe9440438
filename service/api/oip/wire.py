"""The protocol's bytes: a request's JSON and what lies behind it, an answer's tensors.

Tensors are JSON lists, or raw bytes behind the JSON (extension `binary_tensor_data`): the header
`Inference-Header-Content-Length` says where the JSON ends; a tensor's `binary_data_size`, how many bytes are its own.
In raw form BYTES elements each have their length before them (4 bytes, little-endian), and numbers are little-endian.
In JSON, BYTES elements are strings; bytes that are no text travel as base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt, ValidationError

from service.contract import Message
from service.errors import field_problems

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_JSON_BYTES = 8 << 20
"""Of a request's JSON: parsed, it takes many times its size."""
MAX_ID_LENGTH = 256
MAX_SIDE = 2**31 - 1
"""Of a tensor. JSON's whole numbers have no end; what is computed and told of a shape needs one."""

Datatype = Literal["BYTES", "UINT8", "INT32", "FP32", "FP64"]
Parameters = dict[str, Any]
Counted = TypeVar("Counted", bound=Sequence[Any])
_NUMPY: dict[Datatype, str] = {"UINT8": "<u1", "INT32": "<i4", "FP32": "<f4", "FP64": "<f8"}


class WireError(ValueError):
    """A request that the protocol does not allow, or that says too much."""


class TensorHead(Message):
    """A request's tensor, as its JSON describes it."""

    name: str = Field(max_length=100)
    datatype: str = Field(max_length=20)
    shape: list[Annotated[StrictInt, Field(le=MAX_SIDE)]] = Field(max_length=8)
    parameters: Parameters = Field(default_factory=dict)
    data: list[Any] | None = None


class WantedOutput(Message):
    """An output that a request asks for."""

    name: str = Field(max_length=100)
    parameters: Parameters = Field(default_factory=dict)


class RequestHead(Message):
    """A request's JSON."""

    id: str = Field("", max_length=MAX_ID_LENGTH)
    parameters: Parameters = Field(default_factory=dict)
    inputs: list[TensorHead] = Field(min_length=1, max_length=16)
    outputs: list[WantedOutput] | None = Field(None, max_length=64)


@dataclass(frozen=True)
class InputTensor:
    """An input as it came."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None
    """From the JSON; None if the tensor came raw."""
    raw: bytes | None

    @property
    def size(self) -> int:
        """Elements that the shape holds."""
        return math.prod(self.shape)

    def elements(self) -> tuple[bytes, ...]:
        """A BYTES tensor's elements, flat. WireError if they are not what the shape says."""
        found = self._from_json() if self.raw is None else tuple(_split(self.raw, self.name))
        return self._as_many(found)

    def pixels(self) -> NDArray[np.uint8]:
        """A UINT8 tensor in its shape. WireError if the numbers do not fit it."""
        if self.raw is not None:
            self._as_many(self.raw)
            return np.frombuffer(self.raw, np.uint8).reshape(self.shape)
        flat = self._as_many(tuple(_flat(self.data or [])))
        if not all(type(value) is int and 0 <= value <= 255 for value in flat):
            raise WireError(f"input {self.name!r}: UINT8 values are whole numbers from 0 to 255")
        return np.array(flat, np.uint8).reshape(self.shape)

    def _from_json(self) -> tuple[bytes, ...]:
        try:
            return tuple(base64.b64decode(text, validate=True) for text in _flat(self.data or []))
        except (TypeError, ValueError, binascii.Error) as error:
            raise WireError(
                f"input {self.name!r}: data holds something that is no base64 text: send each file in base64, or raw "
                "with binary_data_size"
            ) from error

    def _as_many(self, found: Counted) -> Counted:
        if len(found) != self.size:
            raise WireError(
                f"input {self.name!r}: shape {list(self.shape)} holds {self.size} elements; {len(found)} came"
            )
        return found


@dataclass(frozen=True)
class InferRequest:
    """A request to infer."""

    id: str
    """"" if it has none."""
    parameters: Parameters
    inputs: tuple[InputTensor, ...]
    outputs: tuple[WantedOutput, ...] | None
    """None: those that are given without asking."""

    def is_raw(self, name: str) -> bool:
        """The output is wanted behind the JSON."""
        default = self.parameters.get("binary_data_output", False)
        own = (output.parameters.get("binary_data", default) for output in self.outputs or () if output.name == name)
        return bool(next(own, default))


@dataclass(frozen=True)
class OutputTensor:
    """An output, ready to be written."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    values: Sequence[str] | NDArray[Any]
    """Flat: text of BYTES, else numbers."""

    def to_raw(self) -> bytes:
        """The bytes of the binary extension."""
        if self.datatype == "BYTES":
            encoded = [str(value).encode() for value in self.values]
            return b"".join(struct.pack("<I", len(one)) + one for one in encoded)
        return np.asarray(self.values, _NUMPY[self.datatype]).tobytes()

    def to_list(self) -> list[Any]:
        """The values as JSON has them."""
        values = self.values if self.datatype == "BYTES" else np.asarray(self.values, _NUMPY[self.datatype]).tolist()
        return list(values)


@dataclass(frozen=True)
class WireAnswer:
    """The body of an answer."""

    body: bytes
    header_length: int | None
    """Bytes of JSON before raw tensors; None: it is all JSON."""


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body that came as gzip or deflate; WireError for another encoding, broken data, or more than `max_bytes`."""
    kind = encoding.strip().lower()
    if kind in {"", "identity"}:
        return body
    if kind not in {"gzip", "x-gzip", "deflate"}:
        raise WireError(f"Content-Encoding is {encoding[:50]!r}: send gzip, deflate, or the body as it is")
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: zlib or gzip, as its head says
    try:
        found = reader.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise WireError(f"the body is not {encoding}: {error}") from error
    if len(found) > max_bytes:
        raise WireError(f"the body has more than {max_bytes} bytes when it is unpacked: send less")
    if not reader.eof:
        raise WireError(f"the body ends before its {encoding} data does: send it again")
    return found


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """The request; `header_length`: what `Inference-Header-Content-Length` says. WireError."""
    length = _checked_length(body, header_length)
    try:
        head = RequestHead.model_validate_json(body[:length])
    except ValidationError as error:
        problems = field_problems(list(error.errors()))
        raise WireError("; ".join(f"{one.field}: {one.message}" for one in problems)[:1000]) from error
    return InferRequest(
        id=head.id,
        parameters=head.parameters,
        inputs=tuple(_inputs(head.inputs, body[length:])),
        outputs=None if head.outputs is None else tuple(head.outputs),
    )


def write_answer(head: dict[str, Any], outputs: Iterable[OutputTensor], request: InferRequest) -> WireAnswer:
    """The answer, each output in the form that the request asks for. `head`: all but the outputs."""
    shown: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for output in outputs:
        described = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if request.is_raw(output.name):
            behind.append(output.to_raw())
            shown.append(described | {"parameters": {"binary_data_size": len(behind[-1])}})
        else:
            shown.append(described | {"data": output.to_list()})
    text = json.dumps(head | {"outputs": shown}, ensure_ascii=False, allow_nan=False).encode()
    return WireAnswer(b"".join((text, *behind)), len(text) if behind else None)


def _checked_length(body: bytes, header_length: str | None) -> int:
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdecimal() and len(header_length) < 12):
            raise WireError(f"{HEADER_LENGTH} is {header_length[:50]!r}: send the number of bytes of the JSON")
        length = int(header_length)
        if length > len(body):
            raise WireError(f"{HEADER_LENGTH} is {length}; the body has {len(body)} bytes")
    if length > MAX_JSON_BYTES:
        raise WireError(f"the JSON has {length} bytes; at most {MAX_JSON_BYTES} are allowed: send tensors raw")
    return length


def _inputs(heads: list[TensorHead], behind: bytes) -> Iterator[InputTensor]:
    start = 0
    for head in heads:
        size = head.parameters.get("binary_data_size")
        if (size is None) == (head.data is None):
            raise WireError(f"input {head.name!r} has data or binary_data_size: one of the two, not both")
        if any(side < 0 for side in head.shape):
            raise WireError(f"input {head.name!r} has shape {head.shape}: no side is negative")
        raw = None if size is None else _take(behind, start, size, head.name)
        start += 0 if raw is None else len(raw)
        yield InputTensor(head.name, head.datatype, tuple(head.shape), head.data, raw)
    if start != len(behind):
        raise WireError(f"{len(behind)} bytes lie behind the JSON; the inputs' binary_data_size name {start}")


def _take(behind: bytes, start: int, size: object, name: str) -> bytes:
    if type(size) is not int or size < 0:
        raise WireError(f"input {name!r}: binary_data_size is {str(size)[:50]!r}: send the number of its bytes")
    if start + size > len(behind):
        raise WireError(
            f"input {name!r}: binary_data_size is {size}; {len(behind) - start} bytes are left behind the JSON, whose "
            f"length {HEADER_LENGTH} tells"
        )
    return behind[start : start + size]


def _split(raw: bytes, name: str) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        end = start + 4
        if end <= len(raw):
            end += struct.unpack_from("<I", raw, start)[0]
        if end > len(raw):
            raise WireError(f"input {name!r}: an element ends beyond the tensor's {len(raw)} bytes")
        yield raw[start + 4 : end]
        start = end


def _flat(values: list[Any]) -> Iterator[Any]:
    """Row-major, whether the lists are nested or not. The parser has bounded their depth."""
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value

"""Reading requests and writing answers of the Open Inference Protocol: JSON, and raw tensors behind it.

Tensors are JSON lists, or raw bytes behind the JSON (extension `binary_tensor_data`): the header
`Inference-Header-Content-Length` says where the JSON ends, and a tensor's `binary_data_size` how many bytes it has. In
raw form each BYTES element follows its length (4 bytes, little-endian), and numbers are little-endian. In JSON, BYTES
elements are strings; bytes that are not text are base64.
"""

from __future__ import annotations

import base64
import binascii
import gc
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt, ValidationError

from service.contract import Message
from service.errors import field_problems

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_JSON_BYTES = 8 << 20
"""Limit of a request's JSON: once parsed, it takes many times its size."""
UNPACKED_PIECE_BYTES = 16 << 10
MAX_ID_LENGTH = 256
MAX_SIDE = 2**31 - 1
"""Limit of a tensor's side: integers of JSON have none, but products of sides and messages need one."""

Datatype = Literal["BYTES", "UINT8", "INT32", "FP32", "FP64"]
Parameters = dict[str, Any]
Elements = TypeVar("Elements", bound=Sequence[Any])
_NUMPY: dict[Datatype, str] = {"UINT8": "<u1", "INT32": "<i4", "FP32": "<f4", "FP64": "<f8"}


class WireError(ValueError):
    """A request that the protocol does not allow, or that exceeds a limit."""


class TensorHead(Message):
    """An input tensor as the JSON of a request describes it."""

    name: str = Field(max_length=100)
    datatype: str = Field(max_length=20)
    shape: list[Annotated[StrictInt, Field(le=MAX_SIDE)]] = Field(max_length=8)
    parameters: Parameters = Field(default_factory=dict)
    data: list[Any] | None = None


class RequestedOutput(Message):
    """An output that a request asks for."""

    name: str = Field(max_length=100)
    parameters: Parameters = Field(default_factory=dict)


class RequestHead(Message):
    """The JSON of a request."""

    id: str = Field("", max_length=MAX_ID_LENGTH)
    parameters: Parameters = Field(default_factory=dict)
    inputs: list[TensorHead] = Field(min_length=1, max_length=16)
    outputs: list[RequestedOutput] | None = Field(None, max_length=64)


@dataclass(frozen=True)
class InputTensor:
    """An input tensor as it was sent."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None
    """From the JSON; None if the tensor is raw."""
    raw: memoryview | None
    """From behind the JSON; None if the tensor is in the JSON."""

    @property
    def size(self) -> int:
        """The number of elements that the shape holds."""
        return math.prod(self.shape)

    def elements(self) -> tuple[bytes, ...]:
        """Return the elements of a BYTES tensor, flat.

        Raises:
            WireError: if they cannot be read, or are not as many as the shape says.
        """
        elements = self._decode_base64() if self.raw is None else tuple(_split_elements(self.raw, self.name))
        return self._check_count(elements)

    def pixels(self) -> NDArray[np.uint8]:
        """Return a UINT8 tensor in its shape.

        Raises:
            WireError: if there are not as many numbers as the shape says, or one is not an integer from 0 to 255.
        """
        if self.raw is not None:
            self._check_count(self.raw)
            return np.frombuffer(self.raw, np.uint8).reshape(self.shape)
        flat = self._check_count(tuple(_flat(self.data or [])))
        if not all(type(value) is int and 0 <= value <= 255 for value in flat):
            raise WireError(f"input {self.name!r}: UINT8 values are whole numbers from 0 to 255")
        return np.array(flat, np.uint8).reshape(self.shape)

    def _decode_base64(self) -> tuple[bytes, ...]:
        try:
            return tuple(base64.b64decode(text, validate=True) for text in _flat(self.data or []))
        except (TypeError, ValueError, binascii.Error) as error:
            raise WireError(
                f"input {self.name!r}: data holds an element that is not base64 text: send each file in base64, or raw "
                "with binary_data_size"
            ) from error

    def _check_count(self, elements: Elements) -> Elements:
        if len(elements) != self.size:
            raise WireError(
                f"input {self.name!r}: shape {list(self.shape)} holds {self.size} elements; {len(elements)} came"
            )
        return elements


@dataclass(frozen=True)
class InferRequest:
    """A request to infer, read."""

    id: str
    """"" if it has none."""
    parameters: Parameters
    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...] | None
    """None: the default ones."""

    def without_tensors(self) -> InferRequest:
        """Return the request as far as its answer depends on it: tensors and other parameters may be large."""
        parameters = {name: self.parameters[name] for name in ("binary_data_output",) if name in self.parameters}
        return replace(self, inputs=(), parameters=parameters)

    def is_raw(self, name: str) -> bool:
        """Return whether the request asks for this output in raw form."""
        default = self.parameters.get("binary_data_output", False)
        stated = (output.parameters.get("binary_data", default) for output in self.outputs or () if output.name == name)
        return bool(next(stated, default))


@dataclass(frozen=True)
class OutputTensor:
    """An output, ready to be written."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    values: Sequence[str] | NDArray[Any]
    """Flat: strings for BYTES, else numbers."""

    def to_raw(self) -> bytes:
        """Return the values as the bytes of the binary extension."""
        if self.datatype == "BYTES":
            encoded = [str(value).encode() for value in self.values]
            return b"".join(struct.pack("<I", len(one)) + one for one in encoded)
        return np.asarray(self.values, _NUMPY[self.datatype]).tobytes()

    def to_list(self) -> list[Any]:
        """Return the values as a list for JSON."""
        values = self.values if self.datatype == "BYTES" else np.asarray(self.values, _NUMPY[self.datatype]).tolist()
        return list(values)


@dataclass(frozen=True)
class EncodedAnswer:
    """The body of an answer."""

    body: bytes
    header_length: int | None
    """Bytes of JSON before raw tensors; None if there are none."""


def decompress(body: bytes, encoding: str, max_bytes: int, reserve: Callable[[int], None]) -> bytes | bytearray:
    """Return the body that was sent as gzip or deflate, or as it is.

    Args:
        body: as it was sent.
        encoding: the request's `Content-Encoding`; "" if it has none.
        max_bytes: limit of the unpacked body.
        reserve: is told of each piece how many bytes it may have, before it is unpacked; raises if there is no room.

    Raises:
        WireError: if the encoding is another one, the data is broken, or the limit is exceeded.
    """
    kind = encoding.strip().lower()
    if kind in {"", "identity"}:
        return body
    if kind not in {"gzip", "x-gzip", "deflate"}:
        raise WireError(f"Content-Encoding is {encoding[:50]!r}: send gzip, deflate, or the body as it is")
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: detects zlib or gzip by the header
    unpacked, rest = bytearray(), body
    while not reader.eof:
        reserve(UNPACKED_PIECE_BYTES)
        try:
            piece = reader.decompress(rest, UNPACKED_PIECE_BYTES)
        except zlib.error as error:
            raise WireError(f"the body is not {encoding}: {error}") from error
        rest = reader.unconsumed_tail
        unpacked += piece
        reserve(len(piece) - UNPACKED_PIECE_BYTES)
        if len(unpacked) > max_bytes:
            raise WireError(f"the body has more than {max_bytes} bytes when it is unpacked: send less")
        if not piece and not rest:
            break
    if not reader.eof:
        raise WireError(f"the body ends before its {encoding} data does: send it again")
    return unpacked


def read_request(body: bytes | bytearray, header_length: str | None) -> InferRequest:
    """Return the request in a body.

    Args:
        body: JSON, and raw tensors behind it.
        header_length: the header `Inference-Header-Content-Length`; None if it was not sent: all is JSON.

    Raises:
        WireError: if the protocol does not allow the request.
    """
    length = _checked_length(len(body), header_length)
    view = memoryview(body)  # tensors may be large: they are not copied
    try:
        with _without_garbage_collection():
            head = RequestHead.model_validate_json(bytes(view[:length]))
    except ValidationError as error:
        problems = field_problems(list(error.errors()))
        raise WireError("; ".join(f"{one.field}: {one.message}" for one in problems)[:1000]) from error
    return InferRequest(
        id=head.id,
        parameters=head.parameters,
        inputs=tuple(_inputs(head.inputs, view[length:])),
        outputs=None if head.outputs is None else tuple(head.outputs),
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Let the parser make its lists: collections between them take eight times as long, and stop all other threads.

    What it makes has no circles. Another thread may switch collections on again meanwhile, which costs time alone.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def write_answer(head: dict[str, Any], outputs: Iterable[OutputTensor], request: InferRequest) -> EncodedAnswer:
    """Return the encoded answer, with each output in the form that the request asks for.

    Args:
        head: the fields of the JSON beside `outputs`.
        outputs: in order.
        request: which is answered.
    """
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output in outputs:
        tensor = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if request.is_raw(output.name):
            raw.append(output.to_raw())
            described.append(tensor | {"parameters": {"binary_data_size": len(raw[-1])}})
        else:
            described.append(tensor | {"data": output.to_list()})
    text = json.dumps(head | {"outputs": described}, ensure_ascii=False, allow_nan=False).encode()
    return EncodedAnswer(b"".join((text, *raw)), len(text) if raw else None)


def _checked_length(body_length: int, header_length: str | None) -> int:
    length = body_length
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdecimal() and len(header_length) < 12):
            raise WireError(f"{HEADER_LENGTH} is {header_length[:50]!r}: send the number of bytes of the JSON")
        length = int(header_length)
        if length > body_length:
            raise WireError(f"{HEADER_LENGTH} is {length}; the body has {body_length} bytes")
    if length > MAX_JSON_BYTES:
        raise WireError(f"the JSON has {length} bytes; at most {MAX_JSON_BYTES} are allowed: send tensors raw")
    return length


def _inputs(heads: list[TensorHead], behind: memoryview) -> Iterator[InputTensor]:
    start = 0
    for head in heads:
        size = head.parameters.get("binary_data_size")
        if (size is None) == (head.data is None):
            raise WireError(f"input {head.name!r} has data or binary_data_size: exactly one of the two")
        if any(side < 0 for side in head.shape):
            raise WireError(f"input {head.name!r} has shape {head.shape}: no side is negative")
        raw = None if size is None else _slice_raw(behind, start, size, head.name)
        start += 0 if raw is None else len(raw)
        yield InputTensor(head.name, head.datatype, tuple(head.shape), head.data, raw)
    if start != len(behind):
        raise WireError(f"{len(behind)} bytes lie behind the JSON; the inputs' binary_data_size name {start}")


def _slice_raw(behind: memoryview, start: int, size: object, name: str) -> memoryview:
    if type(size) is not int or size < 0:
        raise WireError(f"input {name!r}: binary_data_size is {str(size)[:50]!r}: send the number of its bytes")
    if start + size > len(behind):
        raise WireError(
            f"input {name!r}: binary_data_size is {size}; {len(behind) - start} bytes are left behind the JSON, whose "
            f"length {HEADER_LENGTH} tells"
        )
    return behind[start : start + size]


def _split_elements(raw: memoryview, name: str) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        end = start + 4
        if end <= len(raw):
            end += struct.unpack_from("<I", raw, start)[0]
        if end > len(raw):
            raise WireError(f"input {name!r}: an element ends beyond the tensor's {len(raw)} bytes")
        yield bytes(raw[start + 4 : end])
        start = end


def _flat(values: list[Any]) -> Iterator[Any]:
    """Yield the values in row-major order, nested or not. The JSON parser has bounded the depth."""
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value

"""A product as a model of the Open Inference Protocol: which tensors go in and come out, and what they mean here."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from glad import image_codec
from service.api.oip.wire import Datatype, InferRequest, InputTensor, OutputTensor, WireError
from service.contract import Result, Traceability

MOST_IMAGES = 16
IMAGE, PIXELS, MAP = "image", "pixels", "map"
FIELDS = (*Traceability.model_fields, "priority", "deadline_ms")
_IGNORED = frozenset(
    {"binary_data_output", "timeout", "sequence_id", "sequence_start", "sequence_end", "content_type", "headers"}
)
"""Request parameters of the protocol and its usual clients that say nothing about an inspection."""
_HIGHEST_PRIORITY = 1


class TensorMetadata(BaseModel):
    """One input or output; -1: any size."""

    name: str = Field(examples=[IMAGE])
    datatype: Datatype = Field(examples=["BYTES"])
    shape: list[int] = Field(examples=[[-1]])


@dataclass(frozen=True)
class Inspected:
    """A finished inspection with its verdict, and its map where that was asked for."""

    result: Result
    map: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Output:
    """An output with one value per image."""

    datatype: Datatype
    value: Callable[[Result], Any]


_NO_SCORE = -1.0
"""Of an image that was unfit for inspection. JSON has no NaN, and no score is negative."""
_OUTPUTS: dict[str, _Output] = {
    "verdict": _Output("BYTES", lambda result: result.verdict.value if result.verdict else ""),
    "score": _Output("FP64", lambda result: _NO_SCORE if result.score is None else result.score),
    "calibrated_score": _Output(
        "FP64", lambda result: _NO_SCORE if result.calibrated_score is None else result.calibrated_score
    ),
    "denoising_step": _Output("INT32", lambda result: -1 if result.denoising_step is None else result.denoising_step),
    "regions": _Output("BYTES", lambda result: json.dumps([one.model_dump(mode="json") for one in result.regions])),
    "inspection_id": _Output("BYTES", lambda result: result.id),
    "quality": _Output("BYTES", lambda result: "" if result.quality is None else result.quality.model_dump_json()),
}

INPUTS = (
    TensorMetadata(name=IMAGE, datatype="BYTES", shape=[-1]),
    TensorMetadata(name=PIXELS, datatype="UINT8", shape=[-1, -1, 3]),
)
"""Either `image`: files, one or more; or `pixels`: one upright RGB image, (H, W, 3)."""
OUTPUTS = (
    *(TensorMetadata(name=name, datatype=output.datatype, shape=[-1]) for name, output in _OUTPUTS.items()),
    TensorMetadata(name=MAP, datatype="FP32", shape=[-1, -1]),
)
"""One value per image; `map` (H, W) only where it is asked for, and (0, 0) for an image unfit for inspection."""


@dataclass(frozen=True)
class Order:
    """What a request wants done."""

    images: tuple[bytes, ...]
    """Files, in order."""
    keys: tuple[str | None, ...]
    """For each, the Idempotency-Key; None without a request id."""
    fields: Mapping[str, Any]
    """Of every image, not yet checked."""
    outputs: tuple[str, ...]
    patience_s: float | None
    """How long the client waits, if it says so."""


def read_order(request: InferRequest, max_pixels: int) -> Order:
    """What the request wants; WireError. Encodes raw pixels as PNG, which loses nothing: may take a while."""
    images = _images(request.inputs, max_pixels)
    fields = _fields(request)
    return Order(
        images=images,
        keys=tuple(_key(request.id, fields, place, image) for place, image in enumerate(images)),
        fields=fields,
        outputs=_wanted(request, len(images)),
        patience_s=_patience_s(request.parameters.get("timeout")),
    )


def write_outputs(order: Order, found: Sequence[Inspected]) -> list[OutputTensor]:
    """The outputs that were asked for, in that order."""
    return [_output(name, found) for name in order.outputs]


def read_map(npy: bytes) -> NDArray[np.float32]:
    """A stored map, (H, W)."""
    found: NDArray[np.float32] = np.load(io.BytesIO(npy), allow_pickle=False)
    return found


def _output(name: str, found: Sequence[Inspected]) -> OutputTensor:
    if name == MAP:
        (only,) = found
        assert only.map is not None
        return OutputTensor(MAP, "FP32", only.map.shape, only.map.ravel())
    known = _OUTPUTS[name]
    values = [known.value(one.result) for one in found]
    flat = values if known.datatype == "BYTES" else np.array(values)
    return OutputTensor(name, known.datatype, (len(found),), flat)


def _images(inputs: Sequence[InputTensor], max_pixels: int) -> tuple[bytes, ...]:
    if len(inputs) != 1 or inputs[0].name not in {IMAGE, PIXELS}:
        names = ", ".join(repr(one.name) for one in inputs)
        raise WireError(f"the inputs are {names}: send one, {IMAGE!r} (files) or {PIXELS!r} (an RGB array)")
    (given,) = inputs
    expected: Datatype = "BYTES" if given.name == IMAGE else "UINT8"
    if given.datatype != expected:
        raise WireError(f"input {given.name!r} has datatype {given.datatype!r}: it is {expected}")
    return _files(given) if given.name == IMAGE else (_png(given, max_pixels),)


def _files(given: InputTensor) -> tuple[bytes, ...]:
    if not 1 <= given.size <= MOST_IMAGES:
        raise WireError(f"input {IMAGE!r} has shape {list(given.shape)}: send 1 to {MOST_IMAGES} images in a request")
    return given.elements()


def _png(given: InputTensor, max_pixels: int) -> bytes:
    shape = given.shape[1:] if len(given.shape) == 4 and given.shape[0] == 1 else given.shape
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise WireError(f"input {PIXELS!r} has shape {list(given.shape)}: send one RGB image, [height, width, 3]")
    if shape[0] * shape[1] > max_pixels:
        raise WireError(
            f"input {PIXELS!r} has {shape[0] * shape[1]} pixels; the limit is {max_pixels}: crop or downscale it"
        )
    return image_codec.to_png(given.pixels().reshape(shape))


def _fields(request: InferRequest) -> dict[str, Any]:
    """The inspection's fields among the parameters; the request's id is kept as metadata where there is no other."""
    given = {name: value for name, value in request.parameters.items() if not _says_nothing(name)}
    unknown = sorted(given.keys() - set(FIELDS))
    if unknown:
        raise WireError(f"parameter {unknown[0][:100]!r} is not known here: send {', '.join(FIELDS)}")
    if type(given.get("priority")) is int:
        given["priority"] = "high" if given["priority"] == _HIGHEST_PRIORITY else "normal"
    if request.id:
        given.setdefault("metadata", {"request_id": request.id})
    return given


def _says_nothing(name: str) -> bool:
    return name in _IGNORED or name.startswith("triton_")


def _key(request_id: str, fields: Mapping[str, Any], place: int, image: bytes) -> str | None:
    """The same for the same request only: clients that number their requests anew after a restart may do so."""
    if not request_id:
        return None
    said = json.dumps([request_id, fields, place], sort_keys=True, default=str).encode()
    return f"oip-{hashlib.sha256(said + image).hexdigest()}"


def _wanted(request: InferRequest, images: int) -> tuple[str, ...]:
    if request.outputs is None:
        return tuple(_OUTPUTS)
    names = tuple(dict.fromkeys(output.name for output in request.outputs))
    for name in names:
        if name not in _OUTPUTS and name != MAP:
            raise WireError(f"output {name!r} is not known: ask for {', '.join((*_OUTPUTS, MAP))}")
    if MAP in names and images != 1:
        raise WireError(f"output {MAP!r} is given for one image; {images} came: send them one at a time")
    return names or tuple(_OUTPUTS)


def _patience_s(timeout_us: object) -> float | None:
    """The protocol's usual clients say it in microseconds."""
    if timeout_us is None:
        return None
    try:
        seconds = int(str(timeout_us)) / 1e6
    except (ValueError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise WireError(f"parameter 'timeout' is {str(timeout_us)[:50]!r}: send microseconds, more than 0")
    return seconds

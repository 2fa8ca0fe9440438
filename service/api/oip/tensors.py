"""A product as a model of the Open Inference Protocol: its input and output tensors, and their meaning here."""

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

MAX_IMAGES = 16
IMAGE, PIXELS, MAP = "image", "pixels", "map"
FIELDS = (*Traceability.model_fields, "priority", "deadline_ms")
_IGNORED = frozenset(
    {"binary_data_output", "timeout", "sequence_id", "sequence_start", "sequence_end", "content_type", "headers"}
)
"""Request parameters of the protocol and its usual clients that do not concern an inspection."""
_HIGHEST_PRIORITY = 1


class TensorMetadata(BaseModel):
    """One input or output tensor; -1 in its shape: any size."""

    name: str = Field(examples=[IMAGE])
    datatype: Datatype = Field(examples=["BYTES"])
    shape: list[int] = Field(examples=[[-1]])


@dataclass(frozen=True)
class FinishedInspection:
    """A finished inspection with its verdict, and its map (H, W) if the request asks for it."""

    result: Result
    map: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Output:
    """An output with one value per image."""

    datatype: Datatype
    value: Callable[[Result], Any]


_NO_SCORE = -1.0
"""The score of an image that is unfit for inspection: JSON has no NaN, and no real score is negative."""
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
"""Either `image`: one or more files; or `pixels`: one upright RGB image, (H, W, 3)."""
OUTPUTS = (
    *(TensorMetadata(name=name, datatype=output.datatype, shape=[-1]) for name, output in _OUTPUTS.items()),
    TensorMetadata(name=MAP, datatype="FP32", shape=[-1, -1]),
)
"""One value per image; `map` (H, W) only on request, and (0, 0) for an image unfit for inspection."""


@dataclass(frozen=True)
class InferenceOrder:
    """The inspections that a request orders."""

    images: tuple[bytes, ...]
    """Image files, in order."""
    keys: tuple[str | None, ...]
    """The Idempotency-Key of each image; None without a request id."""
    fields: Mapping[str, Any]
    """The submission fields of every image, not yet checked."""
    outputs: tuple[str, ...]
    """Names of outputs, in order."""
    timeout_s: float | None
    """Seconds that the client waits; None if it does not say."""


def read_order(request: InferRequest, max_pixels: int) -> InferenceOrder:
    """Return the inspections that a request orders. Raw pixels are encoded as PNG, without loss, which takes a while.

    Raises:
        WireError: if tensors or parameters are not those of this model.
    """
    images = _images(request.inputs, max_pixels)
    fields = _fields(request)
    return InferenceOrder(
        images=images,
        keys=tuple(_key(request.id, fields, place, image) for place, image in enumerate(images)),
        fields=fields,
        outputs=_output_names(request, len(images)),
        timeout_s=_timeout_s(request.parameters.get("timeout")),
    )


def write_outputs(order: InferenceOrder, images: Sequence[FinishedInspection]) -> list[OutputTensor]:
    """Return the outputs that the order names, in its order."""
    return [_output(name, images) for name in order.outputs]


def read_map(npy: bytes) -> NDArray[np.float32]:
    """Return a stored map, (H, W)."""
    anomaly_map: NDArray[np.float32] = np.load(io.BytesIO(npy), allow_pickle=False)
    return anomaly_map


def _output(name: str, images: Sequence[FinishedInspection]) -> OutputTensor:
    if name == MAP:
        (only,) = images  # _output_names has refused a map of several images
        assert only.map is not None
        return OutputTensor(MAP, "FP32", only.map.shape, only.map.ravel())
    output = _OUTPUTS[name]
    values = [output.value(image.result) for image in images]
    flat = values if output.datatype == "BYTES" else np.array(values)
    return OutputTensor(name, output.datatype, (len(images),), flat)


def _images(inputs: Sequence[InputTensor], max_pixels: int) -> tuple[bytes, ...]:
    if len(inputs) != 1 or inputs[0].name not in {IMAGE, PIXELS}:
        names = ", ".join(repr(one.name) for one in inputs)
        raise WireError(f"the inputs are {names}: send one, {IMAGE!r} (files) or {PIXELS!r} (an RGB array)")
    (tensor,) = inputs
    expected: Datatype = "BYTES" if tensor.name == IMAGE else "UINT8"
    if tensor.datatype != expected:
        raise WireError(f"input {tensor.name!r} has datatype {tensor.datatype!r}: send {expected}")
    return _files(tensor) if tensor.name == IMAGE else (_png(tensor, max_pixels),)


def _files(tensor: InputTensor) -> tuple[bytes, ...]:
    if not 1 <= tensor.size <= MAX_IMAGES:
        raise WireError(f"input {IMAGE!r} has shape {list(tensor.shape)}: send 1 to {MAX_IMAGES} images in a request")
    return tensor.elements()


def _png(tensor: InputTensor, max_pixels: int) -> bytes:
    shape = tensor.shape[1:] if len(tensor.shape) == 4 and tensor.shape[0] == 1 else tensor.shape
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise WireError(f"input {PIXELS!r} has shape {list(tensor.shape)}: send one RGB image, [height, width, 3]")
    if shape[0] * shape[1] > max_pixels:
        raise WireError(
            f"input {PIXELS!r} has {shape[0] * shape[1]} pixels; the limit is {max_pixels}: crop or downscale it"
        )
    return image_codec.to_png(tensor.pixels().reshape(shape))


def _fields(request: InferRequest) -> dict[str, Any]:
    """Return the submission fields among the parameters. The request's id is kept as metadata if there is no other."""
    fields = {name: value for name, value in request.parameters.items() if not _is_ignored(name)}
    unknown = sorted(fields.keys() - set(FIELDS))
    if unknown:
        raise WireError(f"parameter {unknown[0][:100]!r} is not known here: send {', '.join(FIELDS)}")
    if type(fields.get("priority")) is int:
        fields["priority"] = "high" if fields["priority"] == _HIGHEST_PRIORITY else "normal"
    if request.id:
        fields.setdefault("metadata", {"request_id": request.id})
    return fields


def _is_ignored(name: str) -> bool:
    return name in _IGNORED or name.startswith("triton_")


def _key(request_id: str, fields: Mapping[str, Any], place: int, image: bytes) -> str | None:
    # Of the whole request, not of its id alone: a client that numbers its requests anew after a restart sends the same
    # id with another image.
    if not request_id:
        return None
    content = json.dumps([request_id, fields, place], sort_keys=True, default=str).encode()
    return f"oip-{hashlib.sha256(content + image).hexdigest()}"


def _output_names(request: InferRequest, images: int) -> tuple[str, ...]:
    if request.outputs is None:
        return tuple(_OUTPUTS)
    names = tuple(dict.fromkeys(output.name for output in request.outputs))
    for name in names:
        if name not in _OUTPUTS and name != MAP:
            raise WireError(f"output {name!r} is not known: ask for {', '.join((*_OUTPUTS, MAP))}")
    if MAP in names and images != 1:
        raise WireError(f"output {MAP!r} is given for one image; {images} came: send them one at a time")
    return names or tuple(_OUTPUTS)


def _timeout_s(timeout_us: object) -> float | None:
    if timeout_us is None:
        return None
    try:
        seconds = int(str(timeout_us)) / 1e6
    except (ValueError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise WireError(f"parameter 'timeout' is {str(timeout_us)[:50]!r}: send microseconds, more than 0")
    return seconds

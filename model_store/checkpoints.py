"""Tensors out of checkpoint files. Nothing but tensors is ever unpickled, and no code in a file is ever run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

FILE_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
"""Names of a checkpoint in a folder; the first that is there is read."""

_NESTS = ("state_dict", "teacher", "model")
"""Where trainers put the weights in a larger checkpoint; DINO's own keeps its better half as `teacher`."""
_SHOWN = 3
_TO_CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "c = torch.load('{}', map_location='cpu', weights_only=False); c = c.get('state_dict', c); "
    "save_file({{k: v.clone() for k, v in c.items() if torch.is_tensor(v)}}, 'converted.safetensors')\""
)


class ImportRefused(ValueError):
    """The model cannot be imported; the message says what was found, what was expected and what to do."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the weights of a `.safetensors` file, of a pickled one (`.bin`, `.pth`, `.ckpt`), or of a folder with one.

    Raises:
        ImportRefused: if the file holds anything but tensors, plain containers and numbers.
    """
    file = checkpoint_file(path)
    content = _safetensors(file) if file.suffix == ".safetensors" else _unpickled(file)
    return _weights(file, content)


def without_prefixes(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the weights inside these wrappers, without their prefix; if some are wrapped, others are dropped."""
    inner = dict(tensors)
    for prefix in prefixes:
        inside = {name[len(prefix) :]: tensor for name, tensor in inner.items() if name.startswith(prefix)}
        inner = inside or inner
    return inner


def check_names(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], *, origin: str, model: str) -> None:
    """Check that every expected weight is there, of its shape, and nothing else.

    Raises:
        ImportRefused: if not; the message names what differs.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differing = [
        f"{name} is {shapes[name]}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != tuple(shape)
    ]
    lists = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": [name for name in shapes if name not in expected],
        "of another shape": differing,
    }
    if problems := "; ".join(_counted(what, names) for what, names in lists.items() if names):
        raise ImportRefused(
            f"{origin} does not hold {model}: {problems}. Give a checkpoint of that architecture, or the base that it "
            "was fine-tuned from"
        )


def _counted(what: str, names: list[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} weights {what} ({', '.join(names[:_SHOWN])}{more})"


def checkpoint_file(path: Path) -> Path:
    """Return the checkpoint's file; `path` may be its folder.

    Raises:
        ImportRefused: if the folder holds none.
    """
    if not path.is_dir():
        return path
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    raise ImportRefused(f"{path} holds no checkpoint: expected one of {', '.join(FILE_NAMES)}; name the file itself")


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ImportRefused(f"{file} is not a safetensors file ({error}): give the file as it was published") from error


def _unpickled(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise _foreign(file, error) from error
    except (RuntimeError, EOFError) as error:
        raise ImportRefused(f"{file} is not a checkpoint that torch can read ({error}): copy it again") from error


def _foreign(file: Path, error: Exception) -> ImportRefused:
    classes = ", ".join(_classes(file, error)) or "something that is no tensor"
    return ImportRefused(
        f"{file} holds {classes}; only tensors are unpickled, because anything else can run code. If you trust where "
        f"it comes from, convert it on a machine that may be lost, and give the result: {_TO_CONVERT.format(file.name)}"
    )


def _classes(file: Path, error: Exception) -> list[str]:
    """Return the names of the foreign classes; torch reads the list without importing one."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # a checkpoint of before torch 1.6: the refusal itself names the first class
        return re.findall(r"GLOBAL (\S+)", str(error))[:1]


def _weights(file: Path, content: Any) -> dict[str, Tensor]:
    for nest in _nested(content):
        if tensors := {name: value for name, value in nest.items() if isinstance(value, Tensor)}:
            return tensors
    kind = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
    raise ImportRefused(f"{file} holds no weights by name, but {kind}: give a state dict, or a file that has one")


def _nested(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the content itself, then the dictionaries at its well-known places, however deep."""
    if isinstance(content, Mapping):
        yield content
        for name in _NESTS:
            yield from _nested(content.get(name))

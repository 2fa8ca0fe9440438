"""Equal models are exported once a session: tracing a tiny model takes ten seconds, copying its file none."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from training.export import onnx
from training.export.onnx import Piece

WriteOnnx = Callable[[Piece, Path], None]


class ExportCache:
    """Stands in front of `training.export.onnx.write_onnx`, which it calls for each model that it has not seen yet."""

    def __init__(self, folder: Path, write: WriteOnnx) -> None:
        self._folder, self._write = folder, write

    def write_onnx(self, piece: Piece, file: Path) -> None:
        """Write the model to `file`, from the file of an equal one if there is any."""
        kept = self._folder / _digest(piece)
        if kept.exists():
            shutil.copy(kept, file)
            return
        self._write(piece, file)
        if not file.with_name(file.name + ".data").exists():  # which it names: under another name it would be lost
            partial = kept.with_suffix(f".{os.getpid()}")  # another process may write the same
            shutil.copy(file, partial)
            partial.replace(kept)


def _digest(piece: Piece) -> str:
    """Return a name for all that a written file depends on: structure, weights, other state, names and shapes."""
    state = {name: value for name, value in vars(piece.module).items() if isinstance(value, int | float | tuple)}
    shapes = {name: (tuple(value.shape), str(value.dtype)) for name, value in piece.inputs.items()}
    digest = hashlib.sha256(f"{piece.module!r} {state} {shapes} {piece.outputs}".encode())
    for name, tensor in sorted(piece.module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def exports_cached(temporary: Path) -> Iterator[None]:
    """Let every export inside go through one cache, which all processes of this session share.

    Args:
        temporary: pytest's folder of this process; with xdist it lies in the session's.
    """
    folder = (temporary.parent if temporary.name.startswith("popen-") else temporary) / "exports"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "write_onnx", ExportCache(folder, onnx.write_onnx).write_onnx)
        yield

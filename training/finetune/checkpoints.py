"""Checkpoints of a stage: folders of safetensors and JSON, written whole or not at all.

accelerate's `save_state` pickles the optimizer's state and writes into the folder that is read, so this is our own.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

STATE = "state.json"
FORMAT = 1
CHUNK = 1 << 24

TensorGroups = Mapping[str, Mapping[str, Tensor]]
"""The files of a checkpoint by their names without suffix, and the tensors in them."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a stage needs to go on after `position` steps."""

    position: int
    tensors: TensorGroups
    values: Mapping[str, Any]
    """What is not a tensor; JSON."""


class CheckpointFolder:
    """The last checkpoints of one stage."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Look after a folder, which need not exist.

        Args:
            folder: of the stage alone.
            keep: so many checkpoints stay.
        """
        self.folder, self._keep = folder, keep

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint; a crash or a full disk at any moment leaves the ones before as they are."""
        target = self.folder / f"step-{checkpoint.position:08d}"
        draft = self.folder / f"draft-{os.getpid()}"
        self._remove_drafts()
        draft.mkdir(parents=True)
        files = {}
        for name, tensors in checkpoint.tensors.items():
            path = draft / f"{name}.safetensors"
            save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, path)
            files[path.name] = checksum(path)
        state = {"format": FORMAT, "position": checkpoint.position, "files": files, "values": checkpoint.values}
        (draft / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        for path in (*draft.iterdir(), draft):
            _sync(path)
        if target.exists():  # a damaged one, or the same step once more
            shutil.rmtree(target)
        draft.rename(target)
        _sync(self.folder)
        for old in self.found()[self._keep :]:
            shutil.rmtree(old)
        return target

    def read(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not damaged; None if there is none."""
        for path in self.found():
            try:
                return read_checkpoint(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                warnings.warn(f"checkpoint {path} is damaged ({error}): the one before it is used", stacklevel=2)
        return None

    def found(self) -> list[Path]:
        """Return the folders of the checkpoints, the newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _remove_drafts(self) -> None:
        for left in self.folder.glob("draft-*"):
            shutil.rmtree(left)


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint of a folder.

    Raises:
        OSError, ValueError, KeyError, SafetensorError: if a file is missing, or is not as it was written.
    """
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    if state["format"] != FORMAT:
        raise ValueError(f"its format is {state['format']}; this version reads {FORMAT}")
    for name, sum_then in state["files"].items():
        if checksum(path / name) != sum_then:
            raise ValueError(f"{name} is not as it was written")
    tensors = {Path(name).stem: load_file(path / name) for name in state["files"]}
    return Checkpoint(int(state["position"]), tensors, state["values"])


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file: fast, and enough against accidents."""
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total = zlib.crc32(chunk, total)
    return total


def optimizer_content(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's memory as named tensors and as values: "3.exp_avg" is that of the fourth parameter.

    Its settings are the recipe's, and not written.
    """
    entries = {
        f"{number}.{key}": value
        for number, memory in optimizer.state_dict()["state"].items()
        for key, value in memory.items()
    }
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in entries.items() if name not in tensors}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Give an optimizer the memory that `optimizer_content` returned."""
    memory: dict[int, dict[str, Any]] = {}
    for name, value in (*tensors.items(), *values.items()):
        number, key = name.split(".", 1)
        memory.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": memory})


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

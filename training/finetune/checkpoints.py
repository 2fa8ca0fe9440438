"""Checkpoints of a stage: folders of safetensors and JSON, written whole or not at all.

accelerate's `save_state` pickles the optimizer's state and writes into the folder that is read, so this is our own.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.training_run import StageError

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


class _Files(Mapping[str, Mapping[str, Tensor]]):
    """A checkpoint's groups, each read when it is asked for: a large model's do not fit in memory together twice."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def __getitem__(self, group: str) -> Mapping[str, Tensor]:
        return load_file(self._files[group])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


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
        target = checkpoint_of(self.folder, checkpoint.position)
        draft = self.folder / f"draft-{os.getpid()}"
        self._remove_drafts()
        draft.mkdir(parents=True)
        files = {}
        for name, tensors in checkpoint.tensors.items():
            path = draft / f"{name}.safetensors"
            save_file(_separate(tensors), path)
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


def checkpoint_of(folder: Path, position: int) -> Path:
    """Return where a stage's checkpoint after so many steps lies; it need not exist."""
    return folder / f"step-{position:08d}"


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
    files = {Path(name).stem: path / name for name in state["files"]}
    return Checkpoint(int(state["position"]), _Files(files), state["values"])


def read_former_checkpoint(path: Path, trained: Sequence[str], parameters: Sequence[str]) -> Checkpoint:
    """Return the checkpoint of a file `<stage>.ckpt`, as versions before the folders wrote it.

    Args:
        path: of the file.
        trained: the parameters that are trained, by name.
        parameters: all of the model's. The optimizer of then had these, or the trained ones.

    Raises:
        StageError: if the file is damaged, or of another model.
    """
    try:
        saved = torch.load(path, weights_only=True)
        count = len(saved["optimizer"]["param_groups"][0]["params"])
        names = trained if count == len(trained) else parameters
        memory = {
            f"{trained.index(names[number])}.{key}": value
            for number, entries in saved["optimizer"]["state"].items()
            for key, value in entries.items()
        }
        tensors = {"model": saved["model"], "optimizer": memory}
        values: dict[str, Any] = {"optimizer": "adamw", "optimizer_values": {}}
        if "average" in saved:
            tensors["average"] = dict(zip(names, saved["average"]["shadow_params"], strict=True))
            values["average_steps"] = saved["average"]["optimization_step"]
        return Checkpoint(int(saved["position"]), tensors, values)
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, EOFError, UnpicklingError) as error:
        raise StageError(
            f"{path}, a checkpoint that an earlier version wrote, cannot be read ({error}): remove it, so that the "
            "stage begins anew, or give --run another folder"
        ) from error


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
    entries = dict(_flat(optimizer.state_dict()["state"]))
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in entries.items() if name not in tensors}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Give an optimizer the memory that `optimizer_content` returned."""
    memory: dict[int, dict[str, Any]] = {}
    for name, value in (*tensors.items(), *values.items()):
        number, *groups, key = name.split(".")
        place = memory.setdefault(int(number), {})
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": memory})


def _flat(nested: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that is no mapping with its path: bitsandbytes keeps mappings in an optimizer's state."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors wants them: contiguous, none in another's memory (as tables of bitsandbytes)."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        separate[name] = plain.clone() if plain.untyped_storage().data_ptr() in seen else plain
        seen.add(plain.untyped_storage().data_ptr())
    return separate


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

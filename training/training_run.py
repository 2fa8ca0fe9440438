"""A training's folder as its stages see it: which stage this is, how long each took, what is still to come.

`stages.json` lists the stages that have begun, with seconds, peak memory, and how often each was resumed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from training.launched_processes import is_main_process
from training.peak_memory import peak_memory_bytes, reset_peak_memory

STAGES = "stages.json"
CURVES = "curves"
CHECKPOINTS = "stages"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class StageRecord:
    """A stage of a run, as `stages.json` has it."""

    name: str
    begun: str
    """Time of its first begin, UTC, ISO 8601."""
    seconds: float = 0.0
    """Over all sessions, up to its last checkpoint or its end."""
    peak_memory_bytes: int = 0
    """Of the GPU where there is one, else of this process."""
    resumed: int = 0
    """How often it went on, or began anew, after a stop."""
    finished: bool = False


class TrainingRun:
    """The run of which a stage is one: its folder, and the times of its stages."""

    def __init__(
        self, folder: Path, stages: Sequence[str] = (), *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Look into a run's folder, which need not exist.

        Args:
            stages: the names of all stages in their order; none: those that come.
            say: prints a line for people.
        """
        self.folder, self.stages = folder, tuple(stages)
        self.say: Callable[[str], None] = say if is_main_process() else lambda _: None
        self.records = read_records(folder)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes the run's files."""
        return is_main_process()

    def place(self, name: str) -> str:
        """Return where a stage stands, such as "stage 2 of 9: unet"."""
        if name not in self.stages:
            return name
        return f"stage {self.stages.index(name) + 1} of {len(self.stages)}: {name}"

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[], None]]:
        """Time a stage, and write it to `stages.json` at its end.

        Yields:
            What writes the time so far, for a stage that is called again after a stop and then takes up from here.
        """
        before = self.records.get(name)
        if before is None:
            before = StageRecord(name, datetime.now(UTC).isoformat(timespec="seconds"))
        elif not before.finished:
            before = replace(before, resumed=before.resumed + 1)
        begun = time.monotonic()
        reset_peak_memory()

        def note(finished: bool = False) -> None:
            self._write(
                replace(
                    before,
                    seconds=before.seconds + time.monotonic() - begun,
                    peak_memory_bytes=max(before.peak_memory_bytes, peak_memory_bytes()),
                    finished=finished or before.finished,
                )
            )

        note()
        yield note
        note(finished=True)

    def _write(self, record: StageRecord) -> None:
        self.records[record.name] = record
        if not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{STAGES}.tmp"
        draft.write_text(json.dumps([asdict(one) for one in self.records.values()], indent=2), encoding="utf-8")
        os.replace(draft, self.folder / STAGES)


def read_records(folder: Path) -> dict[str, StageRecord]:
    """Return the stages of a run that have begun, by name; none where there is no file, or it cannot be read."""
    try:
        listed = json.loads((folder / STAGES).read_text(encoding="utf-8"))
        return {one["name"]: StageRecord(**one) for one in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return {}

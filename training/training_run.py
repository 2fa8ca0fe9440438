"""A training's folder as its stages see it: which stage this is, how long each took, how long all of it will take.

`stages.json` lists the stages that have begun, with seconds, peak memory, and how often each was resumed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_store.files import replace_file
from training.launched_processes import is_main_process
from training.peak_memory import peak_memory_bytes, reset_peak_memory
from training.progress import Progress

MARK = "run.json"
"""Of which recipe and images the run is."""
STAGES = "stages.json"
PLAN = "plan.json"
"""What was measured before the run; `stage_seconds` in it says how long each stage will take."""
CURVES, CHECKPOINTS, TENSORBOARD = "curves", "stages", "tensorboard"


class StageError(ValueError):
    """A stage that cannot run as its recipe says, or has gone wrong; says what to change."""


@dataclass(frozen=True)
class StageRecord:
    """A stage of a run, as `stages.json` has it."""

    name: str
    begun: str
    """When it first began: UTC, ISO 8601."""
    seconds: float = 0.0
    """Of all sessions, up to the last checkpoint of each or its end."""
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
        self._said: set[str] = set()
        self._expected = expected_seconds(folder)
        self._elapsed_s: Callable[[], float] = lambda: 0.0  # of the stage under way, over all sessions

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes the run's files."""
        return is_main_process()

    def place(self, name: str) -> str:
        """Return where a stage stands, such as "stage 2 of 9: unet"."""
        if name not in self.stages:
            return name
        return f"stage {self.stages.index(name) + 1} of {len(self.stages)}: {name}"

    def say_once(self, line: str) -> None:
        """Say a line that was not said before."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    def outlook(self, name: str, left_s: float | None = None) -> str:
        """Return how long the run takes in all, such as "about 40 min in all".

        Args:
            name: of the stage under way.
            left_s: it will still take; None: not known from itself.

        Returns:
            An empty text as long as the time of any stage is unknown: none was measured, here or in a run of the same
            recipe beside this one.
        """
        total = 0.0
        for stage in self.stages:
            seconds = self._seconds(stage, left_s if stage == name else None)
            if seconds is None:
                return ""
            total += seconds
        return f"about {in_words(total)} in all" if self.stages else ""

    @contextmanager
    def stage(self, name: str, *, anew: bool = False) -> Iterator[Callable[[], None]]:
        """Time a stage, say where it stands, and write what it took to `stages.json` at its end.

        Args:
            name: of the stage.
            anew: whether nothing is left of what it did before, so that the time of that counts no more.

        Yields:
            What writes the time so far: a stop that leaves no time to do so loses only what came after it.
        """
        record = self._begin(name)
        if anew:
            record = replace(record, seconds=0.0, finished=False)
        begun = time.monotonic()
        self._elapsed_s = lambda: record.seconds + time.monotonic() - begun
        reset_peak_memory()
        self.say(", ".join(part for part in (self.place(name), self.outlook(name)) if part))

        def note(finished: bool = False) -> None:
            taken = self._elapsed_s()
            memory = max(record.peak_memory_bytes, peak_memory_bytes())
            done = finished or record.finished
            self._write(replace(record, seconds=round(taken, 3), peak_memory_bytes=memory, finished=done))

        note()
        try:
            yield note
        except BaseException:
            note()
            raise
        note(finished=True)

    @contextmanager
    def timed(self, show: Progress) -> Iterator[Progress]:
        """Yield `show`, with each of the run's stages timed from when it is first shown to when the next one is."""
        with ExitStack() as current:
            begun: list[str] = []

            def timed(stage: str, done: int, total: int) -> None:
                if stage in self.stages and stage not in begun:
                    current.close()
                    current.enter_context(self.stage(stage))
                    begun.append(stage)
                show(stage, done, total)

            yield timed

    def _begin(self, name: str) -> StageRecord:
        before = self.records.get(name)
        if before is None:
            return StageRecord(name, datetime.now(UTC).isoformat(timespec="seconds"))
        return before if before.finished else replace(before, resumed=before.resumed + 1)

    def _seconds(self, stage: str, left_s: float | None) -> float | None:
        """Return how long a stage takes, in all sessions; None: not known."""
        record = self.records.get(stage)
        if left_s is not None:
            return left_s + self._elapsed_s()
        if record is not None and record.finished:
            return record.seconds
        expected = self._expected.get(stage)
        return expected if expected is None or record is None else max(expected, record.seconds)

    def _write(self, record: StageRecord) -> None:
        self.records[record.name] = record
        if not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps([asdict(one) for one in self.records.values()], indent=2)
        replace_file(self.folder / STAGES, content.encode())


def read_records(folder: Path) -> dict[str, StageRecord]:
    """Return the stages of a run that have begun, by name; none where there is no file, or it cannot be read."""
    try:
        return {one["name"]: StageRecord(**one) for one in _read_json(folder / STAGES)}
    except (KeyError, TypeError):
        return {}


def expected_seconds(folder: Path) -> dict[str, float]:
    """Return how long stages will take, as far as it was measured: in runs of the same recipe beside this one, and,
    which counts more, in this run's plan.
    """
    expected: dict[str, float] = {}
    recipe = _recipe_of(folder)
    others = sorted(folder.parent.glob(f"*/{STAGES}"), key=lambda path: path.stat().st_mtime)
    for other in (path.parent for path in others if recipe and path.parent != folder):
        if _recipe_of(other) == recipe:
            expected |= {one.name: one.seconds for one in read_records(other).values() if one.finished}
    plan = _read_json(folder / PLAN)
    planned = plan.get("stage_seconds") if isinstance(plan, dict) else None
    return expected | (dict(planned) if isinstance(planned, Mapping) else {})


def in_words(seconds: float) -> str:
    """Return a time as people say it: "50 s", "40 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _recipe_of(folder: Path) -> dict[str, Any]:
    """Return the recipe of a run without what does not change its time; empty where there is none."""
    mark = _read_json(folder / MARK)
    recipe = mark.get("recipe") if isinstance(mark, dict) else None
    return {key: value for key, value in recipe.items() if key not in ("name", "seed")} if recipe else {}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []

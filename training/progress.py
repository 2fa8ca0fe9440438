"""The display of long work: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    GetTimeCallable,
    MofNCompleteColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from training.launched_processes import is_main_process

Count = Callable[[int, int], None]
"""Called with the amounts done and in all."""
Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, and its amounts done and in all."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing: a `Progress` for callers that want none."""


class PlainProgress(Bars):
    """For logs, CI and nohup, where a bar prints nothing: one line per task at most every `every_s` and at its end."""

    def __init__(self, console: Console, *, every_s: float, get_time: GetTimeCallable | None) -> None:
        super().__init__(console=console, disable=True, speed_estimate_period=120, get_time=get_time)
        self.every_s = every_s
        self._printed_at: dict[TaskID, float] = {}

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        """Add a task as rich does; its first line comes `every_s` later."""
        number = super().add_task(*args, **kwargs)
        self._printed_at[number] = self.get_time()
        return number

    def update(self, task_id: TaskID, *args: Any, **kwargs: Any) -> None:
        """Update a task as rich does, and print its line when it is due."""
        before = self.tasks_by_id[task_id].finished
        super().update(task_id, *args, **kwargs)
        task = self.tasks_by_id[task_id]
        now = self.get_time()
        if now - self._printed_at[task_id] >= self.every_s or (task.finished and not before):
            self._printed_at[task_id] = now
            self.console.print(line_of(task), markup=False, highlight=False, soft_wrap=True)

    @property
    def tasks_by_id(self) -> dict[TaskID, Task]:
        """The tasks by their number."""
        return {task.id: task for task in self.tasks}


def line_of(task: Task) -> str:
    """Return a task as a line, such as `unet: 400/2000, loss 0.0123, 0:12:30 left`, as far as it is known."""
    total = "?" if task.total is None else f"{task.total:.0f}"
    parts = [f"{task.description}: {task.completed:.0f}/{total}", str(task.fields.get("note", ""))]
    if task.finished:
        parts.append(f"done in {timedelta(seconds=round(task.finished_time or 0))}")
    elif task.time_remaining is not None:
        parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
    return ", ".join(part for part in parts if part)


_HIDDEN: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def progress_hidden(hidden: bool = True) -> Iterator[None]:
    """Show no bar and no line of any work within the block; with `hidden` False, show them as ever."""
    before = _HIDDEN.set(hidden)
    try:
        yield
    finally:
        _HIDDEN.reset(before)


@contextmanager
def named_bars() -> Iterator[Progress]:
    """Yield `show(stage, done, total)`: each stage gets a bar, or a line, of its own when it is first shown."""
    begun: dict[str, TaskID] = {}
    with progress_bar() as bar:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in begun:
                begun[stage] = bar.add_task(stage, total=total, note="")
            bar.update(begun[stage], completed=done, total=total)

        yield show


def progress_bar(
    console: Console | None = None, *, every_s: float = 30.0, get_time: GetTimeCallable | None = None
) -> Bars:
    """Return the bar of all long work: stage, progress, time taken and time left.

    Where there is no terminal, it prints plain lines; of several processes the main one alone shows anything.
    """
    console = console or Console(quiet=_HIDDEN.get() or not is_main_process())
    if not console.is_terminal:
        return PlainProgress(console, every_s=every_s, get_time=get_time)
    columns = (
        "[bold]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        "left",
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Bars(*columns, console=console, speed_estimate_period=120, get_time=get_time)

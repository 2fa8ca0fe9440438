"""How long work shows itself: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

Count = Callable[[int, int], None]
"""How much is done, and how much there is."""
Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that tells nobody."""


class PlainProgress(Bars):
    """For logs, CI and nohup, where a bar prints nothing: one line per task at most every `every_s` and at its end."""

    def __init__(self, console: Console, *, every_s: float, get_time: GetTimeCallable | None) -> None:
        super().__init__(console=console, disable=True, speed_estimate_period=120, get_time=get_time)
        self.every_s = every_s
        self._told: dict[TaskID, float] = {}

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        """As rich's; the first line comes `every_s` later."""
        number = super().add_task(*args, **kwargs)
        self._told[number] = self.get_time()
        return number

    def update(self, task_id: TaskID, *args: Any, **kwargs: Any) -> None:
        """As rich's; prints the task's line when it is due."""
        before = self.tasks_by_id[task_id].finished
        super().update(task_id, *args, **kwargs)
        task = self.tasks_by_id[task_id]
        now = self.get_time()
        if now - self._told[task_id] >= self.every_s or (task.finished and not before):
            self._told[task_id] = now
            self.console.print(line_of(task), markup=False, highlight=False, soft_wrap=True)

    @property
    def tasks_by_id(self) -> dict[TaskID, Task]:
        """The tasks by their number."""
        return {task.id: task for task in self.tasks}


def line_of(task: Task) -> str:
    """`unet: 400/2000, loss 0.0123, 0:12:30 left`, as far as it is known."""
    total = "?" if task.total is None else f"{task.total:.0f}"
    parts = [f"{task.description}: {task.completed:.0f}/{total}", str(task.fields.get("note", ""))]
    if task.finished:
        parts.append(f"done in {timedelta(seconds=round(task.finished_time or 0))}")
    elif task.time_remaining is not None:
        parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
    return ", ".join(part for part in parts if part)


@contextmanager
def named_bars() -> Iterator[Progress]:
    """`show(stage, done, total)`: each stage gets a bar, or a line, of its own when it is first heard of."""
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
    """The bar of all long work: what, how far, how long, how long still; plain lines where no terminal shows it."""
    console = console or Console()
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

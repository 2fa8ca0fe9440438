"""Progress without a terminal: now and then a plain line that says what, how far and how long still."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from training.progress import PlainProgress, progress_bar


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _lines(text: StringIO) -> list[str]:
    return [line for line in text.getvalue().splitlines() if line.strip()]


def test_a_log_gets_a_line_every_thirty_seconds_and_one_at_the_end() -> None:
    text, clock = StringIO(), _Clock()
    with progress_bar(Console(file=text, force_terminal=False), get_time=clock) as bar:
        task = bar.add_task("unet", total=100, note="")
        for done in range(1, 101):
            clock.now = float(done)
            bar.update(task, completed=done, note=f"loss {1 / done:.4f}")
    lines = _lines(text)
    assert [line.split(",")[0] for line in lines] == ["unet: 30/100", "unet: 60/100", "unet: 90/100", "unet: 100/100"]
    assert lines[0] == "unet: 30/100, loss 0.0333, 0:01:10 left"  # one step a second, 70 to go
    assert lines[-1] == "unet: 100/100, loss 0.0100, done in 0:01:40"


def test_a_task_of_unknown_length_and_one_without_a_note_have_lines_too() -> None:
    text, clock = StringIO(), _Clock()
    with progress_bar(Console(file=text, force_terminal=False), get_time=clock) as bar:
        task = bar.add_task("inspecting", total=None, note="")
        clock.now = 31.0
        bar.update(task, completed=2)
        clock.now = 62.0
        bar.update(task, completed=4, total=10)
    assert _lines(text)[0] == "inspecting: 2/?"
    assert _lines(text)[1].startswith("inspecting: 4/10")


def test_every_task_is_told_by_its_own_clock() -> None:
    text, clock = StringIO(), _Clock()
    with progress_bar(Console(file=text, force_terminal=False), get_time=clock) as bar:
        delta = bar.add_task("delta", total=9, note="")
        clock.now = 20.0
        thresholds = bar.add_task("thresholds", total=9, note="")
        clock.now = 35.0
        bar.update(delta, advance=1)
        bar.update(thresholds, advance=1)
    assert [line.split(":")[0] for line in _lines(text)] == ["delta"]


def test_a_terminal_gets_a_bar() -> None:
    assert not isinstance(progress_bar(Console(file=StringIO(), force_terminal=True)), PlainProgress)

"""The arithmetic of scripts/walk.py: what is a move, what belongs to the image, what is a box, an arrow, a line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.call_hook import Call, make_hook
from scripts.source_figures import circles, static
from scripts.walk import by_thread, followed, of_the_image, shown

SOURCES = {
    "pyproject.toml": '[tool.hatch.build.targets.wheel]\npackages = ["house"]\n',
    "house/__init__.py": '"""One house."""\n',
    "house/door.py": (
        '"""What opens."""\n\nfrom typing import TYPE_CHECKING\n\n'
        "if TYPE_CHECKING:\n    from house.attic import box\n\n\n"
        "class Key:\n    # A comment.\n    size = 1\n    '''One size.'''\n\n\n"
        "def enter():\n    '''Go in.'''\n    from house import hall\n\n    return hall\n"
    ),
    "house/hall.py": "from . import door\nfrom .attic import box\n\nclass Key:\n    pass\n\nclass _Own:\n    pass\n",
    "house/attic/__init__.py": "",
    "house/attic/box.py": "from ..attic import lid\n\n\nclass _Own:\n    pass\n",
    "house/attic/lid.py": "import house.attic.box\n" + "x = 1\n" * 400,
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for name, source in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def test_static_counts_boxes_arrows_and_circles(house: Path) -> None:
    found = static(house)
    assert found["packages"]["house"] == {
        "drawn": {"boxes": 3, "arrows": 3, "for types": 1},  # door <-> hall -> attic; door -> attic for types
        "circles": [["door", "hall"]],
    }
    assert found["circles of modules"] == [["house.attic.box", "house.attic.lid"], ["house.door", "house.hall"]]


def test_static_counts_lines_names_and_words(house: Path) -> None:
    found = static(house)
    door, hall, attic = 3 + 3 + 3, 2 + 2 + 2, 1 + 2 + 401  # below a field a string is code; elsewhere it is none
    assert found["code"]["total"]["lines of code"] == door + hall + attic
    assert found["code"]["house"]["comments"] == 1
    assert found["class names in more than one file"] == {"Key": "house/door.py, house/hall.py"}
    assert found["modules over 400 lines"] == ["house/attic/lid.py"]
    assert found["modules under 60 lines"] == ["house/attic/box.py", "house/door.py", "house/hall.py"]
    assert found["docstrings"] == {"of all": 4, "open with 'What'": 1, "open with 'One'": 2}


def test_circles_are_the_largest_groups_that_reach_each_other() -> None:
    arrows = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d"), ("e", "f")]
    assert circles(arrows) == [["a", "b", "c"], ["d", "e"]]


def made(folder: Path, name: str, source: str, **known: object) -> dict[str, Any]:
    """A file's functions, as if it had been imported."""
    names: dict[str, Any] = {"__name__": name, **known}
    exec(compile(source, str(folder / f"{name}.py"), "exec"), names)
    return names


def recorded(folder: Path, window: int, call: Callable[[], object]) -> list[tuple[str | None, str]]:
    """What the hook writes while something is called: the names of caller and callee."""
    calls: list[Call] = []
    before = sys.getprofile()
    sys.setprofile(make_hook((f"{folder}/",), [window], calls.append))
    try:
        call()
    finally:
        sys.setprofile(before)
    names = [(one.caller and Path(one.caller).name, Path(one.callee).name) for one in calls]
    return [pair for pair in names if pair[1].startswith(("a.py", "b.py"))]


def test_the_hook_writes_calls_between_our_files_through_foreign_frames_but_no_resumption(tmp_path: Path) -> None:
    b = made(
        tmp_path,
        "b",
        "def each():\n    yield 1\n    yield 2\n\n\ndef one(x):\n    return inner(x)\n\n\ndef inner(x): ...\n",
    )
    a = made(
        tmp_path, "a", "def go():\n    foreign(b['one'])\n    own()\n    list(b['each']())\n\n\ndef own(): ...\n", b=b
    )
    a["foreign"] = lambda function: function(1)
    moves = [("a.py:go", "b.py:one"), ("a.py:go", "b.py:each")]
    assert recorded(tmp_path, 1, a["go"]) == [(None, "a.py:go"), *moves]
    assert recorded(tmp_path, 0, a["go"]) == []


def calls_of(thread: str, *pairs: str, window: int) -> list[Call]:
    """Calls such as `a>b`, each a second after the one before."""
    split = (pair.split(">") for pair in pairs)
    return [
        Call(window, float(at), thread, f"{one}.py:f" if one else None, f"{other}.py:g")
        for at, (one, other) in enumerate(split)
    ]


def test_a_thread_that_only_does_what_it_does_idle_is_left_out() -> None:
    api = calls_of("main", "a>b", "b>c", "a>b", window=1) + calls_of("main", "a>b", window=9)
    worker = calls_of("probe-1", "p>q", window=1) + calls_of("probe-2", "p>q", "p>r", window=9)
    threads = by_thread({"1": api, "2": worker})
    assert [call.callee for call in of_the_image(threads, 1)] == ["b.py:g", "c.py:g", "b.py:g"]
    assert of_the_image(threads, 2) == []


def test_the_median_of_the_moves_and_the_files_of_all_images_are_told() -> None:
    script = Call(1, 9.0, "main", "a.py:f", "-- common\n-- claim", is_lua=True)
    windows = [
        [*calls_of("main", ">a", "a>b", window=1), script],
        [*calls_of("main", ">a", "a>b", "a>z", "a>b", window=2), script],
        [*calls_of("main", ">a", "a>b", "b>a", window=3), script],
    ]
    found = followed(windows, {"claim.lua": "-- claim", "renew.lua": "-- renew"})
    assert (found["files entered"], found["moves"], found["pairs of files"]) == (2, 2, 1)
    assert found["moves that differ"] == 1
    assert found["Lua files called"] == ["claim.lua"]
    assert found["files, in order of first entry"] == ["a.py", "b.py"]
    assert "moves of each image   1 of image 1  3 of image 2  2 of image 3" in list(shown(found))

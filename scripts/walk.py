"""Measures how readable a checkout is: `python scripts/walk.py --tree DIR [--static] [--image] [--bundle]`.

It knows nothing of the layout inside: it reads the source as text and drives the project by the `glad` command and by
HTTP alone, so that trees of before and after can be compared. Run it with the Python of the project's environment; the
tree's code, and the commands of its pyproject.toml, go before what is installed there.

--static  Boxes: the direct children of a package. Arrows: pairs of children of which one imports the other, also inside
          functions; those under `if TYPE_CHECKING` alone are counted apart and make no circle. Circles: groups of
          children, or of modules, that reach each other. Code: lines with a token, but for comments and docstrings.
          Opening words: also of the strings below fields and constants. Tests count nowhere.
--image   How far a reader walks to follow one image. `glad serve` runs API, worker and Redis; a profiler's hook sees
          each Python call of every thread of API and worker, from the POST to the answered GET of the result, after
          two images that warm everything up. A *move* is a call of a function of ours from another file of ours: the
          file of the nearest enclosing frame of ours. Neither a module's body counts as a call nor a coroutine or
          generator that goes on. A file is entered if it stands on either side of a move, or if a thread begins in it;
          a Lua file if a script that holds its text is called. Of three images the median of the moves is told, and
          the files, moves that differ (pairs of functions) and pairs of files that all three have in common.
          Threads that only do what they also did while nobody posted, for 20 seconds, are left out: leases, health
          probes. Other threads count in full: the worker's loop turns for the image and waits for it, and no clean
          line divides the two. So the moves differ by a few percent from image to image; those that differ from each
          other hardly do. Supervisor and Redis do not count.
--bundle  How many files `glad train` of a tiny recipe and `glad bundle publish --activate` enter, counted alike.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import mmap
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tokenize
import tomllib
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")

IMAGES, IDLE = (1, 2, 3), 9
"""Numbers of the windows."""
IDLE_S, READY_S, PAUSE_S = 20.0, 180.0, 2.0
RESUMABLE = 0x20 | 0x80 | 0x200
"""Flags of code objects: generators, coroutines, asynchronous generators."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LUA_CALL = "redis/commands/core.py"
SITE = "import sys\nsys.path.append({0!r})\nimport walk\nsys.path.remove({0!r})\nwalk.install()\n"
TINY_RECIPE = """
name = "tiny"
threads = 1
settings = { resolution = 32, start = 500, steps = 4, t_min = 250, trigger = { delta = 9.0 }, score = { \
    layers = [1, 2], top = { value = 0.01, unit = "area" }, imagenet_normalise = false } }
synthesis = { pairs = 12, shift_px = 1 }
vae = { widths = [8, 8, 8, 8], latent_channels = 4, steps = 3, batch = 2, crop = 16, learning_rate = 1e-3 }
unet = { widths = [16, 16], steps = 4, batch = 2, learning_rate = 1e-3 }
calibration = { delta_images = 4 }
features = { width = 16, depth = 2, heads = 2, mlp = 16, steps = 3, batch = 2, learning_rate = 1e-3, \
    reconstructions = 4 }
""".replace("\\\n", "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, or everything, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parent.parent, help="the checkout")
    parser.add_argument("--json", type=Path, help="write everything to this file as well")
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {"static": static, "image": one_image, "bundle": one_bundle}
    for name in parts:
        parser.add_argument(f"--{name}", action="store_true", help="only this, and other parts that are named")
    given = parser.parse_args(arguments)
    wanted = [name for name in parts if getattr(given, name)] or list(parts)
    found = {name: parts[name](given.tree.resolve()) for name in wanted}
    print("\n".join(line for name in wanted for line in [f"== {name}", *shown(found[name]), ""]))
    if given.json is not None:
        given.json.write_text(json.dumps({"tree": str(given.tree), **found}, indent=1) + "\n")


def shown(value: object, indent: str = "") -> Iterator[str]:
    """Yield the lines of a result: `name  value`, what is nested below its name, further in."""
    rows = value.items() if isinstance(value, dict) else [("", one) for one in value] if isinstance(value, list) else []
    for name, one in rows:
        if isinstance(one, dict) and all(isinstance(leaf, int | float) for leaf in one.values()):
            yield f"{indent}{name:<22}" + "  ".join(f"{leaf} {key}" for key, leaf in one.items())
        elif isinstance(one, dict | list) and name:
            yield f"{indent}{name} ({len(one)})"
            yield from shown(one, indent + "  ")
        else:
            yield f"{indent}{name:<22}{one}" if name else f"{indent}{' '.join(one) if isinstance(one, list) else one}"


# The hook, in the project's processes.


def install() -> None:
    """Hook this process and all its later threads, before any code of the project runs."""
    folder, roots = Path(os.environ["WALK_FOLDER"]), tuple(os.environ["WALK_ROOTS"].split(os.pathsep))
    with (folder / "window").open("rb") as file:
        window = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
    log = os.open(folder / f"{os.getpid()}.calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    hook = make_hook(roots, window, lambda call: os.write(log, f"{json.dumps(call)}\n".encode()))
    threading.setprofile(hook)
    sys.setprofile(hook)


class Call(NamedTuple):
    """A call into a file from another one."""

    window: int
    at: float
    thread: str
    caller: str | None
    """FILE:FUNCTION of ours; None where a thread begins."""
    callee: str
    """FILE:FUNCTION of ours, or the text of a Lua script."""
    is_lua: bool = False

    @property
    def is_move(self) -> bool:
        """Whether it goes from one file of Python to another."""
        return self.caller is not None and not self.is_lua


def make_hook(
    roots: tuple[str, ...], window: mmap.mmap | Sequence[int], write: Callable[[Call], object]
) -> Callable[[FrameType, str, Any], None]:
    """Return a hook for sys.setprofile: it writes the calls between files under the roots while the window is open."""
    known: dict[str, bool] = {}

    def is_ours(file: str) -> bool:
        if file not in known:
            known[file] = file.startswith(roots)
        return known[file]

    def hook(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not window[0]:
            return
        code = frame.f_code
        is_lua = code.co_name == "__call__" and code.co_filename.endswith(LUA_CALL)
        if not (is_lua or is_ours(code.co_filename)) or code.co_name == "<module>" or goes_on(frame, code):
            return
        outer = frame.f_back
        while outer is not None and not is_ours(outer.f_code.co_filename):
            outer = outer.f_back
        if outer is None or outer.f_code.co_filename != code.co_filename:
            caller = outer and f"{outer.f_code.co_filename}:{outer.f_code.co_qualname}"
            callee = frame.f_locals["self"].script if is_lua else f"{code.co_filename}:{code.co_qualname}"
            write(Call(window[0], time.monotonic(), threading.current_thread().name, caller, callee, is_lua))

    return hook


def goes_on(frame: FrameType, code: CodeType) -> bool:
    """Return whether this is no call but a generator or coroutine that is resumed: its RESUME instruction says so."""
    return bool(code.co_flags & RESUMABLE and frame.f_lasti >= 0 and code.co_code[frame.f_lasti + 1] & 3)


# Dynamic: the project is run.


class Lab:
    """A folder for one measurement: the hook, the tree's commands, the window, and what the processes write."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.tree, self.folder, site = tree, folder, folder / "site"
        project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
        name, version, groups = project["name"], project["version"], project["entry-points"].items()
        # Of two distributions of one name the first on the path counts: the tree's commands, not the installed ones.
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [line for group, at in groups for line in (f"[{group}]", *(f"{key} = {at[key]}" for key in at))]
        (info / "entry_points.txt").write_text("\n".join(lines))
        (site / "sitecustomize.py").write_text(SITE.format(str(Path(__file__).resolve().parent)))
        self.open_window(0)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GLAD_", "OTEL_"))}
        self.environment = kept | {
            "PYTHONPATH": os.pathsep.join(map(str, (site, tree))),
            "WALK_FOLDER": str(folder),
            "WALK_ROOTS": os.pathsep.join(f"{tree / package}{os.sep}" for package in packages(tree)),
        }

    def open_window(self, number: int) -> None:
        """Let the processes write what they call, under this number, from now on; 0: nothing."""
        with (self.folder / "window").open("r+b" if (self.folder / "window").exists() else "wb") as file:
            file.write(bytes([number]))

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start `glad ARGUMENTS` of the tree; what it says goes to the folder's log."""
        command = [sys.executable, "-m", "glad", *map(str, arguments)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def finish(self, *arguments: str | Path) -> None:
        """Run `glad ARGUMENTS` to its end. SystemExit with what it said if it fails."""
        if self.start(*arguments).wait():
            raise SystemExit((self.folder / "log").read_text())

    def calls(self, but: int | None = None) -> dict[str, list[Call]]:
        """Return the calls of all processes but this one, by process, with paths from the tree."""
        files = [file for file in self.folder.glob("*.calls") if file.stem != str(but)]
        texts = {file.stem: file.read_text().replace(f'"{self.tree}{os.sep}', '"').splitlines() for file in files}
        return {process: [Call(*json.loads(line)) for line in lines] for process, lines in texts.items()}


@contextmanager
def lab_for(tree: Path) -> Iterator[Lab]:
    """Give a laboratory in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        yield Lab(tree, Path(folder))


def one_image(tree: Path) -> dict[str, Any]:
    """Follow one image through the service."""
    with lab_for(tree) as lab:
        lab.finish("sample", lab.folder / "parts", "--train", "1")
        image = next((lab.folder / "parts").rglob("*.png")).read_bytes()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        service = lab.start("serve", "--port", str(port), "--data-dir", lab.folder / "data")
        try:
            watch(lab, service, f"http://127.0.0.1:{port}", image)
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(60)
        threads = by_thread(lab.calls(but=service.pid))
    files = [file for package in packages(tree) for file in (tree / package).rglob("*.lua")]
    scripts = {str(file.relative_to(tree)): file.read_text().strip() for file in files}
    return followed([of_the_image(threads, number) for number in IMAGES], scripts)


def watch(lab: Lab, service: subprocess.Popen[bytes], url: str, image: bytes) -> None:
    """Have images inspected, each in a window of its own, then watch the service idle. SystemExit if it fails."""
    deadline = time.monotonic() + READY_S
    for number in (0, 0, *IMAGES):
        time.sleep(PAUSE_S)
        lab.open_window(number)
        while not inspected(url, image):
            if number or service.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service gives no result:\n{(lab.folder / 'log').read_text()}")
            time.sleep(PAUSE_S)
        lab.open_window(0)
    time.sleep(PAUSE_S)
    lab.open_window(IDLE)
    time.sleep(IDLE_S)
    lab.open_window(0)


def inspected(url: str, image: bytes) -> bool:
    """Post one image, wait for its result, and get it; False if the service is not ready for that."""
    headers = {"Content-Type": "image/png", "Prefer": "wait=30"}
    try:
        post = urllib.request.Request(f"{url}/v1/products/bracket/inspections", image, headers)
        with urllib.request.urlopen(post, timeout=60) as answer:
            place = answer.headers["Location"]
        with urllib.request.urlopen(url + place, timeout=60) as answer:
            return bool(json.load(answer)["state"] == "done")
    except OSError:  # refused connections, and answers such as 503
        return False


def by_thread(calls: Mapping[str, Iterable[Call]]) -> list[list[Call]]:
    """Return each thread's calls; threads of one process whose names differ in numbers alone count as one."""
    threads = defaultdict(list)
    for process, made in calls.items():
        for call in made:
            threads[process, re.sub(r"\d+", "", call.thread)].append(call)
    return list(threads.values())


def of_the_image(threads: Iterable[Sequence[Call]], window: int) -> list[Call]:
    """Return a window's calls in order of time, without the threads that only do what they do while idle."""
    kept: list[Call] = []
    for calls in threads:
        made = [call for call in calls if call.window == window]
        idle = {call[3:] for call in calls if call.window == IDLE}
        kept += made if any(call[3:] not in idle for call in made) else []
    return sorted(kept, key=lambda call: call.at)


def followed(windows: Sequence[Sequence[Call]], scripts: Mapping[str, str]) -> dict[str, Any]:
    """Return what the windows have in common. `scripts`: the text of each Lua file."""
    moves = [[call for call in calls if call.is_move] for calls in windows]
    files = common([entries(calls) for calls in windows])
    called = common([[call.callee for call in calls if call.is_lua] for calls in windows])
    return {
        "files entered": len(files),
        "moves": statistics.median_low(map(len, moves)),
        "moves of each image": {f"of image {at}": len(made) for at, made in enumerate(moves, 1)},
        "moves that differ": len(common([[call[3:] for call in made] for made in moves])),
        "pairs of files": len(common([[tuple(entries([call])) for call in made] for made in moves])),
        "Lua files called": sorted(name for name, text in scripts.items() if any(text in script for script in called)),
        "files, in order of first entry": files,
    }


def common(lists: Sequence[Sequence[Item]]) -> list[Item]:
    """Return what all the lists hold, once each, in the order of the first."""
    return [one for one in dict.fromkeys(lists[0]) if all(one in others for others in lists)]


def entries(calls: Iterable[Call]) -> list[str]:
    """Return the files that the calls leave and enter, in order of first entry."""
    names = (name for call in calls for name in (call.caller, None if call.is_lua else call.callee) if name)
    return list(dict.fromkeys(name.split(":")[0] for name in names))


def one_bundle(tree: Path) -> dict[str, Any]:
    """Make a bundle of a tiny recipe and publish it."""
    with lab_for(tree) as lab:
        recipe, parts, bundles = lab.folder / "tiny.toml", lab.folder / "parts", lab.folder / "bundles"
        recipe.write_text(TINY_RECIPE)
        lab.finish("sample", parts, "--train", "10", "--calibration", "5")
        lab.open_window(1)
        named = ("--product", "walked", "--version", "1")
        lab.finish("train", recipe, "--data", parts, "--run", lab.folder / "run", "--out", bundles, *named)
        lab.finish("bundle", "publish", bundles / "walked" / "1", "--activate", "--store", lab.folder / "store")
        lab.open_window(0)
        calls = sorted((call for made in lab.calls().values() for call in made), key=lambda call: call.at)
    files = entries(calls)
    return {
        "files entered": len(files),
        "moves": sum(call.is_move for call in calls),
        "files, in order of first entry": files,
    }


def packages(tree: Path) -> list[str]:
    """Return the packages that the tree's wheel holds."""
    tool = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]
    return list(tool["hatch"]["build"]["targets"]["wheel"]["packages"])


# Static: the source is read.


class Module(NamedTuple):
    """One file of Python."""

    file: str
    name: str
    source: str
    tree: ast.Module


Import = tuple[str, str, bool]
"""Who imports what, and whether it stands under `if TYPE_CHECKING`."""


def static(tree: Path) -> dict[str, Any]:
    """Read the source of a checkout."""
    names = packages(tree)
    modules = [module for folder in (*names, "demo", "scripts") for module in read(tree, folder)]
    imports = imports_of(modules)
    lines = {module.file: module.source.count("\n") for module in modules if not module.file.endswith("__init__.py")}
    return {
        "packages": {name: rooms(name, modules, imports) for name in names},
        "circles of modules": circles((who, what) for who, what, is_for_types in imports if not is_for_types),
        "code": sizes(modules),
        "class names in more than one file": repeated_classes(modules),
        "modules under 60 lines": sorted(file for file, count in lines.items() if count < 60),
        "modules over 400 lines": sorted(file for file, count in lines.items() if count > 400),
        "docstrings": openings(modules),
    }


def read(tree: Path, folder: str) -> list[Module]:
    """Return the modules below a folder of the tree."""
    found = []
    for path in sorted((tree / folder).rglob("*.py")):
        file, source = path.relative_to(tree), path.read_text(encoding="utf-8")
        parts = file.parent.parts if path.name == "__init__.py" else file.with_suffix("").parts
        found.append(Module(str(file), ".".join(parts), source, ast.parse(source)))
    return found


def imports_of(modules: Sequence[Module]) -> set[Import]:
    """Return what the modules import of each other, in functions too."""
    known = {module.name for module in modules}
    found = set()
    for module in modules:
        for target, is_for_types in imported(module.tree, module):
            name = target if target in known else target.rpartition(".")[0]
            if name in known and name != module.name:
                found.add((module.name, name, is_for_types))
    return found


def imported(node: ast.AST, module: Module, is_for_types: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the dotted name of everything that is imported below a node, and whether for type checkers alone."""
    match node:
        case ast.Import(names=names):
            yield from ((alias.name, is_for_types) for alias in names)
        case ast.ImportFrom(module=target, names=names, level=level):
            near = [*Path(module.file).parts[: -level or None]] if level else []
            base = ".".join([*near, *([target] if target else [])])
            yield from ((f"{base}.{alias.name}", is_for_types) for alias in names)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), body=body, orelse=orelse):
            for statement in (*body, *orelse):
                yield from imported(statement, module, is_for_types or statement in body)
        case _:
            for inner in ast.iter_child_nodes(node):
                yield from imported(inner, module, is_for_types)


def rooms(package: str, modules: Iterable[Module], imports: Iterable[Import]) -> dict[str, Any]:
    """Count a package's boxes, the arrows between them, and the circles that these make."""
    boxes = {module.name.split(".")[1] for module in modules if module.name.startswith(f"{package}.")}
    arrows: dict[bool, set[tuple[str, str]]] = {False: set(), True: set()}
    for importer, wanted, is_for_types in imports:
        ends = [name.split(".")[1] for name in (importer, wanted) if name.startswith(f"{package}.")]
        if len(set(ends)) == 2:
            arrows[is_for_types].add((ends[0], ends[1]))
    return {
        "drawn": {"boxes": len(boxes), "arrows": len(arrows[False]), "for types": len(arrows[True] - arrows[False])},
        "circles": circles(arrows[False]),
    }


def circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of more than one whose members all reach each other."""
    after = defaultdict(set)
    for start, end in arrows:
        after[start].add(end)
    reached = {start: reach(start, after) for start in list(after)}
    groups = {frozenset(one for one in ends if start in reached.get(one, ())) for start, ends in reached.items()}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def reach(start: str, after: Mapping[str, Iterable[str]]) -> set[str]:
    """Return everything that can be reached from a start in one step or more."""
    found, waiting = set[str](), [start]
    while waiting:
        fresh = set(after.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    return found


def sizes(modules: Iterable[Module]) -> dict[str, dict[str, float]]:
    """Count files, lines of code and comments, by top folder and of all."""
    found: dict[str, dict[str, float]] = {}
    for module in modules:
        code, comments = measure(module)
        for name in (module.file.split(os.sep)[0], "total"):
            row = found.setdefault(name, {"files": 0, "lines of code": 0, "comments": 0})
            row["files"] += 1
            row["lines of code"] += code
            row["comments"] += comments
    for row in found.values():
        row["comments per 100 lines"] = round(100 * row["comments"] / max(1, row["lines of code"]), 2)
    return {name: found[name] for name in [*(name for name in found if name != "total"), "total"]}


def measure(module: Module) -> tuple[int, int]:
    """Count the lines of code, without blanks, comments and docstrings, and the comments."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines, comments = set[int](), 0
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        comments += token.type == tokenize.COMMENT
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(module.tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines), comments


def openings(modules: Iterable[Module]) -> dict[str, int]:
    """Count the docstrings, of fields and constants too, and those that open in a way that says little."""
    nodes = (node for module in modules for node in ast.walk(module.tree) if isinstance(node, ast.Expr))
    values = (node.value.value for node in nodes if isinstance(node.value, ast.Constant))
    texts = [value.lstrip() for value in values if isinstance(value, str)]
    begun = {f"open with {word!r}": sum(text.startswith(f"{word} ") for text in texts) for word in ("What", "One")}
    return {"of all": len(texts), **begun}


def repeated_classes(modules: Iterable[Module]) -> dict[str, str]:
    """Return the public class names that stand in more than one file, with the files."""
    files = defaultdict(set)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].add(module.file)
    return {name: ", ".join(sorted(where)) for name, where in sorted(files.items()) if len(where) > 1}


if __name__ == "__main__":
    main()

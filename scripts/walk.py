"""Measures how readable a checkout is: `python scripts/walk.py --tree DIR [--static] [--image] [--bundle]`.

It knows nothing of the layout inside: it reads the source as text and drives the project by the `glad` command and by
HTTP alone, so that trees of before and after can be compared. Run it with the Python of the project's environment; the
tree's code, and the commands of its pyproject.toml, go before what is installed there.

--static  What can be counted without running it: see scripts/source_figures.py.
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
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that this file can be run by its path

from bench.endurance.checkout import write_entry_points
from scripts.call_hook import Call
from scripts.source_figures import packages, static

Item = TypeVar("Item")

IMAGES, IDLE = (1, 2, 3), 9
"""Numbers of the windows."""
IDLE_S, READY_S, PAUSE_S = 20.0, 180.0, 2.0
SITE = "import sys\nsys.path.append({0!r})\nimport call_hook\nsys.path.remove({0!r})\ncall_hook.install()\n"
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


class Lab:
    """A folder for one measurement: the hook, the tree's commands, the window, and what the processes write."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.tree, self.folder, site = tree, folder, folder / "site"
        write_entry_points(tree, site)
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


if __name__ == "__main__":
    main()

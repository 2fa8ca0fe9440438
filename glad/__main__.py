"""The `glad` command: it finds subcommands in the entry-point group `glad.commands` and loads only the one called.

`glad --help` imports no command: each one's line of help is read from its source. So the list is complete and quick,
whatever extras are installed.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import io
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

DISTRIBUTION = "glad-inspect"
GROUP = "glad.commands"
GROUPS = {
    "Inspect": ("inspect", "camera"),
    "Train": ("train", "report", "finetune", "calibrate", "gate", "preview", "data", "sample"),
    "Store": ("bundle", "export"),
    "Serve": ("serve", "worker", "outbox", "station", "reviews", "thresholds", "queue", "key", "backup", "restore"),
    "Measure": ("evaluate", "sensitivity", "ablate", "reproduce", "bench"),
}
"""Heading of the help -> its commands, the most used one first."""
OTHERS = "Other"
"""Heading of the commands that other distributions bring."""
DISTRIBUTIONS = {"minisign": "py-minisign", "opentelemetry": "opentelemetry-sdk", "sklearn": "scikit-learn"}
"""Module -> the distribution that brings it, where their names differ."""
EXTRAS = dict.fromkeys(
    (
        "ablate",
        "bench",
        "calibrate",
        "data",
        "evaluate",
        "export",
        "finetune",
        "gate",
        "preview",
        "report",
        "reproduce",
        "sensitivity",
        "train",
    ),
    "train",
)
"""Command -> the extra that brings all that it needs. What is not here needs the base, and an option another extra."""
SET_UP = {"cpu", "formats", "otel", "sample", "signing", "train", "worker"}
"""Extras that `make setup` installs in a clone, by scripts/prepare.py."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `glad ARGUMENTS` and return its exit status; SystemExit from the subcommand passes through."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _print_every_name()
    commands = {point.name: point for point in metadata.entry_points(group=GROUP)}
    match words:
        case [] | ["-h" | "--help" | "help", *_]:
            print(usage(commands))
            return 0
        case ["-V" | "--version", *_]:
            print(f"glad {metadata.version(DISTRIBUTION)}")
            return 0
        case [name, *rest] if name in commands:
            return run(commands[name], rest)
        case [name, *_]:
            near = difflib.get_close_matches(name, commands, n=1)
            hint = f"did you mean `glad {near[0]}`?" if near else "`glad --help` lists the commands"
            print(f"glad: there is no command {name!r}: {hint}", file=sys.stderr)
            return 2
    raise AssertionError("every list of words matches a case")


def _print_every_name() -> None:
    """Let the output escape what its encoding lacks: a file's name may hold anything, and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def usage(commands: dict[str, metadata.EntryPoint]) -> str:
    """Return the text of `glad --help`: every command with one line of help."""
    width = max((len(name) for name in commands), default=0)
    lines: list[str] = []
    for heading, names in grouped(commands).items():
        lines += ["", f"{heading}:", *(f"  {name:<{width}}  {summary(commands[name])}".rstrip() for name in names)]
    return "\n".join(
        [
            "Usage: glad COMMAND [OPTIONS] ...",
            "",
            "Finds defects on factory products with GLAD, and makes the models that it needs.",
            *lines,
            "",
            "`glad COMMAND --help` says more, with an example; `glad --version` prints the version.",
        ]
    )


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the commands under the headings of the help, those that none lists at the end."""
    known = set(names)
    groups = {heading: [name for name in listed if name in known] for heading, listed in GROUPS.items()}
    groups[OTHERS] = sorted(known.difference(*GROUPS.values()))
    return {heading: listed for heading, listed in groups.items() if listed}


def summary(point: metadata.EntryPoint) -> str:
    """Return a command's line of help: its function's first docstring line, or its typer app's `help`.

    It is "" where there is no such source. Imports nothing but the package that holds the module.
    """
    try:
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            return ""
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError):
        return ""
    texts = (help_text(node, point.attr) for node in tree.body)
    return next((text.partition("\n")[0] for text in texts if text), "")


def help_text(node: ast.stmt, name: str) -> str | None:
    """Return a command's help from a statement: a function's docstring, or the `help` of `name = Typer(...)`."""
    match node:
        case ast.FunctionDef(name=defined) if defined == name:
            return ast.get_docstring(node)
        case ast.Assign(targets=[ast.Name(id=assigned)], value=ast.Call(keywords=keywords)) if assigned == name:
            for keyword in keywords:
                match keyword:
                    case ast.keyword(arg="help", value=ast.Constant(value=str(text))):
                        return text
    return None


def run(point: metadata.EntryPoint, arguments: Sequence[str]) -> int:
    """Load one subcommand and run it. A missing package that an extra brings is named with the command for it."""
    try:
        return call(point.load(), f"glad {point.name}", arguments)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        extra = extra_for(point.name, missing)
        if extra is None:
            raise
        print(
            f"glad {point.name}: needs the [{extra}] extra ({package_of(missing)} is not installed): "
            f"{how_to_install(extra)}",
            file=sys.stderr,
        )
        return 1


def call(command: Any, name: str, arguments: Sequence[str]) -> int:
    """Run a typer app, or a typer-annotated function, under the name that the user typed."""
    outcome = as_app(command)(args=list(arguments), prog_name=name, standalone_mode=True)
    return outcome if isinstance(outcome, int) else 0


def as_app(command: Any) -> typer.Typer:
    """Return a typer app as it is, and an app whose only command is a typer-annotated function."""
    import typer

    if isinstance(command, typer.Typer):
        return command
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    function: Callable[..., Any] = command
    app.command()(function)
    return app


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra here: in a clone, or from the package index."""
    clone = Path(__file__).resolve().parent.parent
    if not (clone / "Makefile").is_file():
        return f"pip install '{DISTRIBUTION}[{extra}]'"
    if SET_UP.issuperset(extra.split(",")):
        return "make setup"
    return f"{sys.executable} -m pip install -c constraints/cpu.txt -e '.[{extra}]'"


def extra_for(command: str, module: str) -> str | None:
    """Return the extras to install where a command misses this module: its own, else the smallest that has the module.

    It is None if no extra of this distribution brings the module.
    """
    package, brought = package_of(module), packages_of_extras()
    extras = [EXTRAS.get(command, ""), *sorted(brought, key=lambda extra: len(brought[extra]))]
    found = next((extra for extra in extras if package in brought.get(extra, ())), None)
    if found == "train" and importlib.util.find_spec("onnxruntime") is None:
        return "cpu,train"  # exports are compared on ONNX Runtime, which a GPU wants in another build
    return found


def package_of(module: str) -> str:
    """Return the name of the distribution that brings a module."""
    root = module.partition(".")[0]
    return normal_name(DISTRIBUTIONS.get(root, root))


def packages_of_extras() -> dict[str, set[str]]:
    """Return what each extra of this distribution requires, the extras that it includes among it."""
    required: dict[str, set[str]] = {}
    included: dict[str, set[str]] = {}
    for line in metadata.requires(DISTRIBUTION) or []:
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[([a-z0-9,]+)\])?", line)
        extra = re.search(r"""extra\s*==\s*["']([a-z0-9]+)["']""", line)
        if found and extra:
            own = normal_name(found[1]) == DISTRIBUTION
            known = included if own else required
            known.setdefault(extra[1], set()).update(found[2].split(",") if own else {normal_name(found[1])})

    def all_of(extra: str) -> set[str]:
        return required.get(extra, set()).union(*(all_of(other) for other in included.get(extra, ())))

    return {extra: all_of(extra) for extra in {*required, *included}}


def normal_name(name: str) -> str:
    """Return a distribution's name as it is compared: `Scikit_Learn` is `scikit-learn`."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    # python -m has put the working folder before all others, and packages of the user's own there are not ours.
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
        del sys.path[0]
    sys.exit(main())
